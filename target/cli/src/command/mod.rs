//! What the command line can do, one file for each thing that it speaks of.

mod alert;
mod api_server;
mod appliance;
mod audit;
mod connect_info;
mod controller;
mod declaration;
mod device;
mod drive;
mod event;
mod history;
mod host;
mod job;
mod listener;
mod member;
mod namespace;
mod pool;
mod remote;
mod snapshot;
mod stats;
mod status;
mod subsystem;
mod token;
mod top;
mod ui;
mod volume;

use clap::Subcommand;
use webui_client::Failure;

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Show how the appliance is, and what somebody should look at.
    Status(status::StatusArgs),
    /// Make, import, export and delete pools; add and drain their devices.
    Pool(pool::PoolArgs),
    /// Make, resize, limit, export, roll back and delete volumes.
    Volume(Box<volume::VolumeArgs>),
    /// Take, clone, export and delete snapshots.
    Snapshot(snapshot::SnapshotArgs),
    /// Attach and detach devices; take drives from the kernel's driver and give them back.
    Device(device::DeviceArgs),
    /// Make and delete subsystems.
    Subsystem(subsystem::SubsystemArgs),
    /// Add namespaces to subsystems, or remove them.
    Namespace(namespace::NamespaceArgs),
    /// Let hosts connect, or not.
    Host(host::HostArgs),
    /// Show the hosts' controllers that are connected.
    Controllers(controller::ControllersArgs),
    /// Listen for hosts on addresses, or not.
    Listener(listener::ListenerArgs),
    /// Print the lines to type on a host, to connect to a volume.
    ConnectInfo(connect_info::ConnectInfoArgs),
    /// Show what the appliance does, live.
    Top(top::TopArgs),
    /// Show how an object performed over time.
    History(history::HistoryArgs),
    /// Show the counters of reactors, transports and queues.
    Stats(stats::StatsArgs),
    /// Show, wait for and cancel jobs.
    Jobs(job::JobsArgs),
    /// Show what happened, or happens.
    Events(event::EventsArgs),
    /// Show what somebody should look at.
    Alerts(alert::AlertsArgs),
    /// Make what a file declares so.
    Apply(declaration::ApplyArgs),
    /// Print what is there, as a file for `forebay apply`.
    Export(declaration::ExportArgs),
    /// Update, restart and switch off a machine that runs the appliance's image.
    Appliance(appliance::ApplianceArgs),
    /// Have the API's certificate and the configuration file read again.
    Api(api_server::ApiArgs),
    /// Print a link that opens the appliance's page in a browser, signed in.
    Ui(ui::UiArgs),
    /// Make and revoke tokens of the API.
    Token(token::TokenArgs),
    /// Show who changed what.
    Audit(audit::AuditArgs),
    /// Ask a target what it exports.
    Discover(remote::discover::DiscoverArgs),
    /// Show a remote controller and its namespaces.
    Identify(remote::identify::IdentifyArgs),
    /// Write, read or verify a pattern on a remote namespace.
    Io(remote::io::IoArgs),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// Why it is not done.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Command::Status(args) => status::run(args),
            Command::Pool(args) => pool::run(args),
            Command::Volume(args) => volume::run(*args),
            Command::Snapshot(args) => snapshot::run(args),
            Command::Device(args) => device::run(args),
            Command::Subsystem(args) => subsystem::run(args),
            Command::Namespace(args) => namespace::run(args),
            Command::Host(args) => host::run(args),
            Command::Controllers(args) => controller::run(args),
            Command::Listener(args) => listener::run(args),
            Command::ConnectInfo(args) => connect_info::run(args),
            Command::Top(args) => top::run(args),
            Command::History(args) => history::run(args),
            Command::Stats(args) => stats::run(args),
            Command::Jobs(args) => job::run(args),
            Command::Events(args) => event::run(args),
            Command::Alerts(args) => alert::run(args),
            Command::Apply(args) => declaration::apply(args),
            Command::Export(args) => declaration::export(args),
            Command::Appliance(args) => appliance::run(args),
            Command::Api(args) => api_server::run(args),
            Command::Ui(args) => ui::run(args),
            Command::Token(args) => token::run(args),
            Command::Audit(args) => audit::run(args),
            Command::Discover(args) => Ok(remote::discover::discover(&args)?),
            Command::Identify(args) => Ok(remote::identify::identify(&args)?),
            Command::Io(args) => Ok(remote::io::io(&args)?),
        }
    }
}
