//! Header and data digests: CRC32C, least significant byte first (TCP Transport Specification,
//! "Digests").

use crc_fast::{CrcAlgorithm, Digest};

/// Bytes of a digest on the wire.
pub const DIGEST_BYTES: usize = 4;

/// CRC32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// A data digest under way: four bytes of state, so that a request keeps it while its payload
/// arrives in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataDigest(u32);

impl DataDigest {
    /// The digest of no byte yet.
    pub const fn new() -> DataDigest {
        DataDigest(!0)
    }

    /// Goes on over `bytes`, the next ones of the payload.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut crc = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(self.0));
        crc.update(bytes);
        self.0 = crc.get_state() as u32;
    }

    /// The digest of everything seen.
    pub const fn value(self) -> u32 {
        !self.0
    }

    /// The digest as it stands on the wire.
    pub const fn bytes(self) -> [u8; DIGEST_BYTES] {
        self.value().to_le_bytes()
    }

    /// Whether `received`, the four bytes after the payload, is the digest of what was seen.
    pub fn matches(self, received: [u8; DIGEST_BYTES]) -> bool {
        self.bytes() == received
    }
}

impl Default for DataDigest {
    fn default() -> DataDigest {
        DataDigest::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, "CRC Examples", and the check value of the CRC catalogue.
    #[test]
    fn known_vectors() {
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        for (bytes, crc) in [
            (&[0u8; 32][..], 0x8a91_36aa),
            (&[0xffu8; 32][..], 0x62a8_ab43),
            (&up[..], 0x46dd_794e),
            (&down[..], 0x113f_db5c),
            (&b"123456789"[..], 0xe306_9283),
            (&b""[..], 0),
        ] {
            assert_eq!(crc32c(bytes), crc);
            let mut digest = DataDigest::new();
            digest.update(bytes);
            assert_eq!(digest.value(), crc);
            assert!(digest.matches(crc.to_le_bytes()));
        }
    }

    /// Bit by bit, from the definition of the polynomial.
    fn slow(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
            })
        })
    }

    proptest::proptest! {
        #[test]
        fn pieces_agree_with_the_whole(bytes: Vec<u8>, cuts: [u16; 3]) {
            let mut digest = DataDigest::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (piece, tail) = rest.split_at(usize::from(cut) % (rest.len() + 1));
                digest.update(piece);
                rest = tail;
            }
            digest.update(rest);
            assert_eq!(digest.value(), slow(&bytes));
            assert_eq!(crc32c(&bytes), slow(&bytes));
        }
    }
}
