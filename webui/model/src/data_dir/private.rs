//! A data directory is for one user: it is made so, and looked at before anything in it is trusted.

use super::{ACCESS_LOG_FILE, AUDIT_LOG_FILE};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Whether a file of this name in a data directory is the appliance's own, which nobody has as a
/// device.
pub fn is_own(name: &str) -> bool {
    let beginnings = [
        "state.json",
        "wanted.log",
        "tokens.json",
        "admin.token",
        "api.",
        AUDIT_LOG_FILE,
        ACCESS_LOG_FILE,
    ];
    name == "lock" || beginnings.iter().any(|beginning| name.starts_with(beginning))
}

/// Makes a data directory that only its owner enters; or looks whether the one that is there, and the
/// appliance's files in it, are this user's and no links, and closes to others what was open to them.
/// Returns what was closed, a sentence each.
///
/// # Errors
/// A sentence: what it is that cannot be trusted, and what to do.
pub fn claim(folder: &Path) -> Result<Vec<String>, String> {
    // Without a slash at its end: that would lead through a link.
    let folder: PathBuf = folder.components().collect();
    let shown = folder.display();
    let cannot = |error: io::Error| {
        format!("The data directory {shown} cannot be had: {error}. Give another with --data-dir.")
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(cannot)?;
    let found = fs::symlink_metadata(&folder).map_err(cannot)?;
    if found.is_symlink() {
        return Err(format!(
            "The data directory {shown} is a link: give --data-dir the folder that it leads to."
        ));
    }
    is_this_users(&format!("The data directory {shown}"), &found)?;
    let names = fs::read_dir(&folder).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
    });
    let names = names.map_err(cannot)?;
    let own: Vec<&str> = names.iter().filter_map(|n| n.to_str()).filter(|n| is_own(n)).collect();
    let mut closed = Vec::new();
    let mode = found.mode() & 0o7777;
    if mode & OTHERS != 0 {
        // Whoever means a folder that others use would shut them out.
        let empty = names.iter().all(|name| name == "lost+found");
        if own.is_empty() && !empty {
            return Err(format!(
                "The data directory {shown} is open to other users (mode {mode:03o}) and holds what \
                 is not the appliance's: give an empty one with --data-dir; or close it (chmod 700), if \
                 nobody else uses it."
            ));
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(cannot)?;
        closed.push(format!("The data directory {shown} was open to others (mode {mode:03o})."));
    }
    for name in own {
        closed.extend(claim_file(&folder.join(name))?);
    }
    Ok(closed)
}

/// Looks at a file of the appliance's own; the folder is closed already.
fn claim_file(path: &Path) -> Result<Option<String>, String> {
    let shown = path.display();
    let cannot = |error: io::Error| format!("{shown} cannot be had: {error}.");
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(cannot)?,
    };
    if found.is_symlink() {
        return Err(format!("{shown} is a link: put there what it leads to, or take it away."));
    }
    if found.file_type().is_socket() {
        // What was left by a process that was killed: it makes room for the next.
        return Ok(None);
    }
    if !found.is_file() {
        return Err(format!(
            "{shown} is not a file, and the appliance has one there: move it away."
        ));
    }
    is_this_users(&shown.to_string(), &found)?;
    let mode = found.mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(None);
    }
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(cannot)?;
    Ok(Some(format!("{shown} was open to others (mode {mode:03o}).")))
}

fn is_this_users(what: &str, found: &Metadata) -> Result<(), String> {
    let user = rustix::process::geteuid().as_raw();
    match found.uid() == user {
        true => Ok(()),
        false => Err(format!(
            "{what} belongs to user {}, and this process runs as user {user}: give it to that user \
             (chown), or start as the user that has it.",
            found.uid()
        )),
    }
}

