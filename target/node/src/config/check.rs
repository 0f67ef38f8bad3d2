//! What a configuration must hold before anything is opened.

use super::{BdevConfig, BdevKind, Config, SubsystemConfig};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with a configuration, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

fn refuse<T>(sentence: String) -> Result<T, ConfigError> {
    Err(ConfigError(sentence))
}

/// Least DMA memory of a reactor: one buffer of each class would do, this keeps several hosts
/// going.
const MIN_MEMORY_BYTES: u64 = 16 << 20;

impl Config {
    /// Checks names, references, sizes and limits; nothing is opened.
    ///
    /// # Errors
    /// The first thing that is wrong, as a sentence.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_reactors()?;
        self.api.check().map_err(ConfigError)?;
        if [self.tcp.connections, self.tcp.connections_per_address].contains(&Some(0)) {
            return refuse("tcp.connections and tcp.connections_per_address are 1 or more.".into());
        }
        if self.tcp.stall_seconds == Some(0) {
            return refuse("tcp.stall_seconds is 1 or more.".into());
        }
        let mut names = BTreeMap::new();
        for bdev in &self.bdevs {
            check_bdev(bdev, &names)?;
            if names.insert(bdev.name.as_str(), bdev).is_some() {
                return refuse(format!("Two bdevs are called \"{}\": rename one.", bdev.name));
            }
        }
        let mut nqns = BTreeSet::new();
        let mut used = BTreeMap::new();
        for subsystem in &self.subsystems {
            check_subsystem(subsystem)?;
            if !nqns.insert(&subsystem.nqn) {
                return refuse(format!("Two subsystems are called {}.", subsystem.nqn));
            }
            check_namespaces(subsystem, &names, &mut used)?;
        }
        let mut addresses = BTreeSet::new();
        for listener in &self.listeners {
            let place = (listener.transport, listener.address);
            if listener.address.port() != 0 && !addresses.insert(place) {
                return refuse(format!("The listener {} is there twice.", listener.address));
            }
        }
        self.check_overlaps()
    }

    /// A listener on all addresses of a family stands in the way of one on a single address.
    fn check_overlaps(&self) -> Result<(), ConfigError> {
        for all in self.listeners.iter().filter(|listener| listener.address.ip().is_unspecified()) {
            for single in &self.listeners {
                let (all, one) = (all.at(), single.at());
                let together = all.transport == one.transport
                    && all.address.is_ipv4() == one.address.is_ipv4()
                    && all.address.port() == one.address.port()
                    && one.address.port() != 0;
                if together && all.address != one.address {
                    return refuse(format!(
                        "The listener {} takes in what comes to {}: leave one of them out.",
                        all.address, one.address
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_reactors(&self) -> Result<(), ConfigError> {
        let reactors = &self.reactors;
        let mut seen = BTreeSet::new();
        for core in &reactors.cores {
            if !seen.insert(core) {
                return refuse(format!("Core {core} is given to two reactors."));
            }
        }
        if reactors.cores.len() > bdev::limits::REACTORS {
            return refuse(format!("There can be at most {} reactors.", bdev::limits::REACTORS));
        }
        if let Some(memory) = reactors.memory
            && !(MIN_MEMORY_BYTES..=1 << 36).contains(&memory.0)
        {
            return refuse(format!(
                "reactors.memory is {memory}: give between 16MiB and 64GiB for each reactor."
            ));
        }
        Ok(())
    }
}

fn check_block(name: &str, block: u32) -> Result<(), ConfigError> {
    if block == 512 || block == 4096 {
        return Ok(());
    }
    refuse(format!("bdev \"{name}\" has blocks of {block} bytes: use 512 or 4096."))
}

fn check_size(name: &str, bytes: u64, block: u32) -> Result<(), ConfigError> {
    if bytes < u64::from(block) {
        return refuse(format!(
            "bdev \"{name}\" is {bytes} bytes long, less than one block of {block}: give a larger \
             size."
        ));
    }
    if bytes > 1 << 60 {
        return refuse(format!("bdev \"{name}\" is larger than 1 EiB: give a smaller size."));
    }
    if !bytes.is_multiple_of(u64::from(block)) {
        return refuse(format!(
            "bdev \"{name}\" is {bytes} bytes long, which is not a multiple of its block of \
             {block}."
        ));
    }
    Ok(())
}

fn check_bdev(bdev: &BdevConfig, known: &BTreeMap<&str, &BdevConfig>) -> Result<(), ConfigError> {
    let name = &bdev.name;
    if let Err(why) = name.parse::<webui_model::Name>() {
        return refuse(format!("A bdev: {why}"));
    }
    match &bdev.kind {
        BdevKind::Ram { size, block } | BdevKind::Null { size, block } => {
            check_block(name, *block)?;
            check_size(name, size.0, *block)
        }
        BdevKind::File { size, block, .. } => {
            check_block(name, *block)?;
            size.map_or(Ok(()), |size| check_size(name, size.0, *block))
        }
        BdevKind::Remote { nsid, subsystem, transport, header_digest, data_digest, .. } => {
            if !transport.is_tcp() && (*header_digest || *data_digest) {
                return refuse(format!(
                    "bdev \"{name}\": NVMe/RDMA has no digests; the network guards its packets \
                     itself."
                ));
            }
            if *nsid == 0 || *nsid > 0xffff_fffe {
                return refuse(format!("bdev \"{name}\": namespaces are numbered from 1."));
            }
            check_nqn(subsystem)
        }
        BdevKind::Nvme { .. } => Ok(()),
        BdevKind::Delay { base, .. } | BdevKind::Error { base, .. } => {
            if known.contains_key(base.as_str()) {
                return Ok(());
            }
            refuse(format!("bdev \"{name}\" stands on \"{base}\", which is not defined before it."))
        }
    }
}

/// Checks a name: `nqn.yyyy-mm.reverse.domain[:name]`, at most 223 bytes.
pub fn check_nqn(nqn: &str) -> Result<(), ConfigError> {
    let rest = nqn.strip_prefix("nqn.").unwrap_or("");
    let date = rest.as_bytes();
    let dated = date.len() > 8
        && date[4] == b'-'
        && date[7] == b'.'
        && [0, 1, 2, 3, 5, 6].iter().all(|i| date[*i].is_ascii_digit());
    if nqn.len() <= 223 && dated && !nqn.contains(char::is_whitespace) {
        return Ok(());
    }
    refuse(format!(
        "\"{nqn}\" is not a valid NQN: write it as nqn.2026-01.org.example:name, at most 223 \
         characters."
    ))
}

/// Checks the name of a host. One that is made of a UUID has a UUID: with anything else no host
/// would ever match.
fn check_host(nqn: &str) -> Result<(), ConfigError> {
    check_nqn(nqn)?;
    match nqn.parse::<webui_model::HostNqn>() {
        Ok(host) => host.check().map_err(ConfigError),
        Err(why) => refuse(why.to_string()),
    }
}

fn check_subsystem(subsystem: &SubsystemConfig) -> Result<(), ConfigError> {
    check_nqn(&subsystem.nqn)?;
    subsystem.hosts.iter().try_for_each(|host| check_host(host))?;
    if let Some(serial) = &subsystem.serial
        && (serial.len() > 20 || !serial.bytes().all(|b| (0x20..0x7f).contains(&b)))
    {
        return refuse(format!(
            "The serial \"{serial}\" of {} is not at most 20 ASCII characters.",
            subsystem.nqn
        ));
    }
    if !subsystem.hosts.is_empty() && subsystem.allow_any_host {
        return refuse(format!(
            "{} lists hosts and lets in any host: leave out hosts or allow_any_host.",
            subsystem.nqn
        ));
    }
    if subsystem.hosts.is_empty() && !subsystem.allow_any_host {
        return refuse(format!(
            "No host may connect to {}: list the NQNs of its hosts in hosts, or open it with \
             allow_any_host = true.",
            subsystem.nqn
        ));
    }
    Ok(())
}

fn check_namespaces<'a>(
    subsystem: &'a SubsystemConfig,
    bdevs: &BTreeMap<&str, &BdevConfig>,
    used: &mut BTreeMap<&'a str, &'a str>,
) -> Result<(), ConfigError> {
    let nqn = &subsystem.nqn;
    let mut nsids = BTreeSet::new();
    for namespace in &subsystem.namespaces {
        let name = namespace.bdev.as_str();
        if !bdevs.contains_key(name) {
            return refuse(format!("{nqn} has a namespace on \"{name}\", which is no bdev."));
        }
        if let Some(other) = used.insert(name, nqn) {
            return refuse(format!(
                "bdev \"{name}\" is a namespace of {other} and again of {nqn}: a bdev is exported \
                 once."
            ));
        }
        if let Some(nsid) = namespace.nsid
            && (nsid == 0 || nsid > nvmf::limits::NAMESPACES || !nsids.insert(nsid))
        {
            return refuse(format!(
                "{nqn}: namespace number {nsid} is used twice or not between 1 and {}.",
                nvmf::limits::NAMESPACES
            ));
        }
        if let Some(uuid) = &namespace.uuid
            && uuid::Uuid::parse_str(uuid).is_err()
        {
            return refuse(format!("{nqn}: \"{uuid}\" is not a UUID."));
        }
    }
    Ok(())
}
