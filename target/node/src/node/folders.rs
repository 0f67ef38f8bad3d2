//! Below which folders devices may be attached over the API: whoever has a token of it is not root.

use super::Devices;
use crate::config::Config;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use webui_model::{Refusal, RefusalKind, data_dir};

/// The device files of the kernel. What else lies below is memory that programs share.
const DEVICES: &str = "/dev";

impl Config {
    /// The folders that are allowed.
    pub fn device_folders(&self) -> Vec<PathBuf> {
        let listed = self.api.device_folders.clone();
        listed.unwrap_or_else(|| vec![DEVICES.into(), self.data_dir.clone()])
    }
}

/// Where a path leads, through links and `..`; that of a file that is not there yet by its folder.
fn leads_to(path: &Path) -> Option<PathBuf> {
    if let Ok(found) = path.canonicalize() {
        return Some(found);
    }
    // A link that leads nowhere is no place for a file.
    if path.symlink_metadata().is_ok() {
        return None;
    }
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

/// Whether what is at `place`, which leads through no link, may be attached.
fn is_below(place: &Path, folders: &[PathBuf]) -> bool {
    let is_block = || fs::metadata(place).is_ok_and(|found| found.file_type().is_block_device());
    folders.iter().any(|folder| {
        let found = folder.canonicalize().is_ok_and(|folder| place.starts_with(folder));
        found && (folder != Path::new(DEVICES) || is_block())
    })
}

/// Whether `place` is a file of the appliance's own.
fn is_own(place: &Path, data_dir: &Path) -> bool {
    let name = place.file_name().and_then(|name| name.to_str());
    let Ok(folder) = data_dir.canonicalize() else { return false };
    place.starts_with(folder.join(data_dir::HISTORY_FOLDER))
        || place.parent() == Some(&folder) && name.is_some_and(data_dir::is_own)
}

impl Devices<'_> {
    /// Refuses what is not below a folder that devices may be attached from.
    pub(super) fn check_folder(self, path: &Path) -> Result<(), Refusal> {
        let folders = self.node.config().device_folders();
        let place = leads_to(path);
        let allowed = place.is_some_and(|place| {
            is_below(&place, &folders) && !is_own(&place, &self.node.config().data_dir)
        });
        if allowed {
            return Ok(());
        }
        // As whoever asks can use them, wherever this process was started.
        let shown = |folder: &PathBuf| {
            std::path::absolute(folder).unwrap_or_else(|_| folder.clone()).display().to_string()
        };
        let folders: Vec<String> = folders.iter().map(shown).collect();
        let sentence = format!(
            "{} is not to be attached over the API, which takes block devices of /dev, and files, that \
             are not the appliance's own, below folders that the configuration lists: {}. List its \
             folder in device_folders of [api], or start with --device-folder.",
            path.display(),
            folders.join(", ")
        );
        Err(Refusal::new(RefusalKind::Forbidden, sentence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_counts_by_where_it_leads() {
        let outside = tempfile::tempdir().unwrap();
        let at = |name: &str| outside.path().join(name);
        for folder in ["disks", "disks/deep", "disks-too", "secret"] {
            fs::create_dir(at(folder)).unwrap();
        }
        for file in ["disks/a", "disks/deep/b", "disks-too/c", "secret/d"] {
            fs::write(at(file), "").unwrap();
        }
        symlink(at("secret"), at("disks/way-out")).unwrap();
        symlink(at("secret/d"), at("disks/link")).unwrap();
        symlink(at("nowhere"), at("disks/dangling")).unwrap();
        symlink(at("disks"), at("way-in")).unwrap();
        let folders = [at("disks")];
        let may = |name: &str| leads_to(&at(name)).is_some_and(|place| is_below(&place, &folders));
        for good in ["disks/a", "disks/deep/b", "disks/new", "secret/../disks/a", "way-in/a"] {
            assert!(may(good), "{good}");
        }
        for bad in [
            "disks/../secret/d",
            "disks/way-out/d",
            "disks/way-out/new",
            "disks/link",
            "disks/dangling",
            "disks-too/c",
            "secret/d",
            "disks/none/new",
            "disks/..",
            "",
        ] {
            assert!(!may(bad), "{bad}");
        }
        // A folder that is listed by a link is the one that it leads to.
        assert!(is_below(&at("disks/a"), &[at("way-in")]));
        assert!(!is_below(&at("disks/a"), &[at("missing")]));
    }

    #[test]
    fn of_dev_only_block_devices_count() {
        let dev = [PathBuf::from(DEVICES)];
        assert!(!is_below(Path::new("/dev/null"), &dev));
        let shared = tempfile::tempdir_in("/dev/shm").unwrap();
        let file = shared.path().join("memory");
        fs::write(&file, "of a program").unwrap();
        assert!(!is_below(&file, &dev));
        assert!(is_below(&file, &[dev[0].clone(), shared.path().to_owned()]));
    }

    #[test]
    fn the_appliances_own_files_are_no_devices() {
        let data = tempfile::tempdir().unwrap();
        let own = |name: &str| is_own(&data.path().canonicalize().unwrap().join(name), data.path());
        for name in
            ["history/minutes", "tokens.json", "state.json.new", "api.key", "audit.log.2", "lock"]
        {
            assert!(own(name), "{name}");
        }
        assert!(!own("disk.img") && !own("disks/state.json") && !own("historical.img"));
    }
}
