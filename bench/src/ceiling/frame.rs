//! The two messages: a command of 72 bytes and a response header of 24.
//!
//! Fields lie where NVMe/TCP has them: a command's identifier at byte 10 and its
//! address at byte 48 (8 bytes of common header, then the submission queue entry),
//! a response's identifier at byte 8 of a C2HData header.

/// Bytes of a command: common header and submission queue entry.
pub const COMMAND_BYTES: usize = 72;
/// Bytes of a response header.
pub const RESPONSE_BYTES: usize = 24;

/// A command: which slot asks, and which place of the region it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Slot of the asking half, given back in the response.
    pub tag: u16,
    /// Byte offset in the region.
    pub place: u64,
}

impl Command {
    /// The 72 bytes on the wire.
    #[must_use]
    pub fn encode(self) -> [u8; COMMAND_BYTES] {
        let mut bytes = [0; COMMAND_BYTES];
        bytes[10..12].copy_from_slice(&self.tag.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.place.to_le_bytes());
        bytes
    }

    /// Reads a command back.
    #[must_use]
    pub fn decode(bytes: &[u8; COMMAND_BYTES]) -> Self {
        let [t0, t1] = [bytes[10], bytes[11]];
        let mut place = [0; 8];
        place.copy_from_slice(&bytes[48..56]);
        Self { tag: u16::from_le_bytes([t0, t1]), place: u64::from_le_bytes(place) }
    }
}

/// The 24 header bytes of the response to `tag`.
#[must_use]
pub fn encode_response(tag: u16) -> [u8; RESPONSE_BYTES] {
    let mut bytes = [0; RESPONSE_BYTES];
    bytes[8..10].copy_from_slice(&tag.to_le_bytes());
    bytes
}

/// The tag that a response header answers.
#[must_use]
pub fn decode_response(bytes: &[u8; RESPONSE_BYTES]) -> u16 {
    u16::from_le_bytes([bytes[8], bytes[9]])
}

#[cfg(test)]
mod tests {
    use super::{Command, decode_response, encode_response};

    #[test]
    fn messages_come_back_as_they_went() {
        for tag in [0, 1, 0x1234, u16::MAX] {
            let command = Command { tag, place: 0x0123_4567_89ab_cdef };
            assert_eq!(Command::decode(&command.encode()), command);
            assert_eq!(decode_response(&encode_response(tag)), tag);
        }
    }
}
