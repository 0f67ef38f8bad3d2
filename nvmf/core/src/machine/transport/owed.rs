//! What is on a host: data that it has to send, and answers that it has to take.

/// How much that is, and when the host last did something about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owed {
    count: u32,
    moved_ns: u64,
}

impl Owed {
    /// One thing more is on the host.
    #[inline]
    pub fn add(&mut self, now_ns: u64) {
        if self.count == 0 {
            self.moved_ns = now_ns;
        }
        self.count += 1;
    }

    /// The host has done one.
    #[inline]
    pub fn done(&mut self, now_ns: u64) {
        self.count -= 1;
        self.moved_ns = now_ns;
    }

    /// Whether something is on the host, and it has done nothing for longer than `limit_ns`.
    pub fn is_stuck(&self, now_ns: u64, limit_ns: u64) -> bool {
        self.count > 0 && now_ns.saturating_sub(self.moved_ns) > limit_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_owed_can_be_late() {
        let mut owed = Owed::default();
        assert!(!owed.is_stuck(100, 10));
        owed.add(100);
        owed.add(109);
        assert!(!owed.is_stuck(110, 10) && owed.is_stuck(111, 10));
        owed.done(111);
        assert!(!owed.is_stuck(121, 10) && owed.is_stuck(122, 10));
        owed.done(122);
        assert!(!owed.is_stuck(1000, 10));
    }
}