/// Writes a file that only the owner reads, so that after a crash the old or the new content is there
/// as a whole. What is there instead of it or beside it, a link for one, is replaced and not followed.
///
/// # Errors
/// What the file system says.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_made_is_private_and_what_was_open_is_closed() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("a/b");
        assert_eq!(claim(&folder).unwrap(), [""; 0]);
        assert_eq!(mode(&folder), 0o700);
        set(&folder, 0o755);
        let state = folder.join("state.json");
        for name in ["state.json", "disk.img"] {
            fs::write(folder.join(name), "x").unwrap();
            set(&folder.join(name), 0o664);
        }
        let closed = claim(&folder).unwrap();
        assert!(closed.len() == 2 && closed[0].contains("mode 755"), "{closed:?}");
        assert!(closed[1].contains("state.json") && closed[1].contains("mode 664"), "{closed:?}");
        assert_eq!((mode(&folder), mode(&state)), (0o700, 0o600));
        // What is not the appliance's own is behind the closed door.
        assert_eq!(mode(&folder.join("disk.img")), 0o664);
        assert_eq!(claim(&folder).unwrap(), [""; 0]);
    }

    #[test]
    fn a_folder_that_others_use_is_not_shut() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("shared");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("letter"), "").unwrap();
        set(&folder, 0o1777);
        let why = claim(&folder).unwrap_err();
        assert!(why.contains("mode 1777") && why.contains("chmod 700"), "{why}");
        assert_eq!(mode(&folder), 0o1777);
        fs::remove_file(folder.join("letter")).unwrap();
        fs::create_dir(folder.join("lost+found")).unwrap();
        claim(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
    }

    #[test]
    fn links_and_strange_things_are_refused() {
        let outside = tempfile::tempdir().unwrap();
        let (folder, link) = (outside.path().join("data"), outside.path().join("link"));
        claim(&folder).unwrap();
        symlink(&folder, &link).unwrap();
        for through in [link.clone(), link.join(""), link.join(".")] {
            assert!(claim(&through).unwrap_err().contains("is a link"), "{through:?}");
        }
        let treasure = outside.path().join("treasure");
        fs::write(&treasure, "gold").unwrap();
        set(&treasure, 0o644);
        for name in ["state.json", "state.json.new", "tokens.json", "api.key", "admin.token"] {
            symlink(&treasure, folder.join(name)).unwrap();
            let why = claim(&folder).unwrap_err();
            assert!(why.contains(name) && why.contains("is a link"), "{why}");
            fs::remove_file(folder.join(name)).unwrap();
        }
        fs::create_dir(folder.join("lock")).unwrap();
        assert!(claim(&folder).unwrap_err().contains("is not a file"));
        assert_eq!(mode(&treasure), 0o644);
        let why = claim(&treasure).unwrap_err();
        assert!(why.contains("--data-dir"), "{why}");
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: only root can give something away.");
            return;
        }
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("data");
        claim(&folder).unwrap();
        let state = folder.join("state.json");
        write_private(&state, b"{}").unwrap();
        for path in [&state, &folder] {
            std::os::unix::fs::chown(path, Some(65534), None).unwrap();
            let why = claim(&folder).unwrap_err();
            assert!(why.contains("belongs to user 65534") && why.contains("as user 0"), "{why}");
            std::os::unix::fs::chown(path, Some(0), None).unwrap();
        }
        claim(&folder).unwrap();
    }

    #[test]
    fn a_private_file_takes_the_place_of_links() {
        let outside = tempfile::tempdir().unwrap();
        let (path, new) = (outside.path().join("api.url"), outside.path().join("api.url.new"));
        let treasure = outside.path().join("treasure");
        fs::write(&treasure, "gold").unwrap();
        symlink(&treasure, &path).unwrap();
        symlink(&treasure, &new).unwrap();
        write_private(&path, b"mine").unwrap();
        assert_eq!(fs::read_to_string(&treasure).unwrap(), "gold");
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("mine", 0o600));
        assert!(!new.exists());
    }
}
