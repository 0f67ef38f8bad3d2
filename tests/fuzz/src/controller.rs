//! Hosts that do anything, against the request machine of the target: whole capsules, in any
//! order, with connections and namespaces that come and go.
//!
//! Beyond not panicking: every command is answered once, under its own identifier, with no more
//! data than it described; and when the hosts are gone, nothing is left of them.

mod disk;
mod input;
mod script;
mod transport;
mod world;

use input::Input;
use world::World;

/// Plays `bytes` as a script of what hosts, time and the administrator do.
pub fn controller(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new();
    while let Some(step) = input.step() {
        script::play(step, &mut input, &mut world);
    }
    world.drain();
}
