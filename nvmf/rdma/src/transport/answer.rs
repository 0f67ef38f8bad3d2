//! Commands: their data, and their answers.

use super::RdmaTransport;
use crate::request::tag;
use bdev::DmaSlice;
use nvme_spec::{Cqe, Status};
use nvmf::transport::{Due, Event, Origin, ReqId, Response, Stage};
use verbs::limits::CQE_BYTES;
use verbs::{Nic, Remote, Work};
use zerocopy::IntoBytes;

impl<N: Nic<Admission = Origin>> RdmaTransport<N> {
    /// Reads the data of a command from its host.
    pub(super) fn read(&mut self, req: ReqId, into: DmaSlice) {
        let tag = tag(&self.requests, req);
        let request = self.requests.get(req);
        let (qpair, remote) = (request.qpair, request.capsule.remote);
        let refusal = match remote {
            _ if into.is_empty() => Some(Status::SUCCESS),
            None => Some(Status::INVALID_SGL_TYPE.dnr()),
            Some(from) if into.len() > from.bytes as usize => {
                Some(Status::INVALID_SGL_LENGTH.dnr())
            }
            Some(_) if self.open_conn(qpair).is_none() => Some(Status::DATA_TRANSFER_ERROR),
            Some(_) => None,
        };
        if let Some(status) = refusal {
            return self.requests.end_pull_at_once(req, status);
        }
        let now_ns = self.now_ns;
        if let (Some(conn), Some(from)) = (self.open_conn(qpair), remote) {
            conn.push(Work::Read { tag, into, from });
            conn.owed.add(now_ns);
        }
        self.requests.begin_pull(req, ());
        self.stats.reads.add(1);
        self.stats.read_bytes.add(into.len() as u64);
        self.mark(qpair.index);
    }

    /// A READ has ended: the data is there.
    pub(super) fn read_ended(&mut self, req: ReqId, out: &mut Vec<Event>) {
        let index = self.requests.get(req).qpair.index;
        if self.requests.pull(req).is_none() {
            return;
        }
        let answer = self.requests.end_pull(req);
        let now_ns = self.now_ns;
        if let Some(conn) = self.conn(index) {
            conn.ended(1);
            conn.owed.done(now_ns);
        }
        self.mark(index);
        match answer {
            None => out.push(Event::Pulled { req, status: Status::SUCCESS }),
            Some(response) => self.answer(req, response),
        }
    }

    /// Puts the answer of a command in line.
    pub(super) fn answer(&mut self, req: ReqId, response: Response) {
        debug_assert!(!response.lent, "no queue pair here was said to be direct");
        let request = self.requests.get_mut(req);
        let (qpair, remote) = (request.qpair, request.capsule.remote);
        if let Some((port, slot)) = request.capsule.receive.take() {
            self.release(port, slot);
        }
        let open = self.open_conn(qpair).is_some();
        if self.requests.respond(req, response, open) == Due::Later {
            return;
        }
        let (data, cqe) = placed(response, remote);
        let tag = tag(&self.requests, req);
        let invalidate = remote.filter(|remote| remote.invalidate).map(|remote| remote.rkey);
        let room = self.cqes.as_ref().expect("there while any queue pair is").slice();
        let entry = room.sub(req.0 as usize * CQE_BYTES, CQE_BYTES);
        entry.copy_in(0, cqe.as_bytes());
        let now_ns = self.now_ns;
        let conn = self.open_conn(qpair).expect("just looked");
        conn.owed.add(now_ns);
        if let Some((from, into)) = data {
            conn.push(Work::Write { tag, from, into });
        }
        conn.push(Work::Send { tag, cqe: entry, invalidate });
        conn.answers += 1;
        self.requests.answer(req, 1 + u32::from(data.is_some()));
        if let Some((from, _)) = data {
            self.stats.writes.add(1);
            self.stats.write_bytes.add(from.len() as u64);
        }
        self.stats.sends.add(1);
        self.mark(qpair.index);
    }

    /// Ends a command without an answer.
    pub(super) fn drop_unanswered(&mut self, req: ReqId) {
        let request = self.requests.get_mut(req);
        let qpair = request.qpair;
        if let Some((port, slot)) = request.capsule.receive.take() {
            self.release(port, slot);
        }
        self.requests.discard(req);
        let RdmaTransport { places, crowd, .. } = self;
        let conn = places[usize::from(qpair.index)].conn.as_mut();
        if let Some(conn) = conn.filter(|conn| conn.id == qpair) {
            conn.command_left(crowd);
        }
    }

    /// The SEND of an answer has ended, and with it the WRITE before it.
    pub(super) fn answer_sent(&mut self, req: ReqId, out: &mut Vec<Event>) {
        let request = self.requests.get(req);
        let index = request.qpair.index;
        let Stage::Answering(count) = request.stage else { return };
        self.requests.sent(req, out);
        let now_ns = self.now_ns;
        let RdmaTransport { places, crowd, .. } = self;
        if let Some(conn) = places[usize::from(index)].conn.as_mut() {
            conn.ended(count);
            conn.answers -= 1;
            conn.owed.done(now_ns);
            conn.command_left(crowd);
        }
        self.mark(index);
    }
}

/// Where the data of an answer goes, and the completion that says so: one with an error if the host
/// has named no memory for it, or too little.
fn placed(response: Response, remote: Option<Remote>) -> (Option<(DmaSlice, Remote)>, Cqe) {
    let Some(data) = response.data.filter(|data| !data.is_empty()) else {
        return (None, response.cqe);
    };
    let refusal = match remote {
        Some(into) if data.len() <= into.bytes as usize => {
            return (Some((data, into)), response.cqe);
        }
        Some(_) => Status::INVALID_SGL_LENGTH,
        None => Status::INVALID_SGL_TYPE,
    };
    let mut cqe = Cqe::new(response.cqe.cid.get(), refusal.dnr());
    cqe.sqhd = response.cqe.sqhd;
    (None, cqe)
}
