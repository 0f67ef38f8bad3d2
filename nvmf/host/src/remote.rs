//! A remote namespace as a bdev.

#[cfg(test)]
mod tests;

use crate::channel::{Patience, RemoteChannel};
use crate::connector::{self, LinkState, Shared};
use crate::queue::nanos;
use crate::{ControllerInfo, Error, NamespaceInfo, Options};
use bdev::{Bdev, Channel, Geometry, OpenCx, OpenError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A namespace of another machine. Each reactor that opens it has an I/O queue of its own.
///
/// It is disconnected when it is dropped, or by [`RemoteBdev::disconnect`].
pub struct RemoteBdev {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    patience: Patience,
    controller: ControllerInfo,
    namespace: NamespaceInfo,
}

impl RemoteBdev {
    /// Connects to namespace `nsid`, and keeps connected from then on.
    ///
    /// # Errors
    /// Why it cannot be connected now.
    pub fn connect(options: Options, nsid: u32) -> Result<RemoteBdev, Error> {
        let patience = Patience {
            io_timeout_ns: nanos(options.io_timeout),
            loss_timeout_ns: nanos(options.loss_timeout),
            retries: options.retries,
        };
        let started = connector::start(options, nsid)?;
        Ok(RemoteBdev {
            shared: started.shared,
            thread: Mutex::new(Some(started.thread)),
            patience,
            controller: started.controller,
            namespace: started.namespace,
        })
    }

    /// The controller, as it was when the bdev was made.
    pub fn controller(&self) -> &ControllerInfo {
        &self.controller
    }

    /// The namespace, as it was when the bdev was made; [`Bdev::geometry`] tells its size now.
    pub fn namespace(&self) -> &NamespaceInfo {
        &self.namespace
    }

    /// Whether there is a connection, and why not.
    pub fn link(&self) -> LinkState {
        self.shared.link()
    }

    /// Shuts the controller down and closes the connections, and waits until that is done.
    /// Channels still open get no connection any more.
    pub fn disconnect(&self) {
        self.shared.stop();
        let thread = self.thread.lock().expect("nothing panics with it locked").take();
        if let Some(thread) = thread {
            // A panic of the thread has been reported by it; there is nothing left to close.
            let _ = thread.join();
        }
    }
}

impl Drop for RemoteBdev {
    fn drop(&mut self) {
        // The thread ends by itself: whoever drops this may be a reactor, which never waits.
        self.shared.stop();
    }
}

impl Bdev for RemoteBdev {
    fn geometry(&self) -> Geometry {
        self.shared.geometry()
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        let port = self.shared.port(cx.memory)?;
        Ok(Box::new(RemoteChannel::new(port, self.patience, cx.limit, cx.now_ns)))
    }
}
