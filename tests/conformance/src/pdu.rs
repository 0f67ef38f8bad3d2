//! Cuts recorded NVMe/TCP streams into PDUs and names them.
//!
//! Written from "NVM Express TCP Transport Specification" on its own, on purpose: were it built on
//! the crate that the captured bytes are to test, a shared mistake would go unseen.

use crate::record::Conversation;
use std::collections::BTreeMap;

/// Who sent a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// The Linux host.
    Host,
    /// The target.
    Target,
}

/// A PDU of a conversation with a name that says what it is.
#[derive(Clone)]
pub struct Captured {
    /// Such as `identify-cns01` or `response-to-connect-admin`.
    pub name: String,
    /// Who sent it.
    pub sender: Sender,
    /// Header digests were agreed on for this connection.
    pub header_digest: bool,
    /// Data digests were agreed on for this connection.
    pub data_digest: bool,
    /// From the common header to the last byte of data or digest.
    pub bytes: Vec<u8>,
}

const CAPSULE_COMMAND: u8 = 4;
const CAPSULE_RESPONSE: u8 = 5;
const H2C_DATA: u8 = 6;
const C2H_DATA: u8 = 7;
const R2T: u8 = 9;

fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([u8_at(bytes, at), u8_at(bytes, at + 1)])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// The PDUs of one direction; what is left of a PDU cut off at the end is dropped.
///
/// # Errors
/// When a length cannot be that of a PDU: the stream is not NVMe/TCP.
pub fn split(mut stream: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut pdus = Vec::new();
    while stream.len() >= 8 {
        let length = u32_at(stream, 4) as usize;
        if length < 8 {
            return Err(format!("a PDU of {length} bytes"));
        }
        if length > stream.len() {
            break;
        }
        let (pdu, rest) = stream.split_at(length);
        pdus.push(pdu);
        stream = rest;
    }
    Ok(pdus)
}

/// Every PDU of a connection, named. Empty where no I/O queue or controller was reached.
///
/// # Errors
/// As [`split`].
pub fn name_all(conversation: &Conversation) -> Result<Vec<Captured>, String> {
    let host = split(&conversation.host)?;
    let target = split(&conversation.target)?;
    let Some(icresp) = target.first() else { return Ok(Vec::new()) };
    let digests = u8_at(icresp, 11);
    let queue =
        if host.get(1).is_some_and(|pdu| u16_at(pdu, 8 + 42) == 0) { "admin" } else { "io" };
    let mut commands: BTreeMap<u16, String> = BTreeMap::new();
    let mut named = Vec::new();
    let mut push = |sender, name: String, bytes: &[u8]| {
        named.push(Captured {
            name,
            sender,
            header_digest: digests & 1 != 0,
            data_digest: digests & 2 != 0,
            bytes: bytes.to_vec(),
        });
    };
    for pdu in host {
        let name = match u8_at(pdu, 0) {
            0 => "icreq".into(),
            2 => "h2c-term-req".into(),
            CAPSULE_COMMAND => {
                let name = command_name(pdu, queue);
                commands.insert(u16_at(pdu, 8 + 2), name.clone());
                name
            }
            H2C_DATA => format!("h2c-data{}", if u8_at(pdu, 1) & 4 != 0 { "-last" } else { "" }),
            other => format!("host-type-{other:02x}"),
        };
        push(Sender::Host, name, pdu);
    }
    let of = |pdu: &[u8], at| commands.get(&u16_at(pdu, at)).map_or("nothing", String::as_str);
    for pdu in target {
        let name = match u8_at(pdu, 0) {
            1 => "icresp".into(),
            3 => "c2h-term-req".into(),
            CAPSULE_RESPONSE => format!("response-to-{}", of(pdu, 8 + 12)),
            C2H_DATA => format!("c2h-data-for-{}", of(pdu, 8)),
            R2T => "r2t".into(),
            other => format!("target-type-{other:02x}"),
        };
        push(Sender::Target, name, pdu);
    }
    Ok(named)
}

fn command_name(pdu: &[u8], queue: &str) -> String {
    let sqe = pdu.get(8..).unwrap_or(&[]);
    let cdw10 = u32_at(sqe, 40);
    let in_capsule = if pdu.len() > 8 + 64 + 8 { "-in-capsule" } else { "" };
    match (u8_at(sqe, 0), queue) {
        (0x7f, _) => match u8_at(sqe, 4) {
            0 => format!("property-set-{:02x}", u32_at(sqe, 44)),
            1 => format!("connect-{queue}"),
            4 => format!("property-get-{:02x}", u32_at(sqe, 44)),
            8 => "disconnect".into(),
            other => format!("fabrics-{other:02x}"),
        },
        // NUMDL: the header of the discovery log alone is 1024 bytes.
        (0x02, "admin") if cdw10 & 0xffff_00ff == 0x00ff_0070 => "get-log-70-header".into(),
        (0x02, "admin") => format!("get-log-{:02x}", cdw10 & 0xff),
        (0x06, "admin") => format!("identify-cns{:02x}", cdw10 & 0xff),
        (0x09, "admin") => format!("set-features-{:02x}", cdw10 & 0xff),
        (0x0a, "admin") => format!("get-features-{:02x}", cdw10 & 0xff),
        (0x0c, "admin") => "async-event-request".into(),
        (0x18, "admin") => "keep-alive".into(),
        (0x00, "io") => "flush".into(),
        (0x01, "io") => format!("write{in_capsule}"),
        (0x02, "io") => "read".into(),
        (0x05, "io") => format!("compare{in_capsule}"),
        (0x08, "io") => "write-zeroes".into(),
        (0x09, "io") => format!("dataset-management{in_capsule}"),
        (opcode, _) => format!("{queue}-opcode-{opcode:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_passed() {
        let mut icreq = vec![0; 128];
        (icreq[2], icreq[4]) = (128, 128);
        let mut icresp = icreq.clone();
        (icresp[0], icresp[11]) = (1, 3);
        let mut connect = vec![0; 8 + 64 + 1024];
        (connect[0], connect[2], connect[5]) = (4, 72, 4);
        connect[4] = 72;
        (connect[8], connect[10], connect[12]) = (0x7f, 9, 1);
        let mut response = vec![0; 24];
        (response[0], response[2], response[4], response[20]) = (5, 24, 24, 9);
        let mut cut = response.clone();
        cut.truncate(20);
        let conversation = Conversation {
            host: [icreq, connect].concat(),
            target: [icresp, response, cut].concat(),
        };
        let named = name_all(&conversation).unwrap();
        let names: Vec<&str> = named.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["icreq", "connect-admin", "icresp", "response-to-connect-admin"]);
        assert!(named.iter().all(|one| one.header_digest && one.data_digest));
    }

    #[test]
    fn refuses_what_is_no_pdu() {
        assert!(split(&[0; 16]).is_err());
        assert!(split(&[0; 7]).unwrap().is_empty());
    }
}
