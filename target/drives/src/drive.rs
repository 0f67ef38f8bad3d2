//! One drive that is driven here, and its namespaces as block devices.

use crate::bind::Consent;
use crate::host::Host;
use crate::place::DrivePlace;
use crate::smart::in_words;
use bdev::{Bdev, Channel, Discards, Geometry, OpenCx, OpenError};
use bdev_nvme::{
    Answer, Controller, Hardware, Health, NvmeBdev, Options, Request, RequestError, Ticket,
};
use nvme_spec::log::SmartLog;
use reactor::thread;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use vfio::{Access, PciAddress, UioFunction, VfioFunction};
use webui_model::NvmeDrive;
use zerocopy::FromBytes;

/// What a drive gets to come up, longer than controllers say that they take, and to shut down.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the health log is read, in ns.
const HEALTH_NS: u64 = 30_000_000_000;

/// Vectors that are asked for: one a reactor, and one for the admin queue.
const VECTORS: u16 = bdev::limits::REACTORS as u16 + 1;

/// Which namespace is wanted, and on what terms.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The namespace.
    pub place: DrivePlace,
    /// How it is reached.
    pub access: Access,
    /// How far taking it may go.
    pub consent: Consent,
    /// The serial number that the drive has to have.
    pub serial: Option<String>,
}

/// One drive that is taken.
pub struct Drive {
    pub(crate) address: PciAddress,
    access: Access,
    numa_node: Option<u32>,
    /// What VFIO gave, which can come back after it was taken out.
    function: Option<Arc<VfioFunction>>,
    pub(crate) controller: Controller,
    log: Mutex<HealthLog>,
    /// How often it came back.
    returns: AtomicU64,
    /// Why it did not come back when it was last tried.
    absence: Mutex<Option<String>>,
}

/// The health log that was read last, and when the next is due.
#[derive(Default)]
struct HealthLog {
    due_ns: u64,
    asked: Option<Ticket>,
    log: Option<SmartLog>,
}

/// A namespace of a drive; the drive is kept as long as this is.
pub struct DriveBdev {
    pub(crate) bdev: NvmeBdev,
    pub(crate) drive: Arc<Drive>,
}

impl Bdev for DriveBdev {
    fn geometry(&self) -> Geometry {
        self.bdev.geometry()
    }

    fn discards(&self) -> Discards {
        self.bdev.discards()
    }

    fn power_session(&self) -> u64 {
        self.drive.power_cycles()
    }

    fn identity(&self) -> Option<String> {
        let (model, serial) = self.drive.names();
        let namespace = self.bdev.identity();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let own = namespace.nguid.map(|id| hex(&id));
        let own = own.or(namespace.eui64.map(|id| hex(&id))).unwrap_or_default();
        Some(format!("drive {model} {serial} namespace {} {own}", namespace.nsid))
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        self.bdev.open(cx)
    }
}

impl DriveBdev {
    /// The drive that it is a namespace of.
    pub fn drive(&self) -> &Arc<Drive> {
        &self.drive
    }
}

