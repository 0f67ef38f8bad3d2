//! Carries out what blocks, on threads of its own: [`Schedule`] says whose turn it is.

use crate::published::Published;
use crate::unit::schedule::{Ask, Claim, Effect, Input, Running, Schedule, Ticket, seconds};
use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use webui_model::Refusal;

/// Effects at once that do not hang.
const FEW: usize = 16;

/// Effects at once, those that hang among them.
const MOST: usize = 64;

/// How long a request waits for its turn and its end. The API's server waits for longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What begins when it is an effect's turn.
enum Start {
    /// A thread that does it.
    Thread(Box<dyn FnOnce() + Send>),
    /// The thread that waits for it goes on.
    Here(SyncSender<Result<(), String>>),
}

/// Hears why it does not begin.
type Refuse = Box<dyn FnOnce(String) + Send>;

struct State {
    schedule: Schedule,
    waiting: BTreeMap<Ticket, (Start, Refuse)>,
    last: Ticket,
    closed: bool,
}

struct Inner {
    state: Mutex<State>,
    running: Published<Vec<Running>>,
    changed: Condvar,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Inner>);

/// What an effect is and needs.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// What it does, as in "making volume tank/a".
    pub what: String,
    /// What it needs.
    pub claims: Vec<Claim>,
    /// For how long it waits for its turn.
    pub patience: Duration,
    /// How long it may take before it counts as hung.
    pub limit: Duration,
    /// It is part of another, which waits for it: of keys it asks in the order of
    /// [`crate::unit::schedule::Key`], so that no two wait for each other.
    pub within: bool,
}

impl Task {
    /// With the patience of a request.
    pub(crate) fn new(what: impl Into<String>, claims: Vec<Claim>) -> Task {
        Task { what: what.into(), claims, patience: PATIENCE, limit: PATIENCE, within: false }
    }
}

/// An effect that the thread which has this carries out, until it is dropped.
pub(crate) struct Turn {
    inner: Arc<Inner>,
    ticket: Ticket,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.inner.step(Input::Ended(self.ticket));
    }
}

impl Default for Executor {
    fn default() -> Executor {
        let schedule = Schedule::new(FEW, MOST);
        let state = State { schedule, waiting: BTreeMap::new(), last: 0, closed: false };
        Executor(Arc::new(Inner {
            state: Mutex::new(state),
            running: Published::default(),
            changed: Condvar::new(),
        }))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(self: &Arc<Inner>, input: Input) {
        let mut state = self.lock();
        let effects = state.schedule.step(input, Instant::now());
        let mut begun = Vec::new();
        for effect in effects {
            match effect {
                Effect::Begin(ticket) => {
                    begun.extend(state.waiting.remove(&ticket).map(|task| (ticket, task, None)));
                }
                Effect::Refuse(ticket, why) => {
                    begun.extend(
                        state.waiting.remove(&ticket).map(|task| (ticket, task, Some(why))),
                    );
                }
                Effect::Hangs(ticket) => {
                    if let Some(running) = state.schedule.get(ticket) {
                        let what = running.what.as_str();
                        tracing::warn!(what, "this takes longer than it may, and goes on");
                    }
                }
            }
        }
        self.running.set(state.schedule.running().cloned().collect());
        drop(state);
        self.changed.notify_all();
        for (ticket, (start, refuse), why) in begun {
            match why {
                Some(why) => refuse(why),
                None => self.begin(ticket, start, refuse),
            }
        }
    }

    fn begin(self: &Arc<Inner>, ticket: Ticket, start: Start, refuse: Refuse) {
        let turn = Turn { inner: self.clone(), ticket };
        match start {
            Start::Thread(run) => {
                let thread = std::thread::Builder::new().name("effect".into());
                let spawned = thread.spawn(move || {
                    run();
                    drop(turn);
                });
                if let Err(error) = spawned {
                    refuse(format!("No thread can be started: {error}."));
                }
            }
            Start::Here(begins) => {
                // The turn is taken over by whoever waits; who has given up does not take it.
                if begins.send(Ok(())).is_ok() {
                    std::mem::forget(turn);
                }
            }
        }
    }
}

impl Executor {
    fn ask(&self, task: Task, start: Start, refuse: Refuse) -> Ticket {
        let Task { what, claims, patience, limit, within } = task;
        let ask = {
            let mut state = self.0.lock();
            state.last += 1;
            let ticket = state.last;
            if state.closed && !within {
                drop(state);
                refuse("The appliance is on its way down.".to_owned());
                return ticket;
            }
            state.waiting.insert(ticket, (start, refuse));
            let until = Instant::now() + patience;
            Ask { ticket, what, claims, until, limit, within }
        };
        let ticket = ask.ticket;
        self.0.step(Input::Ask(ask));
        ticket
    }

