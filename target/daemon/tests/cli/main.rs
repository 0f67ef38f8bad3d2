//! The command line over the REST API: the shipped binary against the real server, in front of the
//! appliance in memory of the API's own tests.

// The appliance has more doors than are used here.
#[allow(dead_code)]
#[path = "../../../../webui/api/tests/api/appliance/mod.rs"]
mod appliance;
mod asking;
mod completion;
mod declaring;
mod every;
mod jobs;
mod proxy;
mod reaching;
mod rig;
mod shown;
mod streams;
