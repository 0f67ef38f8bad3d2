//! The block devices of the process, by name.

use crate::config::{BdevConfig, BdevKind, ErrorRule};
use bdev::{Bdev, Op};
use bdev_mem::{Delay, DelaysNs, ErrorInjector, Meter, Null, OpSet, Ram, Rule, Times};
use bdev_uring::UringBdev;
use nvme_spec::Status;
use nvmf_host::{Host, RemoteBdev};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// One block device and who uses it.
struct Entry {
    bdev: Arc<dyn Bdev>,
    /// The same, counted: for whoever does not count by itself what it does.
    meter: Arc<Meter>,
    file: Option<Arc<UringBdev>>,
    config: BdevConfig,
    user: Option<String>,
}

/// Every block device, by name.
pub struct Bdevs {
    by_name: BTreeMap<String, Entry>,
    reactors: usize,
}

impl Bdevs {
    /// None yet; they will be opened on as many reactors.
    pub fn new(reactors: usize) -> Bdevs {
        Bdevs { by_name: BTreeMap::new(), reactors }
    }

    /// Opens what `config` describes.
    ///
    /// # Errors
    /// A sentence: the name is taken, the layer's base is missing or in use, or what the device
    /// itself says.
    pub fn add(&mut self, config: &BdevConfig) -> Result<(), String> {
        let name = &config.name;
        if self.by_name.contains_key(name) {
            return Err(format!("There is a bdev called \"{name}\" already."));
        }
        let mut file = None;
        let bdev = self.make(config, &mut file).map_err(|why| format!("bdev \"{name}\": {why}"))?;
        if let BdevKind::Delay { base, .. } | BdevKind::Error { base, .. } = &config.kind {
            self.claim(base, &format!("bdev \"{name}\""))?;
        }
        let meter = Arc::new(Meter::new(bdev.clone(), self.reactors));
        let entry = Entry { bdev, meter, file, config: config.clone(), user: None };
        self.by_name.insert(name.clone(), entry);
        Ok(())
    }

    fn make(
        &self,
        config: &BdevConfig,
        file: &mut Option<Arc<UringBdev>>,
    ) -> Result<Arc<dyn Bdev>, String> {
        let sentence = |error: bdev::OpenError| error.0;
        Ok(match &config.kind {
            BdevKind::Ram { size, block } => {
                let ram = Ram::new(size.0, *block).map_err(sentence)?;
                tracing::info!(bdev = config.name, pages = %ram.backing(), "ram");
                Arc::new(ram)
            }
            BdevKind::Null { size, block } => {
                Arc::new(Null::new(size.0, *block).map_err(sentence)?)
            }
            BdevKind::File { path, size, block } => {
                let opened = Arc::new(open_file(path, size.map(|s| s.0), *block)?);
                if let Some(why) = opened.buffered() {
                    tracing::warn!(bdev = config.name, why, "I/O goes through the page cache");
                }
                *file = Some(opened.clone());
                opened
            }
            BdevKind::Remote { .. } => remote(&config.kind)?,
            BdevKind::Delay { base, read_us, write_us } => {
                let other = write_us.saturating_mul(1000);
                let read = read_us.saturating_mul(1000);
                Arc::new(Delay::new(self.get(base)?, DelaysNs { read, ..DelaysNs::all(other) }))
            }
            BdevKind::Error { base, rules } => {
                let layer = ErrorInjector::new(self.get(base)?);
                for rule in rules {
                    layer.add(parse_rule(rule)?).map_err(sentence)?;
                }
                Arc::new(layer)
            }
        })
    }

