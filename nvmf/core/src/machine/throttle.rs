//! How many commands with buffers one address may have under way on one namespace of a reactor.
//!
//! A namespace may be slow, by its drive or by a limit. A deep queue of commands for it would take all
//! buffers that their host may have ([`super::share`]), and keep the host from its other namespaces. So
//! they wait here before they hold anything. As many may be under way as end in time: few at first,
//! twice as many each time that so many have ended in time, and half as many with each that is late.

use std::collections::VecDeque;

/// How long a command may be in the stack and still end in time, in ns.
const IN_TIME_NS: u64 = 250_000_000;

/// Commands at first: less than the buffers that a connection may have at first.
const FIRST: u32 = 2;

/// Commands at most: more than there are places for.
const MOST: u32 = 1 << 20;

/// The commands of one address on one namespace.
#[derive(Debug)]
pub(crate) struct Throttle {
    under_way: u32,
    /// How many may be.
    window: u32,
    /// How many ended in time since the window was changed.
    in_time: u32,
    /// Those that wait, oldest first.
    line: VecDeque<u32>,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle { under_way: 0, window: FIRST, in_time: 0, line: VecDeque::new() }
    }
}

impl Throttle {
    /// The command at `at` comes. True if it is let through; otherwise it is in line.
    #[inline]
    pub(crate) fn enter(&mut self, at: u32) -> bool {
        let through = self.line.is_empty() && self.under_way < self.window;
        if !through {
            self.wait(at);
            return false;
        }
        self.under_way += 1;
        true
    }

    #[cold]
    #[inline(never)]
    fn wait(&mut self, at: u32) {
        self.line.push_back(at);
    }

    /// A command that was let through has ended, `took_ns` of it in the stack. True if others wait.
    #[inline]
    pub(crate) fn leave(&mut self, took_ns: u64) -> bool {
        self.under_way -= 1;
        if took_ns > IN_TIME_NS {
            (self.window, self.in_time) = ((self.window / 2).max(1), 0);
        } else {
            self.in_time += 1;
            if self.in_time >= self.window {
                (self.window, self.in_time) = ((2 * self.window).min(MOST), 0);
            }
        }
        !self.line.is_empty()
    }

    /// The next one in line, if one more may be under way: it is let through.
    pub(crate) fn next(&mut self) -> Option<u32> {
        if self.under_way >= self.window {
            return None;
        }
        let next = self.line.pop_front()?;
        self.under_way += 1;
        Some(next)
    }

    /// Takes the command at `at` out of the line. True if it was there.
    pub(crate) fn remove(&mut self, at: u32) -> bool {
        let place = self.line.iter().position(|other| *other == at);
        place.and_then(|place| self.line.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets as many in as may be; those in line are taken into account.
    fn fill(throttle: &mut Throttle) -> u32 {
        let mut let_in = 0;
        while throttle.next().is_some() {
            let_in += 1;
        }
        let_in
    }

    #[test]
    fn what_ends_in_time_gets_more_and_what_does_not_gets_less() {
        let mut throttle = Throttle::default();
        assert_eq!((0..1000).filter(|at| throttle.enter(*at)).count(), 2);
        for expected in [4, 8, 16] {
            let under_way = throttle.under_way;
            (0..under_way).for_each(|_| assert!(throttle.leave(IN_TIME_NS)));
            assert_eq!(fill(&mut throttle), expected);
        }
        for (left, expected) in [(8, 0), (4, 0), (2, 0), (1, 0), (1, 0)] {
            assert!(throttle.leave(IN_TIME_NS + 1));
            assert_eq!((throttle.window, fill(&mut throttle)), (left, expected));
        }
        assert!((0..11).all(|_| throttle.leave(IN_TIME_NS + 1)), "others wait");
        assert_eq!((throttle.under_way, fill(&mut throttle)), (0, 1), "one gets on always");
    }

    #[test]
    fn those_in_line_keep_their_order_and_can_leave_it() {
        let mut throttle = Throttle::default();
        assert_eq!([0, 1, 2, 3, 4].map(|at| throttle.enter(at)), [true, true, false, false, false]);
        assert!(throttle.remove(3) && !throttle.remove(3) && !throttle.remove(0));
        throttle.leave(0);
        assert_eq!((throttle.next(), throttle.next()), (Some(2), None));
        throttle.leave(0);
        assert_eq!((throttle.next(), throttle.next()), (Some(4), None));
        assert!(!throttle.leave(0) && throttle.enter(6));
    }
}
