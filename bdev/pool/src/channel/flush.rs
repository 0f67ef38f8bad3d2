//! What has been written becomes durable: by flushing the devices, and by a commit where the map has
//! changed, which flushes them first.

use super::{COMMIT_NS, Owner, Piece, Step, VolumeChannel, tag};
use bdev::{Addr, Cx, DmaSlice, Io, IoFlags, Op, Tag};
use nvme_spec::Status;

impl VolumeChannel {
    pub(super) fn flush(&mut self, io: Io, cx: &mut Cx<'_>) {
        let (to, tag) = io.into_parts();
        self.make_durable(to, tag, cx);
    }

    /// Ends an operation when everything that was written by now is durable, data and map. A commit
    /// that is still to come flushes the devices; one that is under way may have done so before
    /// the last write ended.
    pub(super) fn make_durable(&mut self, to: Addr, host_tag: Tag, cx: &mut Cx<'_>) {
        if self.state().failed || self.state().map.is_dirty() {
            return self.complete_durable(to, host_tag, cx);
        }
        let running = self.begin(Owner::Host(to, host_tag), true, [None, None]);
        let piece = Piece {
            op: Op::Flush,
            flags: IoFlags::NONE,
            address: 0,
            sectors: 0,
            data: DmaSlice::EMPTY,
            tag: tag(running, Step::Data),
        };
        self.send(piece, cx);
        self.step(running, Status::SUCCESS, cx);
    }

    /// Ends an operation whose data is durable when the map is, as it is now.
    pub(super) fn complete_durable(&mut self, to: Addr, tag: Tag, cx: &mut Cx<'_>) {
        match self.state().wanted_commit() {
            _ if self.state().failed => self.finish(to, tag, Status::INTERNAL_ERROR, cx),
            None => self.finish(to, tag, Status::SUCCESS, cx),
            Some(number) => {
                self.commits.push_back((number, to, tag));
                self.commit_for_waiters();
            }
        }
    }

    /// Asks for a commit if somebody waits for one and none is under way: those that come
    /// meanwhile share the next.
    fn commit_for_waiters(&mut self) {
        let last = self.commits.back().map(|(number, ..)| *number);
        let state = self.state();
        if !state.is_committing() && last.is_some_and(|number| number > state.ended()) {
            state.commit();
            self.dirty_since_ns = None;
        }
    }

    /// The oldest commit has ended.
    pub(super) fn committed(&mut self, ok: bool, cx: &mut Cx<'_>) {
        let free = self.state().committed(ok);
        if !free.is_empty() {
            let later = self.state().free_later(free);
            self.fence(later);
        }
        let ended = self.state().ended();
        let failed = self.state().failed;
        let status = if failed { Status::INTERNAL_ERROR } else { Status::SUCCESS };
        while let Some((_, to, tag)) =
            self.commits.pop_front_if(|(number, ..)| failed || *number <= ended)
        {
            self.finish(to, tag, status, cx);
        }
        self.commit_for_waiters();
    }

    /// Commits what nobody asked for after a while.
    pub(super) fn commit_in_time(&mut self, now_ns: u64) -> u32 {
        let state = self.state();
        if state.is_committing() || !state.map.is_dirty() || state.failed {
            self.dirty_since_ns = None;
            return 0;
        }
        let is_filling = state.map.is_filling();
        let since = *self.dirty_since_ns.get_or_insert(now_ns);
        if now_ns < since + COMMIT_NS && !is_filling {
            return 0;
        }
        self.state().commit();
        self.dirty_since_ns = None;
        1
    }
}
