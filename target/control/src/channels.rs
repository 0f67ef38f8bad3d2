//! Namespaces on every reactor: channels opened before hosts see them, closed after the last
//! command.

use nvmf::namespace::Namespace;
use nvmf::registry::Registry;
use reactor::{Handle, hop};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long commands of a removed namespace may take to end.
const DRAIN: Duration = Duration::from_secs(30);

/// Opens the channels of `namespace` on every reactor.
///
/// # Errors
/// What the bdev said on the first reactor that could not open it; the others are closed again.
pub(crate) fn open(namespace: &Arc<Namespace>, reactors: &[Handle]) -> Result<(), String> {
    for (done, handle) in reactors.iter().enumerate() {
        let (of, all) = (namespace.clone(), reactors.to_vec());
        let opened = handle.call(move |reactor| {
            let bdev = hop::local(of.bdev(), reactor.handle(), &all);
            let addr = reactor.stack.open(&bdev, reactor.now_ns())?;
            of.set_channel(reactor.handle().number(), Some(addr));
            Ok::<(), bdev::OpenError>(())
        });
        let failed = match opened {
            Some(Ok(())) => continue,
            Some(Err(error)) => error.0,
            None => "the reactor has ended".to_owned(),
        };
        close(namespace, &reactors[..done]);
        return Err(failed);
    }
    Ok(())
}

/// Closes the channels of a namespace that no command can reach any more, once each has nothing
/// outstanding. Returns whether all could be closed in time.
pub(crate) fn close(namespace: &Arc<Namespace>, reactors: &[Handle]) -> bool {
    let until = Instant::now() + DRAIN;
    let closed = reactors.iter().all(|handle| close_on(namespace, handle, until));
    // The other end of a hop is closed by a task: it has run when this one has.
    for handle in reactors {
        let _ = handle.call(|_| ());
    }
    closed
}

fn close_on(namespace: &Arc<Namespace>, handle: &Handle, until: Instant) -> bool {
    loop {
        let of = namespace.clone();
        let closed = handle.call(move |reactor| {
            let number = reactor.handle().number();
            if of.is_held(number) {
                return false;
            }
            if let Some(addr) = of.take_channel(number) {
                reactor.stack.close(addr);
            }
            true
        });
        match closed {
            Some(true) | None => return true,
            Some(false) if Instant::now() >= until => {
                tracing::error!(
                    nsid = namespace.nsid(),
                    reactor = handle.number(),
                    "commands of a removed namespace do not end; its channel stays open"
                );
                return false;
            }
            Some(false) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The namespaces of every subsystem.
pub(crate) fn all(registry: &Registry) -> Vec<Arc<Namespace>> {
    registry.subsystems().iter().flat_map(|subsystem| subsystem.namespaces()).collect()
}
