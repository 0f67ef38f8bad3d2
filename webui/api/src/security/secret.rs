//! Secrets: made, hashed, compared.

use crate::clock::World;

/// Bytes of a secret: nobody guesses 256 bits, so one round of a hash is enough to keep it.
const SECRET_BYTES: usize = 32;

/// A new secret in hexadecimal digits.
pub(super) fn draw(world: &dyn World) -> String {
    let mut bytes = [0; SECRET_BYTES];
    world.fill_random(&mut bytes);
    hex(&bytes)
}

/// What a token starts with, so that it is known for one wherever it turns up.
pub(super) const MARK: &str = "forebay_";
/// What secrets start with: ours, and those of hosts (NVMe Base Specification, DH-HMAC-CHAP; NVMe
/// TCP Transport Specification, TLS).
const MARKS: [&str; 3] = [MARK, "DHHC-1:", "NVMeTLSkey-1:"];
/// A secret goes on for longer than a name does after its mark.
const LEAST: usize = 16;

/// A text without the secrets that somebody has put into it by mistake.
pub(crate) fn without_secrets(text: &str) -> String {
    MARKS.iter().fold(text.to_owned(), |text, mark| without(&text, mark))
}

fn without(text: &str, mark: &str) -> String {
    let mut parts = text.split(mark);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let of_secret = |c: char| c.is_ascii_alphanumeric() || (mark != MARK && "+/=:".contains(c));
        let rest = part.trim_start_matches(of_secret);
        clean.push_str(mark);
        match part.len() - rest.len() {
            0..LEAST => clean.push_str(part),
            _ => clean.extend(["***", rest]),
        }
    }
    clean
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a text, in hexadecimal digits.
pub(super) fn hash(text: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

/// Whether two texts are equal, in a time that does not tell where they differ.
pub(super) fn equal(a: &str, b: &str) -> bool {
    let differs = a.bytes().zip(b.bytes()).fold(0, |sum, (x, y)| sum | (x ^ y));
    a.len() == b.len() && differs == 0
}
