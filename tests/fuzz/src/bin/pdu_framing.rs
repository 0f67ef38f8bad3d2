//! Drives [`fuzz::pdu_framing`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::pdu_framing(bytes));
