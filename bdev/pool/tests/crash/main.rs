//! A pool with volumes open on a reactor's stack: the real channel, keeper, store and format, over
//! devices whose power goes at every moment.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code)] // Power cuts follow.
mod disk;
mod life;
#[allow(dead_code)]
mod machine;
