//! Commands: their data, and their answers.

use super::RdmaTransport;
use crate::request::State;
use bdev::DmaSlice;
use nvme_spec::{Cqe, Status};
use nvmf::transport::{Event, Origin, ReqId, Response};
use verbs::limits::CQE_BYTES;
use verbs::{Nic, Remote, Work};
use zerocopy::IntoBytes;

impl<N: Nic<Admission = Origin>> RdmaTransport<N> {
    /// Reads the data of a command from its host.
    pub(super) fn read(&mut self, req: ReqId, into: DmaSlice) {
        let tag = self.requests.tag(req);
        let request = self.requests.get(req);
        assert!(matches!(request.state, State::Executing), "pulled while with the target");
        let (qpair, remote) = (request.qpair, request.remote);
        if into.is_empty() {
            return self.ended.push((req, Status::SUCCESS));
        }
        let Some(from) = remote else {
            return self.ended.push((req, Status::INVALID_SGL_TYPE.dnr()));
        };
        if into.len() > from.bytes as usize {
            return self.ended.push((req, Status::INVALID_SGL_LENGTH.dnr()));
        }
        let Some(conn) = self.open_conn(qpair) else {
            return self.ended.push((req, Status::DATA_TRANSFER_ERROR));
        };
        conn.push(Work::Read { tag, into, from });
        self.requests.get(req).state = State::Reading(None);
        self.stats.reads.add(1);
        self.stats.read_bytes.add(into.len() as u64);
        self.mark(qpair.index);
    }

    /// A READ has ended: the data is there.
    pub(super) fn read_ended(&mut self, req: ReqId, out: &mut Vec<Event>) {
        let request = self.requests.get(req);
        let index = request.qpair.index;
        let State::Reading(answer) = &mut request.state else { return };
        let answer = answer.take();
        request.state = State::Executing;
        if let Some(conn) = self.conn(index) {
            conn.ended(1);
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
        let request = self.requests.get(req);
        if let Some((port, slot)) = request.receive.take() {
            self.release(port, slot);
        }
        let request = self.requests.get(req);
        let (qpair, remote) = (request.qpair, request.remote);
        match &mut request.state {
            State::Executing => {}
            State::Reading(answer) => {
                *answer = Some(response);
                return;
            }
            state => panic!("answered twice: {state:?}"),
        }
        if self.open_conn(qpair).is_none() {
            self.requests.get(req).state = State::Orphan;
            return self.orphans.push(req);
        }
        let (data, cqe) = placed(response, remote);
        let tag = self.requests.tag(req);
        let invalidate = remote.filter(|remote| remote.invalidate).map(|remote| remote.rkey);
        let room = self.cqes.as_ref().expect("there while any queue pair is").slice();
        let entry = room.sub(req.0 as usize * CQE_BYTES, CQE_BYTES);
        entry.copy_in(0, cqe.as_bytes());
        let conn = self.open_conn(qpair).expect("just looked");
        if let Some((from, into)) = data {
            conn.push(Work::Write { tag, from, into });
        }
        conn.push(Work::Send { tag, cqe: entry, invalidate });
        conn.answers += 1;
        self.requests.get(req).state = State::Answering(1 + u32::from(data.is_some()));
        if let Some((from, _)) = data {
            self.stats.writes.add(1);
            self.stats.write_bytes.add(from.len() as u64);
        }
        self.stats.sends.add(1);
        self.mark(qpair.index);
    }

    /// Ends a command without an answer.
    pub(super) fn drop_unanswered(&mut self, req: ReqId) {
        let request = self.requests.get(req);
        assert!(matches!(request.state, State::Executing), "discarded while with the target");
        request.state = State::Orphan;
        if let Some((port, slot)) = request.receive.take() {
            self.release(port, slot);
        }
        self.orphans.push(req);
    }

    /// The SEND of an answer has ended, and with it the WRITE before it.
    pub(super) fn answer_sent(&mut self, req: ReqId, out: &mut Vec<Event>) {
        let request = self.requests.get(req);
        let index = request.qpair.index;
        let State::Answering(count) = request.state else { return };
        self.requests.remove(req);
        out.push(Event::Sent { req });
        if let Some(conn) = self.conn(index) {
            conn.ended(count);
            conn.answers -= 1;
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
