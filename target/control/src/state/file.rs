//! The state file: replaced as a whole, durably, or not at all.

use super::{State, VERSION};
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};
use webui_model::data_dir::write_private;

/// Why the state cannot be read or kept, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateError(pub String);

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StateError {}

/// The state, and the file that it is kept in.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    state: State,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl StateFile {
    /// The name of the file in the data directory.
    pub const NAME: &str = "state.json";

    /// Reads the state in `folder`; an empty one if there is no file.
    ///
    /// # Errors
    /// A sentence: the file cannot be read, is damaged, or is of a newer version.
    pub fn open(folder: &Path) -> Result<StateFile, StateError> {
        let path = folder.join(Self::NAME);
        let state = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes).map_err(|why| {
                StateError(format!(
                    "The state file {} {why}. Put a copy of it back; or move it away to start with \
                     what the configuration declares, and import the pools again: what is in them \
                     is not lost.",
                    path.display()
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => {
                let path = path.display();
                return Err(StateError(format!("The state file {path} cannot be read: {error}.")));
            }
        };
        Ok(StateFile { path, state })
    }

    /// The state.
    pub fn get(&self) -> &State {
        &self.state
    }

    /// Changes the state. It is durable when this returns.
    ///
    /// # Errors
    /// A sentence; the state is as before then.
    pub fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        let mut next = self.state.clone();
        change(&mut next);
        if next == self.state {
            return Ok(());
        }
        self.write(&next).map_err(|error| {
            let path = self.path.display();
            StateError(format!("The state file {path} cannot be written: {error}."))
        })?;
        self.state = next;
        Ok(())
    }

    /// A power cut leaves the old file or the new one: the new one has its name only when it is
    /// durable.
    fn write(&self, state: &State) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(state)?;
        text.push(b'\n');
        write_private(&self.path, &text)
    }
}

fn parse(bytes: &[u8]) -> Result<State, String> {
    let damaged = |error: serde_json::Error| format!("is damaged: {error}");
    let Versioned { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(format!("is of version {version}, and this program knows {VERSION}"));
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{
        DevicePlace, KnownDevice, KnownNamespace, KnownPool, KnownSubsystem, Source,
    };
    use std::os::unix::fs::PermissionsExt;
    use uuid::Uuid;

    fn filled() -> State {
        let uuid = Uuid::from_u128(7);
        State {
            devices: vec![
                KnownDevice { name: "a".into(), place: DevicePlace::Path("/x/a.img".into()) },
                KnownDevice { name: "m".into(), place: DevicePlace::Memory(1 << 20) },
            ],
            pools: vec![KnownPool {
                name: "tank".into(),
                uuid,
                devices: vec!["a".into()],
                identities: [(Uuid::from_u128(8), "a file".into())].into(),
                discard: webui_model::DiscardMode::On,
            }],
            namespaces: vec![KnownNamespace {
                subsystem: "nqn.2026-01.org.example:a".into(),
                nsid: 3,
                uuid,
                source: Source::Volume { pool: "tank".into(), uuid, name: "v".into() },
            }],
            ..State::default()
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = StateFile::open(folder.path()).unwrap();
        assert_eq!(*file.get(), State::default());
        file.change(|state| *state = filled()).unwrap();
        assert_eq!(*StateFile::open(folder.path()).unwrap().get(), filled());
        let left: Vec<_> = folder.path().read_dir().unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_pool_that_goes_and_comes_has_its_exports_again_but_for_what_is_taken() {
        let uuid = Uuid::from_u128(7);
        let nqn = |name: &str| format!("nqn.2026-01.org.example:{name}");
        let subsystem = |name: &str, own| KnownSubsystem {
            nqn: nqn(name),
            own,
            hosts: vec!["nqn.2026-01.org.example:host".into()],
            allow_any_host: false,
        };
        let namespace = |of: &str, nsid, number, pool: &str| KnownNamespace {
            subsystem: nqn(of),
            nsid,
            uuid: Uuid::from_u128(number),
            source: Source::Volume {
                pool: pool.into(),
                uuid: Uuid::from_u128(number),
                name: format!("v{number}"),
            },
        };
        let mut state = filled();
        state.subsystems = vec![subsystem("own", true), subsystem("shared", false)];
        state.namespaces = vec![
            namespace("own", 1, 1, "tank"),
            namespace("shared", 1, 2, "tank"),
            namespace("shared", 2, 3, "other"),
            namespace("shared", 3, 4, "tank"),
        ];
        let mut there = state.clone();
        there.let_pool_go("tank");
        assert_eq!(there.namespaces, [namespace("shared", 2, 3, "other")]);
        assert_eq!(there.subsystems, [subsystem("shared", false)]);
        assert!(there.pools.is_empty());
        let text = serde_json::to_vec(&there).unwrap();
        let mut back = parse(&text).unwrap();
        back.pool_is_back(Uuid::from_u128(8), |_| false);
        assert_eq!(back, there, "another pool brings nothing back");
        back.namespaces.push(namespace("shared", 3, 5, "other"));
        back.pool_is_back(uuid, |_| false);
        let numbers: Vec<u32> = back.namespaces.iter().map(|known| known.nsid).collect();
        assert_eq!(numbers, [2, 3, 1, 1], "what has taken a place keeps it");
        assert_eq!(back.subsystems, [subsystem("shared", false), subsystem("own", true)]);
        assert!(back.gone.is_empty());
    }

    #[test]
    fn a_change_that_cannot_be_written_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = StateFile::open(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("state.json.new")).unwrap();
        let error = file.change(|state| *state = filled()).unwrap_err();
        assert!(error.0.contains("cannot be written"), "{error}");
        assert_eq!(*file.get(), State::default());
    }

    #[test]
    fn what_is_left_beside_it_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (treasure, next) = (folder.path().join("t"), folder.path().join("state.json.new"));
        std::fs::write(&treasure, "gold").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let mut file = StateFile::open(folder.path()).unwrap();
        std::os::unix::fs::symlink(&treasure, &next).unwrap();
        file.change(|state| *state = filled()).unwrap();
        assert_eq!(std::fs::read_to_string(&treasure).unwrap(), "gold");
        // One that a crash left, open to others.
        std::fs::write(&next, "{").unwrap();
        std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o666)).unwrap();
        file.change(|state| *state = State::default()).unwrap();
        assert_eq!(mode(&folder.path().join(StateFile::NAME)), 0o600);
    }

    #[test]
    fn torn_and_foreign_files_get_a_sentence() {
        let whole = serde_json::to_vec_pretty(&filled()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(StateFile::NAME);
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = StateFile::open(folder.path()).unwrap_err();
            assert!(error.0.contains("is damaged") && error.0.contains("state.json"), "{error}");
        }
        let newer = br#"{"version": 2, "devices": "otherwise"}"#;
        for (bytes, says) in [
            (&newer[..], "version 2"),
            (br#"{"version": 1, "colour": 3}"#, "colour"),
            (&[0; 4096], "is damaged"),
            (&[0xff; 64], "is damaged"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = StateFile::open(folder.path()).unwrap_err();
            assert!(error.0.contains(says), "{error}");
        }
    }
}
