//! Namespaces on every reactor: channels opened before hosts see them, closed after the last
//! command.

use nvmf::namespace::Namespace;
use nvmf::registry::Registry;
use reactor::{Handle, hop};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Opens the channels of `namespace` on every reactor. Where one cannot be opened, those that are
/// stay open.
///
/// # Errors
/// What the bdev said on the first reactor that could not open it.
pub(crate) fn open(namespace: &Arc<Namespace>, reactors: &[Handle]) -> Result<(), String> {
    for handle in reactors {
        let (of, all) = (namespace.clone(), reactors.to_vec());
        let opened = handle.call(move |reactor| {
            let bdev = hop::local(of.bdev(), reactor.handle(), &all);
            let addr = reactor.stack.open(&bdev, reactor.now_ns())?;
            of.set_channel(reactor.handle().number(), Some(addr));
            Ok::<(), bdev::OpenError>(())
        });
        match opened {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(error.0),
            None => return Err("the reactor has ended".to_owned()),
        }
    }
    Ok(())
}

/// Closes the channels of a namespace on the way down, once each has nothing outstanding: waits for
/// that until `until`.
pub(crate) fn close(namespace: &Arc<Namespace>, reactors: &[Handle], until: Instant) {
    for handle in reactors {
        close_on(namespace, handle, until);
    }
    // The other end of a hop is closed by a task: it has run when this one has.
    for handle in reactors {
        let _ = handle.call(|_| ());
    }
}

fn close_on(namespace: &Arc<Namespace>, handle: &Handle, until: Instant) {
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
            Some(true) | None => return,
            Some(false) if Instant::now() >= until => {
                tracing::error!(
                    nsid = namespace.nsid(),
                    reactor = handle.number(),
                    "commands of a namespace do not end; its channel stays open"
                );
                return;
            }
            Some(false) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The namespaces of every subsystem.
pub(crate) fn all(registry: &Registry) -> Vec<Arc<Namespace>> {
    registry.subsystems().iter().flat_map(|subsystem| subsystem.namespaces()).collect()
}
