//! What the appliance's image needs beside the target: the first process, which brings the machine
//! up and minds the target; modules and network; and the two slots that updates go to.
#![forbid(unsafe_code)]

mod button;
mod clock;
mod devices;
mod first;
mod kmsg;
mod line;
mod modules;
mod mounts;
mod network;
mod partition;
mod service;
mod settings;
mod slots;
mod version;
mod watchdog;

pub use first::{Health, run};
pub use modules::modprobe;
pub use slots::{Installed, Slot, SlotState, Slots, UpdateError};

/// Whether this process is the first one of the machine.
pub fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Whether this machine runs the appliance's image.
pub fn is_appliance() -> bool {
    std::path::Path::new(mounts::KEY).exists() && std::path::Path::new(mounts::VERSION).exists()
}

/// The file that the image's target is configured by.
pub fn configuration() -> std::path::PathBuf {
    service::configured("forebay.toml")
}

/// Asks the first process of the image to stop everything, and then to start the machine anew or to
/// switch it off.
///
/// # Errors
/// A sentence: this is not the image, or this user may not.
pub fn end_machine(end: End) -> Result<(), String> {
    if !is_appliance() {
        return Err("This is not the appliance's image: end the machine as it was started.".into());
    }
    let signal = match end {
        End::Restart => rustix::process::Signal::INT,
        End::PowerOff => rustix::process::Signal::TERM,
    };
    rustix::process::kill_process(rustix::process::Pid::INIT, signal)
        .map_err(|error| format!("The first process cannot be told: {error}."))
}

/// How a machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It starts again.
    Restart,
    /// It is off.
    PowerOff,
}
