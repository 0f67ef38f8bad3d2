//! The rules under random requests: what was refused changed nothing, what is wanted is whole, what
//! runs becomes what is wanted, also over crashes.

mod crashes;
mod differences;
mod edits;
mod plans;
mod sentences;
mod world;
