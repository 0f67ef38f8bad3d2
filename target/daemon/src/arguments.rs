//! What the program is called with.

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use node::config::{ApiAddress, PollMode};
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
    /// What asks an appliance or a target.
    #[command(flatten)]
    Ask(Box<cli::command::Command>),
    /// Print a script that completes these commands in a shell.
    Completion {
        /// The shell.
        #[arg(value_enum)]
        shell: ShellArg,
    },
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

/// How to run the target. Without any option nothing is exported until it is asked for, and hosts are
/// listened for on loopback.
#[derive(Args, Clone, Default)]
#[command(group(ArgGroup::new("exported").multiple(true).args(["ram", "null", "file", "demo"])))]
pub struct ServeArgs {
    /// TOML file with devices, subsystems, listeners and hosts.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where its state, tokens, audit log and socket live.
    #[arg(long, value_name = "DIR", env = "FOREBAY_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Listen here instead (repeatable).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Serve discovery alone here (repeatable), as hosts expect on port 8009.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub discovery: Vec<SocketAddr>,
    /// Serve the API here, 127.0.0.1:4480 unless given; `off`: only on the socket in the data
    /// directory, which there always is.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub api: Option<ApiAddress>,
    /// A name or address that the API is reached by (repeatable): for its certificate, and the only
    /// names that are answered beside localhost.
    #[arg(long, value_name = "NAME")]
    pub api_name: Vec<String>,
    /// Devices may be attached over the API from below this folder, too (repeatable). Without it and
    /// without a list in the configuration: /dev and the data directory.
    #[arg(long, value_name = "DIR")]
    pub device_folder: Vec<PathBuf>,
    /// Print the secret of the first administrator's token also where the output is no terminal: it
    /// is then wherever that goes.
    #[arg(long)]
    pub show_token: bool,
    /// Export something to try: a sparse file of 1 GiB in the data directory, to any host of this
    /// machine. Listens on loopback only.
    #[arg(long, conflicts_with_all = ["config", "ram", "null", "file"])]
    pub demo: bool,
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
    #[arg(long, value_name = "NQN", conflicts_with = "config", requires = "exported")]
    pub nqn: Option<String>,
    /// A host that may connect (repeatable); any host unless given.
    #[arg(long, value_name = "NQN", conflicts_with = "config", requires = "exported")]
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
