//! How other threads reach a reactor.

use crate::{Reactor, ReactorStats};
use bdev::sleep::Signal;
use bdev::wake::WakeFlag;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// Something to do on the reactor, between two steps.
pub type Task = Box<dyn FnOnce(&mut Reactor) + Send>;

/// What a reactor shares with the rest of the process.
pub(crate) struct Shared {
    number: usize,
    /// `None` once the reactor has ended.
    inbox: Mutex<Option<Vec<Task>>>,
    has_tasks: AtomicBool,
    stopping: AtomicBool,
    flag: WakeFlag,
    signal: Signal,
    stats: ReactorStats,
}

/// A reactor as others see it.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Shared>);

impl Handle {
    /// The shared part of reactor `number`.
    ///
    /// # Errors
    /// The kernel's, when it has no descriptor left.
    pub fn new(number: usize) -> io::Result<Handle> {
        Ok(Handle(Arc::new(Shared {
            number,
            inbox: Mutex::new(Some(Vec::new())),
            has_tasks: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            flag: WakeFlag::new(),
            signal: Signal::new()?,
            stats: ReactorStats::default(),
        })))
    }

    /// The number of the reactor.
    pub fn number(&self) -> usize {
        self.0.number
    }

    /// Its counters.
    pub fn stats(&self) -> &ReactorStats {
        &self.0.stats
    }

    /// Has `task` run on the reactor, soon. Tasks run in the order they were sent. On a reactor
    /// that has ended it is dropped.
    pub fn send(&self, task: Task) {
        let mut inbox = self.0.inbox.lock().expect("no task panics with the inbox locked");
        let Some(tasks) = inbox.as_mut() else { return };
        tasks.push(task);
        self.0.has_tasks.store(true, Ordering::Release);
        drop(inbox);
        self.wake();
    }

    /// Runs `task` on the reactor and waits for what it returns; `None` if the reactor has ended.
    /// Never called from a reactor: two that wait for each other would wait for ever.
    pub fn call<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Reactor) -> R + Send + 'static,
    ) -> Option<R> {
        let (tx, rx) = mpsc::sync_channel(1);
        self.send(Box::new(move |reactor| {
            // The caller may have given up; then nobody wants the result.
            let _ = tx.send(task(reactor));
        }));
        rx.recv().ok()
    }

    /// Makes sure that the reactor looks for work: after something was put where it looks.
    pub fn wake(&self) {
        if self.0.flag.must_wake() {
            self.0.signal.raise();
        }
    }

    /// Asks the reactor to end after its current step.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn has_tasks(&self) -> bool {
        self.0.has_tasks.load(Ordering::Acquire)
    }

    pub(crate) fn take_tasks(&self) -> Vec<Task> {
        let mut inbox = self.0.inbox.lock().expect("no task panics with the inbox locked");
        self.0.has_tasks.store(false, Ordering::Release);
        inbox.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// No task is taken any more, and those that wait are dropped.
    pub(crate) fn end(&self) {
        let tasks = self.0.inbox.lock().expect("no task panics with the inbox locked").take();
        drop(tasks);
    }

    pub(crate) fn flag(&self) -> &WakeFlag {
        &self.0.flag
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.0.signal
    }
}
