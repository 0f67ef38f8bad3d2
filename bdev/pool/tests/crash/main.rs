//! A pool with volumes open on a reactor's stack: the real channel, keeper, store and format, over
//! devices whose power goes at every moment.

#[path = "../support/mod.rs"]
mod support;

mod disk;
mod life;
mod machine;
