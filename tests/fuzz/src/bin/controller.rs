//! Drives [`fuzz::controller`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::controller(bytes));