impl Drive {
    /// Brings the controller of the drive at `address` up, which the driver for `access` has.
    ///
    /// # Errors
    /// A sentence's end: it cannot be opened, or does not become ready.
    pub(crate) fn start(
        host: &Host,
        address: PciAddress,
        access: Access,
        numa_node: Option<u32>,
    ) -> Result<Drive, String> {
        let (hardware, function): (Arc<dyn Hardware>, _) = match access {
            Access::Vfio => {
                let function = Arc::new(VfioFunction::open(host.sysfs(), address, VECTORS)?);
                (function.clone(), Some(function))
            }
            Access::UnsafeNoIommu => {
                tracing::warn!(%address, "no IOMMU keeps this drive from memory that is not its own");
                (Arc::new(UioFunction::open(host.sysfs(), address)?), None)
            }
        };
        let controller = Controller::new(hardware, Options::default()).map_err(|error| error.0)?;
        let (log, absence, returns) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        let drive =
            Drive { address, access, numa_node, function, controller, log, returns, absence };
        drive.wait(|health| *health != Health::Starting);
        match drive.controller.health() {
            Health::Ready => {
                // How often it was switched on has to be known before it is used.
                drive.look_after(thread::clock_ns());
                let until = Instant::now() + PATIENCE;
                while drive.is_asked() && Instant::now() < until {
                    drive.look_after(thread::clock_ns());
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(drive)
            }
            Health::Dead(why) => Err(format!("drive {address} cannot be used: {why}")),
            _ => Err(format!("drive {address} does not become ready")),
        }
    }

    /// Takes it again where it is there again, if it is the one that it was as far as the kernel can
    /// tell, which knows its serial number; the driver looks too.
    ///
    /// # Errors
    /// A sentence's end: it is another one, or cannot be taken.
    pub(crate) fn regain(&self, host: &Host, serial: Option<&str>) -> Result<(), String> {
        let Some(function) = &self.function else {
            return Err("without an IOMMU it is not taken again".to_owned());
        };
        let (_, own) = self.names();
        if let Some(serial) = serial.filter(|serial| *serial != own) {
            return Err(format!(
                "another drive is there: its serial number is {serial}, not {own}"
            ));
        }
        let bound = host.bind(self.address, self.access, Consent::Known);
        bound.map_err(|error| error.to_string())?;
        function.reopen(host.sysfs(), self.address)?;
        self.controller.reset(thread::clock_ns());
        self.returns.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it is what is wanted.
    pub(crate) fn check(&self, wanted: &Wanted) -> Result<(), String> {
        let Drive { address, access, .. } = self;
        if *access != wanted.access {
            return Err(format!("drive {address} is in use through {} already", access.driver()));
        }
        let serial = self.controller.identity().map(|identity| identity.serial).unwrap_or_default();
        match &wanted.serial {
            Some(expected) if *expected != serial => Err(format!(
                "another drive is at {address}: its serial number is {serial}, not {expected}"
            )),
            _ => Ok(()),
        }
    }

    /// Polls until the controller is as `ended` says, for as long as [`PATIENCE`].
    fn wait(&self, ended: impl Fn(&Health) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !ended(&self.controller.health()) && Instant::now() < until {
            self.controller.poll(thread::clock_ns());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The answer to an admin command; waits for it, for as long as [`PATIENCE`].
    pub(crate) fn ask(&self, request: Request) -> Answer {
        let ticket = self.controller.ask(request);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            self.controller.poll(thread::clock_ns());
            if let Some(answer) = self.controller.answer(ticket) {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(RequestError::NotDone("the drive does not answer".to_owned()))
    }

    /// Polls it, and reads its health log when that is due.
    pub(crate) fn look_after(&self, now_ns: u64) {
        self.controller.poll(now_ns);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = log.asked.and_then(|ticket| self.controller.answer(ticket)) {
            log.asked = None;
            match answer {
                Ok(data) => log.log = SmartLog::read_from_bytes(&data).ok(),
                Err(why) => tracing::warn!(address = %self.address, %why, "no health log"),
            }
        }
        if log.asked.is_none() && now_ns >= log.due_ns && self.health() == Health::Ready {
            log.asked = Some(self.controller.ask(Request::smart_log()));
            log.due_ns = now_ns.saturating_add(HEALTH_NS);
            self.controller.poll(now_ns);
        }
    }

    /// Whether an answer with the health log is still to come.
    fn is_asked(&self) -> bool {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).asked.is_some()
    }

    /// How often it was switched on, as the health log says; 0 without one.
    fn power_cycles(&self) -> u64 {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.log.as_ref().map_or(0, |log| log.power_cycles.get() as u64)
    }

    /// Notes how taking it again ended; says so once.
    pub(crate) fn note_absence(&self, ended: Result<(), String>) {
        let mut absence = self.absence.lock().unwrap_or_else(PoisonError::into_inner);
        match &ended {
            Ok(()) => tracing::info!(address = %self.address, "the drive is there again"),
            Err(why) if absence.as_ref() != Some(why) => {
                tracing::warn!(address = %self.address, why, "the drive cannot be taken again");
            }
            Err(_) => {}
        }
        *absence = ended.err();
    }

    /// How often it was taken out and came back.
    pub fn returns(&self) -> u64 {
        self.returns.load(Ordering::Relaxed)
    }

    /// Why it does nothing, if that is so.
    pub fn failure(&self) -> Option<String> {
        let Health::Dead(why) = self.health() else { return None };
        let absence = self.absence.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match &*absence {
            Some(more) => format!("{why}, and {more}"),
            None => why.to_string(),
        })
    }

    /// Where its controller is in its life.
    pub fn health(&self) -> Health {
        self.controller.health()
    }

    /// Model and serial number.
    pub fn names(&self) -> (String, String) {
        let identity = self.controller.identity();
        identity.map(|identity| (identity.model, identity.serial)).unwrap_or_default()
    }

    /// What there is to say of it.
    pub fn describe(&self) -> NvmeDrive {
        let counts = self.controller.counts();
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        NvmeDrive {
            driver: self.access.driver().to_owned(),
            numa_node: self.numa_node,
            firmware: self.controller.identity().map(|i| i.firmware).unwrap_or_default(),
            health: log.log.as_ref().map(in_words),
            resets: counts.resets,
            timeouts: counts.timeouts,
            errors: counts.errors,
        }
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.controller.shut_down(thread::clock_ns());
        self.wait(|health| matches!(health, Health::Dead(_)));
    }
}
