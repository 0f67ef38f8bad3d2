//! Drives [`fuzz::capsules`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::capsules(bytes));
