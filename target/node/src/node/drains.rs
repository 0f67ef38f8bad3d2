//! Namespaces that were removed: a thread looks after each until its channels are closed, and waits
//! for none of them.

use crate::published::Published;
use crate::unit::draining::{Drain, Effect, Input};
use nvmf::namespace::Namespace;
use reactor::Handle;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// A namespace that waits for its last command.
#[derive(Clone, Debug)]
pub(crate) struct Draining {
    /// Its subsystem.
    pub nqn: String,
    /// Its number there.
    pub nsid: u32,
    /// What it showed.
    pub source: String,
    /// Since when.
    pub since: Instant,
    /// On how many reactors commands are under way.
    pub held: usize,
}

struct Begun {
    namespace: Arc<Namespace>,
    shown: Draining,
    /// Done when its channels are closed.
    release: Box<dyn FnOnce() + Send>,
    released: SyncSender<()>,
}

enum Message {
    Begin(Box<Begun>),
    Looked(u64, usize),
    End,
}

/// See the module.
pub(crate) struct Drains {
    messages: Sender<Message>,
    list: Arc<Published<Vec<Draining>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drains {
    /// Begins without any.
    ///
    /// # Errors
    /// A sentence: there is no thread to be had.
    pub(crate) fn start(reactors: Vec<Handle>) -> Result<Drains, String> {
        let (messages, inbox) = mpsc::channel();
        let list = Arc::new(Published::default());
        let all = BTreeMap::new();
        let mut work =
            Work { reactors, messages: messages.clone(), list: list.clone(), all, last: 0 };
        let thread = std::thread::Builder::new().name("drains".into());
        let thread = thread.spawn(move || work.run(&inbox));
        let thread = thread.map_err(|error| format!("No thread can be started: {error}."))?;
        Ok(Drains { messages, list, thread: Mutex::new(Some(thread)) })
    }

    /// Closes the channels of a namespace that no command can reach any more, once none is under way
    /// on it, and has `release` done then. What is returned hears of that.
    pub(crate) fn begin(
        &self,
        namespace: &Arc<Namespace>,
        nqn: &str,
        source: String,
        release: impl FnOnce() + Send + 'static,
    ) -> Receiver<()> {
        let (released, hears) = mpsc::sync_channel(1);
        let (nqn, nsid) = (nqn.to_owned(), namespace.nsid());
        let shown = Draining { nqn, nsid, source, since: Instant::now(), held: 0 };
        let release = Box::new(release);
        let begun = Begun { namespace: namespace.clone(), shown, release, released };
        // On the way down there is nobody: who waits hears that at once.
        let _ = self.messages.send(Message::Begin(Box::new(begun)));
        hears
    }

    /// Those that wait.
    pub(crate) fn list(&self) -> Arc<Vec<Draining>> {
        self.list.get()
    }

    /// Leaves those that wait as they are.
    pub(crate) fn end(&self) {
        let _ = self.messages.send(Message::End);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of removed namespaces ended with a panic");
        }
    }
}

struct Work {
    reactors: Vec<Handle>,
    messages: Sender<Message>,
    list: Arc<Published<Vec<Draining>>>,
    all: BTreeMap<u64, (Drain, Begun)>,
    last: u64,
}

impl Work {
    fn run(&mut self, inbox: &Receiver<Message>) {
        loop {
            let due = self.all.values().filter_map(|(drain, _)| drain.due()).min();
            let message = match due.map(|due| due.saturating_duration_since(Instant::now())) {
                Some(left) => inbox.recv_timeout(left),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Begin(begun)) => {
                    self.last += 1;
                    self.all.insert(self.last, (Drain::new(begun.shown.since), *begun));
                }
                Ok(Message::Looked(number, held)) => self.step(number, Input::Looked(held)),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            let numbers: Vec<u64> = self.all.keys().copied().collect();
            numbers.into_iter().for_each(|number| self.step(number, Input::Tick));
            let shown = |(drain, begun): &(Drain, Begun)| Draining {
                held: drain.held(),
                ..begun.shown.clone()
            };
            self.list.set(self.all.values().map(shown).collect());
        }
    }

    fn step(&mut self, number: u64, input: Input) {
        let Some((drain, begun)) = self.all.get_mut(&number) else { return };
        match drain.step(input, Instant::now()) {
            Some(Effect::Look) => {
                let look = Arc::new(Look {
                    number,
                    held: AtomicUsize::new(0),
                    reactors: self.reactors.clone(),
                    messages: self.messages.clone(),
                });
                close_all(&begun.namespace, look);
            }
            Some(Effect::Release) => {
                if let Some((_, begun)) = self.all.remove(&number) {
                    (begun.release)();
                    // Whoever waited may have given up.
                    let _ = begun.released.try_send(());
                }
            }
            None => {}
        }
    }
}

/// A look at all reactors: its end is told when the last of them has dropped it.
struct Look {
    number: u64,
    held: AtomicUsize,
    reactors: Vec<Handle>,
    messages: Sender<Message>,
}

impl Drop for Look {
    fn drop(&mut self) {
        let held = self.held.load(Ordering::Acquire);
        let (number, messages) = (self.number, self.messages.clone());
        if held > 0 {
            let _ = messages.send(Message::Looked(number, held));
            return;
        }
        // The other end of a hop is closed by a task: it has run when these have.
        let told = Arc::new(Told(number, messages));
        for reactor in &self.reactors {
            let told = told.clone();
            reactor.send(Box::new(move |_| drop(told)));
        }
    }
}

/// Tells that all is closed when it is dropped.
struct Told(u64, Sender<Message>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.1.send(Message::Looked(self.0, 0));
    }
}

/// Has each reactor close its channel of a namespace if nothing holds it there. One that has ended
/// drops what it is sent.
fn close_all(namespace: &Arc<Namespace>, look: Arc<Look>) {
    for reactor in &look.reactors {
        let (of, look) = (namespace.clone(), look.clone());
        reactor.send(Box::new(move |reactor| {
            let number = reactor.handle().number();
            if of.is_held(number) {
                look.held.fetch_add(1, Ordering::AcqRel);
            } else if let Some(addr) = of.take_channel(number) {
                reactor.stack.close(addr);
            }
        }));
    }
}
