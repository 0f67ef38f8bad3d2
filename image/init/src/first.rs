//! The first process: brings the machine up, minds the target, and takes the machine down again.
//! It does little itself, so that it does not end: the kernel ends with it.

use crate::line::Line;
use crate::modules::Modules;
use crate::network::Networks;
use crate::service::{self, Service};
use crate::settings::Settings;
use crate::watchdog::Watchdog;
use crate::{End, button, clock, devices, kmsg, mounts, partition, slots};
use rustix::system::{RebootCommand, reboot};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Whether the target works, asked of the target itself; a sentence if not.
pub type Health = fn() -> Result<(), String>;

/// How often it is looked what is due.
const TURN: Duration = Duration::from_secs(2);
/// How long the machine may take until the target is started, each turn after that, and the end
/// once the target has ended.
const START: Duration = Duration::from_secs(300);
const ALIVE: Duration = Duration::from_secs(60);
const FINISH: Duration = Duration::from_secs(180);
/// Disks and NICs take their time, on large machines.
const DISK_PATIENCE: Duration = Duration::from_secs(20);
const NETWORK_PATIENCE: Duration = Duration::from_secs(10);
/// Devices of networks are looked for so long.
const LINK_PATIENCE: Duration = Duration::from_secs(300);
/// How long the target must answer before an update counts as good.
const HEALTHY_FOR: Duration = Duration::from_secs(5);
/// How long an update may take until then, unless the command line says otherwise.
const TRIAL: Duration = Duration::from_secs(300);
/// Ends of the target that an update may have until then.
const TRIAL_CRASHES: u32 = 3;
/// How long the target may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(90);

/// What the first process is told.
enum Event {
    /// A child has ended.
    Child,
    /// The machine is to end.
    End(End),
    /// The target has answered for long enough.
    Healthy,
}

/// Runs the machine; `health` asks the target how it is.
pub fn run(health: Health) -> ! {
    if let Err(why) = mounts::early() {
        eprintln!("forebay: {why}");
    }
    open_console();
    let (sender, events) = channel();
    let listening = listen(sender.clone());
    let watchdog = Watchdog::start(START);
    let modules = load_modules(&watchdog);
    let line = Line::read(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    for word in &line.wrong {
        complain(&format!("{word} of the command line is not understood"));
    }
    if let Some(trouble) = partition::mount_config(DISK_PATIENCE) {
        complain(&trouble);
    }
    service::note_kernel_crash();
    if modules.is_none() || listening.is_err() {
        complain("there are no modules or no signals: this image is broken");
    }
    let networks = settle(&line);
    let pressed = sender.clone();
    button::watch(move || drop(pressed.send(Event::End(End::PowerOff))));
    let end = Mind { events, sender, networks, watchdog, health, line }.until_the_end();
    finish(end)
}

/// Standard streams on the console, whatever the kernel gave.
fn open_console() {
    let Ok(console) = fs::File::options().read(true).write(true).open("/dev/console") else {
        return;
    };
    let streams = [
        rustix::stdio::dup2_stdin(&console),
        rustix::stdio::dup2_stdout(&console),
        rustix::stdio::dup2_stderr(&console),
    ];
    if streams.iter().any(Result::is_err) {
        kmsg::write(kmsg::WARNING, "the console cannot be used");
    }
}

fn complain(text: &str) {
    kmsg::write(kmsg::WARNING, text);
}

/// Signals become events. The keys that would reset the machine end it in order.
fn listen(sender: Sender<Event>) -> Result<(), std::io::Error> {
    let _ = reboot(RebootCommand::CadOff);
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM])?;
    let listen = move || {
        for signal in signals.forever() {
            let event = match signal {
                SIGCHLD => Event::Child,
                SIGINT => Event::End(End::Restart),
                _ => Event::End(End::PowerOff),
            };
            if sender.send(event).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen).map(drop)
}

/// Modules that are always loaded, and those for the devices of the machine: its watchdog first.
fn load_modules(watchdog: &Watchdog) -> Option<Arc<Modules>> {
    let modules = Arc::new(Modules::of_this_kernel().map_err(|why| complain(&why)).ok()?);
    devices::settle(&modules.of_kind("/watchdog/"));
    watchdog.arm();
    if let Err(why) = devices::watch(Arc::clone(&modules)) {
        complain(&why);
    }
    let always = fs::read_to_string(mounts::MODULES).unwrap_or_default();
    for name in always.lines() {
        if let Err(why) = modules.load(name) {
            complain(&format!("module {name}: {why}"));
        }
    }
    devices::settle(&modules);
    // One that a bus brought, or one of the kernel's own.
    if !watchdog.arm() {
        let loaded = modules.load("softdog");
        if !watchdog.arm() {
            complain(&format!("there is no watchdog: {loaded:?}"));
        }
    }
    mounts::late();
    Some(modules)
}

