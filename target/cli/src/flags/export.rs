//! Flags that say who may connect.

use clap::Args;
use webui_model::{ExportSet, HostNqn, Nqn};

/// How something is exported. Without any flag: in a subsystem of its own to which nobody may
/// connect.
#[derive(Args, Clone)]
pub struct ExportFlags {
    /// A host that may connect (repeatable).
    #[arg(long, value_name = "NQN")]
    pub host: Vec<HostNqn>,
    /// Let any host connect. Needs a token with the role admin.
    #[arg(long, conflicts_with = "host")]
    pub allow_any_host: bool,
    /// A subsystem that is there, to export it in.
    #[arg(long, value_name = "NQN", conflicts_with_all = ["host", "allow_any_host"])]
    pub subsystem: Option<Nqn>,
}

impl ExportFlags {
    /// As the API has it.
    pub fn set(self) -> ExportSet {
        ExportSet {
            subsystem: self.subsystem,
            hosts: self.host,
            allow_any_host: self.allow_any_host,
        }
    }
}