    /// The block device `name`.
    ///
    /// # Errors
    /// A sentence, when there is none.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Bdev>, String> {
        let entry = self.by_name.get(name);
        entry.map(|e| e.bdev.clone()).ok_or_else(|| format!("There is no bdev called \"{name}\"."))
    }

    /// Gives the block device to one user.
    ///
    /// # Errors
    /// A sentence, when there is none or it has a user.
    pub fn claim(&mut self, name: &str, user: &str) -> Result<Arc<dyn Bdev>, String> {
        let entry = self
            .by_name
            .get_mut(name)
            .ok_or_else(|| format!("There is no bdev called \"{name}\"."))?;
        if let Some(other) = &entry.user {
            return Err(format!("bdev \"{name}\" is in use by {other}."));
        }
        entry.user = Some(user.into());
        Ok(entry.bdev.clone())
    }

    /// Takes the block device back from its user.
    pub fn release(&mut self, name: &str) {
        if let Some(entry) = self.by_name.get_mut(name) {
            entry.user = None;
        }
    }

    /// The block device `name` behind a layer that counts what is done through it.
    pub fn meter(&self, name: &str) -> Option<&Arc<Meter>> {
        self.by_name.get(name).map(|entry| &entry.meter)
    }

    /// The name of a block device.
    pub fn name_of(&self, bdev: &Arc<dyn Bdev>) -> Option<&str> {
        let found = self.by_name.iter().find(|(_, entry)| Arc::ptr_eq(&entry.bdev, bdev));
        found.map(|(name, _)| name.as_str())
    }

    /// Closes a block device that nobody uses.
    ///
    /// # Errors
    /// A sentence, when there is none or it has a user.
    pub fn remove(&mut self, name: &str) -> Result<(), String> {
        self.claim(name, "its removal")?;
        let entry = self.by_name.remove(name).expect("just claimed");
        if let BdevKind::Delay { base, .. } | BdevKind::Error { base, .. } = &entry.config.kind {
            self.release(base);
        }
        Ok(())
    }

    /// Looks at the size of a file or device again.
    ///
    /// # Errors
    /// A sentence, when there is none or its size cannot change or be told.
    pub fn rescan(&self, name: &str) -> Result<u64, String> {
        self.get(name)?;
        let file = self.by_name.get(name).and_then(|entry| entry.file.as_ref());
        let file = file.ok_or_else(|| format!("The size of bdev \"{name}\" cannot change."))?;
        file.rescan().map_err(|error| error.0)
    }

    /// Who uses a block device.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.by_name.get(name)?.user.as_deref()
    }

    /// What a block device was opened as.
    pub fn config(&self, name: &str) -> Option<&BdevConfig> {
        Some(&self.by_name.get(name)?.config)
    }

    /// Whether nothing can be learned by looking at its size again.
    pub fn has_fixed_size(&self, name: &str) -> bool {
        self.by_name.get(name).is_none_or(|entry| entry.file.is_none())
    }

    /// Files and devices of the kernel: name and path.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.by_name.iter().filter_map(|(name, entry)| match &entry.config.kind {
            BdevKind::File { path, .. } => Some((name.as_str(), path.as_path())),
            _ => None,
        })
    }

    /// Each with its name and its user.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn Bdev>, Option<&str>)> {
        self.by_name.iter().map(|(name, e)| (name.as_str(), &e.bdev, e.user.as_deref()))
    }
}

/// Opens a file or device; makes the file first when it is missing and a size is given.
fn open_file(path: &Path, bytes: Option<u64>, block_bytes: u32) -> Result<UringBdev, String> {
    let options = bdev_uring::Options { block_bytes, ..Default::default() };
    let result = match (path.exists(), bytes) {
        (false, Some(bytes)) => UringBdev::create(path, bytes, block_bytes),
        (false, None) => {
            return Err(format!(
                "{} does not exist: give a size to have it made, or the path of a file or block \
                 device.",
                path.display()
            ));
        }
        (true, _) => UringBdev::open(path, options),
    };
    let opened = result.map_err(|error| error.0)?;
    match bytes {
        Some(bytes) if path.is_file() && opened.geometry().bytes() != bytes => Err(format!(
            "{} is {} bytes long, not {bytes} as the configuration says: leave the size out, or \
             give the file's.",
            path.display(),
            opened.geometry().bytes()
        )),
        _ => Ok(opened),
    }
}

fn remote(kind: &BdevKind) -> Result<Arc<dyn Bdev>, String> {
    let BdevKind::Remote { address, subsystem, nsid, host, header_digest, data_digest } = kind
    else {
        unreachable!("called for a remote bdev");
    };
    let nqn = |text: &str| nvmf_wire::Nqn::new(text).map_err(|error| error.to_string());
    let mut as_host = Host::local();
    if let Some(name) = host {
        as_host.nqn = nqn(name)?;
    }
    let mut options = nvmf_host::Options::new(*address, nqn(subsystem)?, as_host);
    options.header_digest = *header_digest;
    options.data_digest = *data_digest;
    options.queues = bdev::limits::REACTORS as u16;
    let bdev = RemoteBdev::connect(options, *nsid).map_err(|error| error.to_string())?;
    Ok(Arc::new(bdev))
}

fn parse_rule(rule: &ErrorRule) -> Result<Rule, String> {
    let mut ops = OpSet::NONE;
    for name in &rule.ops {
        ops = ops.and(match name.as_str() {
            "read" => Op::Read,
            "write" => Op::Write,
            "write-zeroes" => Op::WriteZeroes,
            "deallocate" => Op::Deallocate,
            "flush" => Op::Flush,
            _ => {
                return Err(format!(
                    "\"{name}\" is no operation: use read, write, write-zeroes, deallocate or \
                     flush."
                ));
            }
        });
    }
    let [sct, sc] = rule.status;
    let status = Status::new(sct, sc);
    if sct > 7 || status.is_success() {
        return Err(format!("[{sct}, {sc}] is no error: give a status code type and a code."));
    }
    let lbas = rule.lba..rule.lba.saturating_add(rule.blocks);
    let times = rule.count.map_or(Times::Always, Times::First);
    Ok(Rule { ops, lbas, status, times })
}