/// Name, networks, log and time, as they are configured.
fn settle(line: &Line) -> Arc<Networks> {
    let text = fs::read_to_string(service::configured("appliance.toml")).unwrap_or_default();
    let (settings, wrong) = Settings::read(&text);
    if let Some(why) = wrong {
        complain(&why);
    }
    let settings = settings.with(line);
    let hostname = settings.hostname.clone().unwrap_or_else(|| "forebay".into());
    if let Err(error) = rustix::system::sethostname(hostname.as_bytes()) {
        complain(&format!("the name {hostname} is none: {error}"));
    }
    let networks = Networks::start(&settings, hostname.clone(), LINK_PATIENCE);
    // Who is asked before there is an address is asked again only after a while.
    networks.wait(NETWORK_PATIENCE);
    if let Some(server) = &settings.syslog
        && let Err(why) = kmsg::forward(server, &hostname)
    {
        complain(&why);
    }
    let (given, known) = (settings.ntp.clone(), Arc::clone(&networks));
    clock::keep(move || {
        let leased = known.time_servers().into_iter().map(|server| server.to_string());
        given.iter().cloned().chain(leased).collect()
    });
    networks
}

/// The first process once the machine is up.
struct Mind {
    events: Receiver<Event>,
    sender: Sender<Event>,
    networks: Arc<Networks>,
    watchdog: Watchdog,
    health: Health,
    line: Line,
}

impl Mind {
    /// Addresses that the API is reached by.
    fn names(&self) -> Vec<String> {
        self.networks.addresses().into_iter().map(|(_, address)| address.to_string()).collect()
    }

    fn until_the_end(self) -> (End, Watchdog) {
        self.introduce();
        let trial = slots::on_trial().unwrap_or_else(|why| {
            complain(&why);
            false
        });
        if trial {
            kmsg::console("This image is tried: it is kept once it works.");
        }
        ask_for_health(self.health, self.sender.clone());
        let mut service = match Service::start(&self.names()) {
            Ok(service) => service,
            Err(why) => {
                kmsg::console(&why);
                return (End::Restart, self.watchdog);
            }
        };
        let (mut trial, begun, mut again) = (trial, Instant::now(), None);
        let limit = self.line.trial.unwrap_or(TRIAL);
        let end = loop {
            self.watchdog.expect(ALIVE);
            match self.events.recv_timeout(TURN) {
                Ok(Event::End(end)) => break end,
                Ok(Event::Healthy) => trial &= !keep(trial),
                Ok(Event::Child) => {
                    if let Some(status) = service.reap() {
                        again = Some(Instant::now() + service.crashed(status));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender"),
            }
            if trial && (begun.elapsed() > limit || service.crashes >= TRIAL_CRASHES) {
                kmsg::console("This image does not work: the machine goes back to the one before.");
                break End::Restart;
            }
            if again.is_some_and(|at| Instant::now() >= at) {
                again = None;
                if let Err(why) = service.restart(&self.names()) {
                    complain(&why);
                    again = Some(Instant::now() + Duration::from_secs(10));
                }
            }
        };
        kmsg::console(match end {
            End::Restart => "Stopping, to start again.",
            End::PowerOff => "Stopping.",
        });
        service.stop(STOP_PATIENCE, || self.watchdog.expect(ALIVE));
        self.watchdog.expect(FINISH);
        (end, self.watchdog)
    }

    /// What somebody at the console wants to know first.
    fn introduce(&self) {
        let version = fs::read_to_string(mounts::VERSION).unwrap_or_default();
        let slot = self.line.slot.as_deref().map_or(String::new(), |slot| format!(", slot {slot}"));
        kmsg::console(&format!("\nForebay {}{slot}", version.trim()));
        let addresses = self.networks.addresses();
        for (device, address) in &addresses {
            kmsg::console(&format!("{device} has the address {address}"));
        }
        if addresses.is_empty() {
            kmsg::console("No network has an address yet.");
        }
    }
}

/// Keeps the image that is being tried. Returns whether it is.
fn keep(trial: bool) -> bool {
    if !trial {
        return true;
    }
    match slots::keep_running() {
        Ok(()) => {
            kmsg::console("This image works and is kept.");
            true
        }
        Err(why) => {
            complain(&why);
            false
        }
    }
}

/// Asks the target again and again, until it has answered for long enough.
fn ask_for_health(health: Health, sender: Sender<Event>) {
    let ask = move || {
        let mut since = None;
        loop {
            std::thread::sleep(Duration::from_millis(500));
            match health() {
                Ok(()) => {
                    let since: &mut Instant = since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= HEALTHY_FOR && sender.send(Event::Healthy).is_ok() {
                        return;
                    }
                }
                Err(_) => since = None,
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("health".into()).spawn(ask) {
        complain(&format!("the target's health cannot be asked for: {error}"));
    }
}

/// Ends the machine. What is still mounted is read only before, and the disks have it.
fn finish((end, watchdog): (End, Watchdog)) -> ! {
    rustix::fs::sync();
    let still = rustix::mount::unmount(mounts::CONFIG, rustix::mount::UnmountFlags::empty());
    if let Err(error) = still {
        complain(&format!("the configuration partition stays mounted: {error}"));
        let read_only = rustix::mount::MountFlags::RDONLY;
        let _ = rustix::mount::mount_remount(mounts::CONFIG, read_only, "");
        rustix::fs::sync();
    }
    let command = match end {
        End::Restart => RebootCommand::Restart,
        End::PowerOff => {
            // It may take longer than the watchdog waits; a machine that is on by mistake is worse.
            watchdog.disarm();
            RebootCommand::PowerOff
        }
    };
    let ended = reboot(command);
    kmsg::console(&format!("The machine does not end: {ended:?}."));
    loop {
        std::thread::park();
    }
}
