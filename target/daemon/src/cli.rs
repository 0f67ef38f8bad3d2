//! The command line.

use crate::client;
use clap::{Args, Parser, Subcommand, ValueEnum};
use control::config::{ApiAddress, PollMode};
use std::net::SocketAddr;
use std::path::PathBuf;
use webui_model::Size;

/// The storage appliance in front of the GPUs: an NVMe over Fabrics target in user space.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the target.
    Serve(Box<ServeArgs>),
    /// Show how the appliance is, and what somebody should look at.
    Status(client::status::StatusArgs),
    /// Make, import, export and delete pools; add and drain their devices.
    Pool(client::pool::PoolArgs),
    /// Make, resize, limit, export, roll back and delete volumes.
    Volume(Box<client::volume::VolumeArgs>),
    /// Take, clone, export and delete snapshots.
    Snapshot(client::snapshot::SnapshotArgs),
    /// Attach and detach devices; take drives from the kernel's driver and give them back.
    Device(client::device::DeviceArgs),
    /// Make and delete subsystems.
    Subsystem(client::subsystem::SubsystemArgs),
    /// Add namespaces to subsystems, or remove them.
    Namespace(client::namespace::NamespaceArgs),
    /// Let hosts connect, or not.
    Host(client::host::HostArgs),
    /// Show the hosts' controllers that are connected.
    Controllers(client::controllers::ControllersArgs),
    /// Listen for hosts on addresses, or not.
    Listener(client::listener::ListenerArgs),
    /// Print the lines to type on a host, to connect to a volume.
    ConnectInfo(client::connect_info::ConnectInfoArgs),
    /// Show what the appliance does, live.
    Top(client::top::TopArgs),
    /// Show, wait for and cancel jobs.
    Jobs(client::job::JobsArgs),
    /// Show what happened, or happens.
    Events(client::events::EventsArgs),
    /// Show what somebody should look at.
    Alerts(client::alerts::AlertsArgs),
    /// Make what a file declares so.
    Apply(client::apply::ApplyArgs),
    /// Print what is there, as a file for `forebay apply`.
    Export(client::apply::ExportArgs),
    /// Update, restart and switch off a machine that runs the appliance's image.
    Appliance(client::appliance::ApplianceArgs),
    /// Make and revoke tokens of the API.
    Token(client::token::TokenArgs),
    /// Show who changed what.
    Audit(client::audit::AuditArgs),
    /// Print a script that completes these commands in a shell.
    Completion {
        /// The shell.
        #[arg(value_enum)]
        shell: ShellArg,
    },
    /// Show the counters of a running target.
    Stats(StatsArgs),
    /// Ask a target what it exports.
    Discover(DiscoverArgs),
    /// Show a remote controller and its namespaces.
    Identify(IdentifyArgs),
    /// Write, read or verify a pattern on a remote namespace.
    Io(IoArgs),
}

