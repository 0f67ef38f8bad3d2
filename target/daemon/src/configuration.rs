//! What `forebay serve` is told, from a file and from flags.

use crate::arguments::ServeArgs;
use node::config::{
    BdevConfig, BdevKind, Config, DEFAULT_NQN, ListenerConfig, NamespaceConfig, SubsystemConfig,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use webui_model::{Size, data_dir};

/// The configuration from a file or from flags; flags that say where and how to run win over the
/// file. Without either nothing is exported: what is wanted is asked for later.
///
/// # Errors
/// A sentence: what is wrong, and what to do.
pub fn configuration(args: &ServeArgs) -> Result<Config, String> {
    let data_dir = args.data_dir.clone().unwrap_or_else(data_dir::default);
    let mut config = match &args.config {
        Some(path) => Config::from_file(path).map_err(|error| error.0)?,
        None if has_devices(args) => from_flags(args, data_dir.clone())?,
        None if args.demo => demo(args, data_dir.clone()),
        None => Config::plain(data_dir.clone()),
    };
    if args.data_dir.is_some() {
        config.data_dir = data_dir;
    }
    if !args.listen.is_empty() || !args.discovery.is_empty() {
        config.listeners = listeners(&args.listen, &args.discovery);
    }
    if config.listeners.is_empty() {
        config.listeners = Config::plain(PathBuf::new()).listeners;
    }
    if args.demo {
        check_demo(&config)?;
    }
    if let Some(cores) = &args.cores {
        config.reactors.cores = parse_cores(cores)?;
    }
    if let Some(poll) = args.poll {
        config.reactors.poll = poll.into();
    }
    if let Some(address) = args.api {
        config.api.address = address;
    }
    let given = std::mem::take(&mut config.api.names);
    config.api.names = args.api_name.iter().cloned().chain(given).collect();
    if !args.device_folder.is_empty() {
        let listed = config.device_folders().into_iter();
        config.api.device_folders = Some(listed.chain(args.device_folder.clone()).collect());
    }
    if let Some(memory) = args.memory {
        config.reactors.memory = Some(memory);
    }
    if let Some(congestion) = &args.congestion {
        config.tcp.congestion = congestion.clone();
    }
    config.check().map_err(|error| error.0)?;
    Ok(config)
}

fn has_devices(args: &ServeArgs) -> bool {
    !(args.ram.is_empty() && args.null.is_empty() && args.file.is_empty())
}

fn listeners(everything: &[SocketAddr], discovery: &[SocketAddr]) -> Vec<ListenerConfig> {
    let listener =
        |discovery_only| move |address: &SocketAddr| ListenerConfig::tcp(*address, discovery_only);
    everything.iter().map(listener(false)).chain(discovery.iter().map(listener(true))).collect()
}

fn name_subsystem(subsystem: &mut SubsystemConfig, args: &ServeArgs) {
    if let Some(nqn) = &args.nqn {
        subsystem.nqn = nqn.clone();
    }
    subsystem.hosts = args.host.clone();
    subsystem.allow_any_host = args.host.is_empty();
}

/// Something to try.
fn demo(args: &ServeArgs, data_dir: PathBuf) -> Config {
    let mut config = Config::demo(data_dir);
    name_subsystem(&mut config.subsystems[0], args);
    config
}

/// What is there to be tried is for this machine only.
fn check_demo(config: &Config) -> Result<(), String> {
    let elsewhere = config.listeners.iter().find(|listener| !listener.address.ip().is_loopback());
    elsewhere.map_or(Ok(()), |listener| {
        Err(format!(
            "--demo exports what any host may write to, so it listens on loopback only: leave out {}, \
             or name what to export (--file, --ram) instead of --demo.",
            listener.address
        ))
    })
}

/// One subsystem with a namespace for each device named.
fn from_flags(args: &ServeArgs, data_dir: PathBuf) -> Result<Config, String> {
    let block = args.block;
    let mut kinds: Vec<(&str, BdevKind)> = Vec::new();
    kinds.extend(args.ram.iter().map(|size| ("ram", BdevKind::Ram { size: *size, block })));
    kinds.extend(args.null.iter().map(|size| ("null", BdevKind::Null { size: *size, block })));
    for text in &args.file {
        let (path, size) = match text.rsplit_once('=') {
            Some((path, size)) => (path, Some(size.parse::<Size>()?)),
            None => (text.as_str(), None),
        };
        kinds.push(("file", BdevKind::File { path: path.into(), size, block }));
    }
    let mut config = Config::plain(data_dir);
    let mut subsystem = SubsystemConfig {
        nqn: DEFAULT_NQN.into(),
        serial: None,
        hosts: Vec::new(),
        allow_any_host: true,
        namespaces: Vec::new(),
    };
    name_subsystem(&mut subsystem, args);
    for (place, (what, kind)) in kinds.into_iter().enumerate() {
        let name = format!("{what}{place}");
        let nsid = Some(place as u32 + 1);
        subsystem.namespaces.push(NamespaceConfig { bdev: name.clone(), nsid, uuid: None });
        config.bdevs.push(BdevConfig { name, kind });
    }
    config.subsystems = vec![subsystem];
    Ok(config)
}

/// Cores as people write them: `0,2` or `0-3`.
fn parse_cores(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("\"{text}\" is no list of cores: write it as 0,1 or 0-3.");
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: usize = from.trim().parse().map_err(|_| wrong())?;
        let to: usize = to.trim().parse().map_err(|_| wrong())?;
        if from > to || to >= 4096 {
            return Err(wrong());
        }
        cores.extend(from..=to);
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_read_as_written() {
        assert_eq!(parse_cores("0").unwrap(), [0]);
        assert_eq!(parse_cores("0,2-4").unwrap(), [0, 2, 3, 4]);
        for text in ["", "a", "3-1", "0-", "-1", "0-99999"] {
            assert!(parse_cores(text).unwrap_err().contains("is no list of cores"), "{text}");
        }
    }

    #[test]
    fn flags_make_a_configuration() {
        let args = ServeArgs {
            ram: vec![Size(1 << 20)],
            file: vec!["a.img=1GiB".into(), "b.img".into()],
            block: 512,
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            api_name: vec!["node-a.example".into()],
            host: vec!["nqn.2026-01.org.example:h".into()],
            ..ServeArgs::default()
        };
        let config = configuration(&args).unwrap();
        let names: Vec<_> = config.bdevs.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names, ["ram0", "file1", "file2"]);
        assert_eq!(config.subsystems[0].hosts, args.host);
        assert!(!config.subsystems[0].allow_any_host);
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.api.names, ["node-a.example"]);
        let wrong =
            ServeArgs { file: vec!["a.img=big".into()], block: 512, ..ServeArgs::default() };
        assert!(configuration(&wrong).unwrap_err().contains("is no size"));
    }

    #[test]
    fn without_flags_nothing_is_exported() {
        let listen = vec!["0.0.0.0:4420".parse().unwrap()];
        for listen in [Vec::new(), listen] {
            let data_dir = Some("data".into());
            let config = configuration(&ServeArgs { data_dir, listen, ..ServeArgs::default() });
            let config = config.unwrap();
            assert!(config.bdevs.is_empty() && config.subsystems.is_empty(), "{config:?}");
        }
    }

    #[test]
    fn what_is_to_be_tried_is_on_loopback() {
        let data_dir = || Some("data".into());
        let demo = |listen: &[&str]| {
            let listen = listen.iter().map(|at| at.parse().unwrap()).collect();
            let args =
                ServeArgs { demo: true, data_dir: data_dir(), listen, ..ServeArgs::default() };
            configuration(&args)
        };
        assert_eq!(demo(&[]).unwrap(), Config::demo("data".into()));
        assert_eq!(demo(&["[::1]:4420", "127.0.0.2:1"]).unwrap().bdevs.len(), 1);
        for listen in [&["0.0.0.0:4420"][..], &["127.0.0.1:1", "[::]:2"], &["10.0.0.1:4420"]] {
            assert!(demo(listen).unwrap_err().contains("loopback only"), "{listen:?}");
        }
    }
}
