//! Drives [`fuzz::connect_data`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::connect_data(bytes));
