//! A panic while a request is handled ends that request and nothing else: it is answered with 500,
//! and an event and an alert tell of it. Everywhere else in the process a panic ends the process, which
//! its panic hook sees to: it asks [`handles_request`].
//!
//! Locks of the API and of the control plane that were held are taken over: what was being changed may
//! be half done, which the alert says. A lock that the data path shares is not: whoever takes it next
//! panics, and ends the process if that is a reactor.

use crate::app::App;
use crate::operation::{Caller, Operation, Prepared, Reply};
use std::any::Any;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use webui_model::{Alert, EventKind, Object, ObjectKind, Refusal, RefusalKind, Severity};

thread_local! {
    static HANDLES_REQUEST: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is at a request of the API now, so that a panic is caught and ends that alone.
pub fn handles_request() -> bool {
    HANDLES_REQUEST.get()
}

/// The thread is at a request for as long as this lives.
struct AtRequest {
    before: bool,
}

impl AtRequest {
    fn begin() -> AtRequest {
        AtRequest { before: HANDLES_REQUEST.replace(true) }
    }
}

impl Drop for AtRequest {
    fn drop(&mut self) {
        HANDLES_REQUEST.set(self.before);
    }
}

/// What somebody said who panicked.
#[derive(Debug)]
pub(super) struct Fault(pub(super) String);

impl Fault {
    fn of(said: &(dyn Any + Send)) -> Fault {
        let text = said.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| said.downcast_ref::<&str>().copied());
        Fault(text.unwrap_or("nothing").to_owned())
    }
}

/// Does what belongs to a request.
pub(super) fn caught<R>(work: impl FnOnce() -> R) -> Result<R, Fault> {
    let at_request = AtRequest::begin();
    let done = catch_unwind(AssertUnwindSafe(work));
    drop(at_request);
    done.map_err(|said| Fault::of(&*said))
}

/// As [`caught`], of what waits now and then.
pub(super) async fn caught_in<F: Future>(work: F) -> Result<F::Output, Fault> {
    let mut work = pin!(work);
    let step = |cx: &mut std::task::Context<'_>| match caught(|| work.as_mut().poll(cx)) {
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(fault) => Poll::Ready(Err(fault)),
    };
    poll_fn(step).await
}

/// Carries out what was asked for.
pub(super) fn carry_out(
    app: &App,
    operation: &Operation,
    caller: &Caller,
    prepared: Prepared,
) -> Result<Reply, Refusal> {
    let done = caught(|| prepared(app, caller))
        .unwrap_or_else(|fault| Err(tell(app, operation.id, &fault)));
    done.map_err(|refusal| operation.documented(refusal))
}

/// Tells everybody of a panic while `operation` was handled. Returns what its client is told.
pub(super) fn tell(app: &App, operation: &str, fault: &Fault) -> Refusal {
    let Fault(said) = fault;
    tracing::error!(operation, said, "an operation of the API panicked");
    let object = Object::new(ObjectKind::Appliance, "API");
    let message = format!(
        "The operation {operation} of the API ended with a fault of the program: what it was doing may \
         be half done. The log says more."
    );
    let advice = "Look whether what it was asked for is as it should be. Restart the appliance when it \
                  suits you, and report the fault with the log.";
    let (at_ms, severity) = (app.world.unix_ms(), Severity::Critical);
    // What panicked may have been one of these two.
    let told = caught(|| {
        let log = app.control.event_log();
        log.publish(at_ms, EventKind::Notice, severity, object.clone(), message.clone());
        let id = "panicked:API".to_owned();
        let advice = advice.to_owned();
        let alert = Alert { id, since_ms: at_ms, severity, object, message, advice };
        app.set_alerts(|alerts| alerts.fault = Some(alert));
    });
    if let Err(Fault(said)) = told {
        tracing::error!(said, "nobody could be told of it");
    }
    Refusal::new(RefusalKind::Internal, "The appliance has a fault: its log says more.")
}