/// A shell.
#[derive(Clone, Copy, ValueEnum)]
pub enum ShellArg {
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

impl From<ShellArg> for clap_complete::Shell {
    fn from(shell: ShellArg) -> clap_complete::Shell {
        match shell {
            ShellArg::Bash => clap_complete::Shell::Bash,
            ShellArg::Zsh => clap_complete::Shell::Zsh,
            ShellArg::Fish => clap_complete::Shell::Fish,
        }
    }
}

/// How to run the target. Without any option: a file-backed namespace in the data directory, on
/// loopback.
#[derive(Args, Default)]
pub struct ServeArgs {
    /// TOML file with devices, subsystems, listeners and hosts.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the control socket and the default namespace live.
    #[arg(long, value_name = "DIR", env = "FOREBAY_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Path of the control socket.
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Listen here instead (repeatable).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Serve discovery alone here (repeatable), as hosts expect on port 8009.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub discovery: Vec<SocketAddr>,
    /// Serve the API here; `off`: nowhere. 127.0.0.1:4480 unless given.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub api: Option<ApiAddress>,
    /// A name or address that the API is reached by, for its certificate (repeatable).
    #[arg(long, value_name = "NAME")]
    pub api_name: Vec<String>,
    /// Export memory of this size (repeatable).
    #[arg(long, value_name = "SIZE", conflicts_with = "config")]
    pub ram: Vec<Size>,
    /// Export a namespace that keeps nothing (repeatable).
    #[arg(long, value_name = "SIZE", conflicts_with = "config")]
    pub null: Vec<Size>,
    /// Export a file or block device (repeatable); with a size, a missing file is made.
    #[arg(long, value_name = "PATH[=SIZE]", conflicts_with = "config")]
    pub file: Vec<String>,
    /// Bytes in a block of what --ram, --null and --file export: 512 or 4096.
    #[arg(long, default_value_t = 4096, conflicts_with = "config")]
    pub block: u32,
    /// Name of the subsystem that exports them.
    #[arg(long, value_name = "NQN", conflicts_with = "config")]
    pub nqn: Option<String>,
    /// A host that may connect (repeatable); any host unless given.
    #[arg(long, value_name = "NQN", conflicts_with = "config")]
    pub host: Vec<String>,
    /// Cores to run on, one reactor each: 0,1 or 0-3. Without: every core, not pinned.
    #[arg(long, value_name = "CORES")]
    pub cores: Option<String>,
    /// What idle reactors do.
    #[arg(long, value_enum)]
    pub poll: Option<PollArg>,
    /// Congestion control of the sockets, such as cubic or reno.
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<String>,
    /// DMA memory of each reactor; a size that fits the machine unless given, at most 128MiB.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Log as JSON, one object a line.
    #[arg(long)]
    pub log_json: bool,
}

/// What idle reactors do.
#[derive(Clone, Copy, ValueEnum)]
pub enum PollArg {
    /// Spin always.
    Busy,
    /// Spin for a while, then sleep.
    Adaptive,
}

impl From<PollArg> for PollMode {
    fn from(arg: PollArg) -> PollMode {
        match arg {
            PollArg::Busy => PollMode::Busy,
            PollArg::Adaptive => PollMode::Adaptive,
        }
    }
}

/// Which running target to ask.
#[derive(Args)]
pub struct Target {
    /// The data directory of the target.
    #[arg(long, value_name = "DIR", env = "FOREBAY_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// The control socket of the target.
    #[arg(long, value_name = "PATH", global = true)]
    pub control: Option<PathBuf>,
}

impl Target {
    /// The control socket to talk to.
    pub fn path(&self) -> PathBuf {
        let default = control::config::default_data_dir;
        let socket = || self.data_dir.clone().unwrap_or_else(default).join("control.sock");
        self.control.clone().unwrap_or_else(socket)
    }
}

/// What to show.
#[derive(Args)]
pub struct StatsArgs {
    /// For programs.
    #[arg(long)]
    pub json: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub target: Target,
}

/// A fabric by which a target is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fabric {
    /// NVMe/TCP.
    Tcp,
    /// NVMe/RDMA, by the RDMA devices of this machine.
    Rdma,
}

/// Whom to connect to and as whom.
#[derive(Args)]
pub struct Remote {
    /// Address of the target: host:port.
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// The fabric.
    #[arg(long, value_enum, default_value_t = Fabric::Tcp)]
    pub transport: Fabric,
    /// NQN to connect as; this machine's unless given.
    #[arg(long, value_name = "NQN")]
    pub hostnqn: Option<String>,
    /// Header digests; TCP only.
    #[arg(long)]
    pub hdr_digest: bool,
    /// Data digests; TCP only.
    #[arg(long)]
    pub data_digest: bool,
    /// Congestion control of the sockets; TCP only.
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<String>,
}

/// Whom to ask for what they export.
#[derive(Args)]
pub struct DiscoverArgs {
    /// Whom.
    #[command(flatten)]
    pub remote: Remote,
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

/// What to show of a remote controller.
#[derive(Args)]
pub struct IdentifyArgs {
    /// Whom.
    #[command(flatten)]
    pub remote: Remote,
    /// The subsystem.
    #[arg(long, value_name = "NQN")]
    pub nqn: String,
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

/// A pattern on a remote namespace.
#[derive(Args)]
pub struct IoArgs {
    /// Write the pattern, read without looking, or read and compare with the pattern.
    #[arg(value_enum)]
    pub action: IoAction,
    /// Whom.
    #[command(flatten)]
    pub remote: Remote,
    /// The subsystem.
    #[arg(long, value_name = "NQN")]
    pub nqn: String,
    /// The namespace.
    #[arg(long, default_value_t = 1)]
    pub nsid: u32,
    /// First byte, a multiple of the block size.
    #[arg(long, default_value = "0")]
    pub offset: Size,
    /// Bytes; all of the namespace unless given.
    #[arg(long)]
    pub length: Option<Size>,
    /// Bytes of each operation, up to 1 MiB.
    #[arg(long, default_value = "128KiB")]
    pub size: Size,
    /// Operations under way at once.
    #[arg(long, default_value_t = 32)]
    pub depth: u32,
    /// What the pattern is made from: verify with the seed it was written with.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What to do with the blocks.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum IoAction {
    /// Write the pattern.
    Write,
    /// Read.
    Read,
    /// Read and compare with the pattern.
    Verify,
}
