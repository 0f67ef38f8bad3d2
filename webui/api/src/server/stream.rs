//! Events as they happen.

use super::places::{Place, Places};
use super::respond;
use crate::app::{App, Credential};
use crate::limits;
use crate::security::Identity;
use axum::body::{Body, Bytes};
use axum::http::Response;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use tokio::sync::watch;
use webui_model::{EventPage, Name, Refusal, Role};

struct Stream {
    app: Arc<App>,
    shown: Credential,
    /// The number of the last event that was sent.
    after: u64,
    latest: watch::Receiver<u64>,
    stopped: watch::Receiver<bool>,
    _place: Place<Name>,
}

/// Places for streams: each role has some for itself.
pub(super) fn places() -> Arc<Places<Name>> {
    let kept = limits::STREAMS_OF_ROLE;
    let shared = limits::STREAMS - Role::ALL.len() * kept;
    Places::new(shared, kept, limits::STREAMS_OF_ONE)
}

/// A place for a stream of whoever this is, if there is one.
pub(super) fn place(places: &Arc<Places<Name>>, who: &Identity) -> Option<Place<Name>> {
    places.enter(Some(who.role as usize), who.name.clone())
}

/// The answer that goes on: events after `after`, or from now on.
pub(super) fn events(
    app: Arc<App>,
    shown: Credential,
    after: Option<u64>,
    place: Option<Place<Name>>,
    stopped: watch::Receiver<bool>,
) -> Result<Response<Body>, Refusal> {
    let place = place.ok_or_else(|| {
        Refusal::unavailable("Too many streams of events are open with this token: close some.")
    })?;
    let log = app.control.event_log();
    let latest = app.latest.clone();
    let after = after.unwrap_or_else(|| log.last_id());
    let state = Stream { app, shown, after, latest, stopped, _place: place };
    // A comment comes first: the client knows at once that the stream is open.
    let hello = Bytes::from_static(b": events follow\n\n");
    let state = (Some(hello), state);
    let stream = futures_util::stream::unfold(state, |(hello, mut state)| async move {
        let part = match hello {
            Some(hello) => hello,
            None => state.next().await?,
        };
        Some((Ok::<_, Infallible>(part), (None, state)))
    });
    Ok(respond::stream(Body::from_stream(stream)))
}

impl Stream {
    /// What is sent next; nothing when the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // Seen before reading: what is published in between wakes the wait below.
            self.latest.mark_unchanged();
            if *self.stopped.borrow() || !self.app.still(&self.shown) {
                return None;
            }
            let page = self.app.control.event_log().after(self.after, limits::STREAM_BATCH);
            if page.lost || !page.items.is_empty() {
                self.after = page.last_id;
                return Some(Bytes::from(render(&page)));
            }
            tokio::select! {
                changed = self.latest.changed() => changed.ok()?,
                _ = self.stopped.wait_for(|stop| *stop) => return None,
                () = tokio::time::sleep(limits::HEARTBEAT) => {
                    return Some(Bytes::from_static(b": still here\n\n"));
                }
            }
        }
    }
}

/// Events in the format of the HTML Standard, Server-sent events. JSON has no line breaks.
fn render(page: &EventPage) -> String {
    let mut text = String::new();
    if page.lost {
        text.push_str("event: lost\ndata: {}\n\n");
    }
    for event in &page.items {
        let data = serde_json::to_string(event).expect("an event is JSON");
        // Writing to a String does not fail.
        let _ = write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind.as_str());
    }
    text
}
