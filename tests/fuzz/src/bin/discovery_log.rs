//! Drives [`fuzz::discovery_log`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::discovery_log(bytes));