    /// Has `job` done when it is its turn; `refused` hears it if that does not come.
    pub(crate) fn start(
        &self,
        task: Task,
        job: impl FnOnce() + Send + 'static,
        refused: impl FnOnce(String) + Send + 'static,
    ) {
        self.ask(task, Start::Thread(Box::new(job)), Box::new(refused));
    }

    /// Does `job` when it is its turn, and waits for its end for as long as a request may take.
    ///
    /// # Errors
    /// The job's; who is in the way; or that it goes on.
    pub(crate) fn carry<R: Send + 'static>(
        &self,
        task: Task,
        job: impl FnOnce() -> Result<R, Refusal> + Send + 'static,
    ) -> Result<R, Refusal> {
        let (ended, end) = mpsc::sync_channel(1);
        let (refused, what, patience) = (ended.clone(), task.what.clone(), task.patience);
        self.start(
            task,
            // Whoever asked may have given up.
            move || drop(ended.send(job())),
            move |why| drop(refused.send(Err(Refusal::unavailable(why)))),
        );
        let end = match end.recv_timeout(patience) {
            // What still waits for its turn does not get it any more.
            Err(RecvTimeoutError::Timeout) => {
                self.tick();
                end.try_recv().map_err(|_| RecvTimeoutError::Timeout)
            }
            end => end,
        };
        end.unwrap_or_else(|why| {
            Err(Refusal::unavailable(match why {
                RecvTimeoutError::Timeout => format!(
                    "This goes on, and has not ended after {}: {what}. Look again later.",
                    seconds(patience)
                ),
                RecvTimeoutError::Disconnected => format!("This ended with a panic: {what}."),
            }))
        })
    }

    /// Waits until this thread may do something, as a part of what it does already.
    ///
    /// # Errors
    /// Who is in the way.
    pub(crate) fn turn(&self, task: Task) -> Result<Turn, Refusal> {
        let (begins, begun) = mpsc::sync_channel(1);
        let (refused, patience) = (begins.clone(), task.patience);
        let refuse = move |why: String| drop(refused.send(Err(why)));
        let ticket = self.ask(Task { within: true, ..task }, Start::Here(begins), Box::new(refuse));
        let answer = begun.recv_timeout(patience).or_else(|_| {
            self.tick();
            begun.recv()
        });
        match answer {
            Ok(Ok(())) => Ok(Turn { inner: self.0.clone(), ticket }),
            Ok(Err(why)) => Err(Refusal::unavailable(why)),
            Err(_) => Err(Refusal::unavailable("The appliance is on its way down.")),
        }
    }

    /// Time goes by.
    pub(crate) fn tick(&self) {
        self.0.step(Input::Tick);
    }

    /// What is under way.
    pub(crate) fn running(&self) -> Arc<Vec<Running>> {
        self.0.running.get()
    }

    /// Begins nothing more, and waits for what is under way, unless it hangs. Whether all has ended.
    pub(crate) fn close(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.0.lock();
        state.closed = true;
        loop {
            if state.schedule.running().next().is_none() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.schedule.running().all(|running| running.hangs) {
                return false;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::schedule::Key;
    use std::sync::mpsc::channel;

    fn task(name: &str) -> Task {
        let claims = vec![Claim::sole(Key::Pool(name.into()))];
        Task { patience: Duration::from_millis(50), ..Task::new(format!("making {name}"), claims) }
    }

    #[test]
    fn what_hangs_is_in_nobodys_way_but_its_own() {
        let executor = Executor::default();
        let (end, ends) = channel::<()>();
        let hangs = executor.carry(task("a"), move || {
            let _ = ends.recv();
            Ok(())
        });
        assert!(hangs.unwrap_err().message.contains("has not ended after"));
        let long = Task { patience: PATIENCE, ..task("b") };
        assert_eq!(executor.carry(long, || Ok(7)).unwrap(), 7);
        let busy = executor.carry(task("a"), || Ok(())).unwrap_err().message;
        assert!(busy.starts_with("Pool a is busy: making a has gone on for"), "{busy}");
        assert_eq!(executor.running().len(), 1);
        assert!(!executor.close(Duration::from_millis(20)));
        assert!(executor.carry(task("b"), || Ok(())).is_err(), "it is closed");
        drop(end);
        assert!(executor.close(PATIENCE));
    }

    #[test]
    fn a_part_of_an_effect_has_its_own_turn() {
        let executor = Executor::default();
        let inner = executor.clone();
        let long = |name| Task { patience: PATIENCE, ..task(name) };
        let did = executor.carry(long("a"), move || {
            let turn = inner.turn(long("b"))?;
            assert_eq!(inner.running().len(), 2);
            drop(turn);
            Ok(inner.running().len())
        });
        assert_eq!(did.unwrap(), 1);
    }
}
