//! What the tests share.

#![allow(dead_code)] // Each test uses its part.

pub mod chance;
pub mod tape;
