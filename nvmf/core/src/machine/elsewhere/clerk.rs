//! A thread that answers the questions of all reactors, first come first served.

use super::{Elsewhere, Question, Reply, Ticket};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A question, and whose it is.
struct Asked {
    ticket: Ticket,
    question: Question,
    reply_to: Sender<(Ticket, Reply)>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// A thread that panics has broken an invariant, and hosts would wait for its answers for ever: the
/// process ends and is started anew, as it is for a reactor.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// A way to the thread. The thread ends when it and all its windows are gone.
#[derive(Clone)]
pub struct Clerk {
    questions: Sender<Asked>,
}

/// One reactor's way to the thread. No more questions are out than the reactor has commands.
pub struct Window {
    questions: Sender<Asked>,
    replies: Receiver<(Ticket, Reply)>,
    reply_to: Sender<(Ticket, Reply)>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Clerk {
    /// Starts the thread.
    ///
    /// # Errors
    /// The kernel's, when it gives no more threads.
    pub fn start() -> io::Result<Clerk> {
        let (questions, asked) = channel::<Asked>();
        let work = move || {
            let _guard = AbortOnPanic;
            for Asked { ticket, question, reply_to, wake } in asked {
                // The reactor may have gone meanwhile: then nobody waits.
                if reply_to.send((ticket, question.answer())).is_ok() {
                    wake();
                }
            }
        };
        std::thread::Builder::new().name("nvmf-clerk".into()).spawn(work)?;
        Ok(Clerk { questions })
    }

    /// A window for one reactor, which `wake` wakes when an answer is there.
    pub fn window(&self, wake: impl Fn() + Send + Sync + 'static) -> Window {
        let (reply_to, replies) = channel();
        Window { questions: self.questions.clone(), replies, reply_to, wake: Arc::new(wake) }
    }
}

impl Elsewhere for Window {
    fn ask(&mut self, ticket: Ticket, question: Question) {
        let (reply_to, wake) = (self.reply_to.clone(), self.wake.clone());
        let asked = Asked { ticket, question, reply_to, wake };
        let sent = self.questions.send(asked);
        assert!(sent.is_ok(), "the thread lives as long as its windows");
    }

    fn poll(&mut self, _now_ns: u64) -> Option<(Ticket, Reply)> {
        self.replies.try_recv().ok()
    }
}
