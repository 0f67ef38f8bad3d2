//! Configuration, life cycle of bdevs, subsystems and listeners; messages to reactors.
