//! Kernel modules: what a device or the kernel asks for by an alias, with what it needs, by the
//! tables of depmod (`modules.dep`, `modules.alias`: see modules.dep(5)).

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The modules of the running kernel.
pub struct Modules {
    folder: PathBuf,
    /// By name, with underscores: its file, and those that it needs, the last one first.
    needs: HashMap<String, (String, Vec<String>)>,
    /// Pattern of an alias, and name.
    aliases: Vec<(String, String)>,
    /// By name: parameters, as the kernel wants them.
    parameters: HashMap<String, CString>,
}

impl Modules {
    /// Those of the running kernel.
    ///
    /// # Errors
    /// A sentence: there are no tables.
    pub fn of_this_kernel() -> Result<Modules, String> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Modules::in_folder(&Path::new("/lib/modules").join(release), &line)
    }

    /// `line`: the kernel's command line, where MODULE.PARAMETER=VALUE is for modules, too.
    fn in_folder(folder: &Path, line: &str) -> Result<Modules, String> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}.", path.display()))
        };
        let mut needs = HashMap::new();
        for line in read("modules.dep")?.lines() {
            let Some((file, others)) = line.split_once(':') else { continue };
            let others = others.split_ascii_whitespace().map(str::to_owned).collect();
            needs.insert(name_of(file), (file.to_owned(), others));
        }
        let aliases = read("modules.alias")?
            .lines()
            .filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '))
            .map(|(pattern, module)| (pattern.to_owned(), module.to_owned()))
            .collect();
        Ok(Modules { folder: folder.to_owned(), needs, aliases, parameters: parameters(line) })
    }

    /// Those of them whose file's path has `part` in it.
    pub fn of_kind(&self, part: &str) -> Modules {
        let is_one = |name: &String| self.needs.get(name).is_some_and(|one| one.0.contains(part));
        let aliases = self.aliases.iter().filter(|(_, name)| is_one(name)).cloned().collect();
        let (folder, needs) = (self.folder.clone(), self.needs.clone());
        Modules { folder, needs, aliases, parameters: self.parameters.clone() }
    }

    /// Names of the modules that `wanted`, a name or an alias, stands for.
    fn resolve(&self, wanted: &str) -> Vec<&str> {
        if let Some((name, _)) = self.needs.get_key_value(&wanted.replace('-', "_")) {
            return vec![name];
        }
        let fits = |pattern: &str| {
            matches(pattern.as_bytes(), wanted.as_bytes())
                || pattern.replace('-', "_") == wanted.replace('-', "_")
        };
        self.aliases.iter().filter(|(p, _)| fits(p)).map(|(_, name)| name.as_str()).collect()
    }

    /// Loads what a name or an alias stands for, if anything does. Says how many modules that is.
    ///
    /// # Errors
    /// A sentence: what the kernel said of the last module that it refused.
    pub fn load(&self, wanted: &str) -> Result<usize, String> {
        let names = self.resolve(wanted);
        let mut refused = None;
        for name in &names {
            refused = self.load_one(name).err().or(refused);
        }
        refused.map_or(Ok(names.len()), Err)
    }

    fn load_one(&self, name: &str) -> Result<(), String> {
        let Some((file, others)) = self.needs.get(&name.replace('-', "_")) else {
            return Err(format!("{name}: there is no such module"));
        };
        for file in others.iter().rev().chain([file]) {
            let path = self.folder.join(file);
            let opened = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let parameters = self.parameters.get(&name_of(file)).map_or(c"", CString::as_c_str);
            match rustix::system::finit_module(&opened, parameters, 0) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(format!("{}: {error}", name_of(file))),
            }
        }
        Ok(())
    }
}

/// Parameters of modules on the kernel's command line, by module.
fn parameters(line: &str) -> HashMap<String, CString> {
    let mut all: HashMap<String, String> = HashMap::new();
    for word in line.split_ascii_whitespace() {
        let (name, _) = word.split_once('=').unwrap_or((word, ""));
        let Some((module, _)) = name.split_once('.') else { continue };
        let of_module = all.entry(module.replace('-', "_")).or_default();
        of_module.push_str(&word[module.len() + 1..]);
        of_module.push(' ');
    }
    // A text of words has no zero in it: the kernel's line ends at the first.
    all.into_iter().filter_map(|(name, text)| Some((name, CString::new(text).ok()?))).collect()
}

/// `kernel/drivers/net/virtio_net.ko` is `virtio_net`.
fn name_of(file: &str) -> String {
    let last = file.rsplit('/').next().unwrap_or(file);
    last.split('.').next().unwrap_or(last).replace('-', "_")
}

/// Whether a shell pattern fits: `*`, `?` and `[...]`, as in aliases of modules.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    // Where to go on when the text after the last star does not fit: one character later.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(at), text.get(place)) {
            (Some(b'*'), _) => {
                retry = Some((at + 1, place));
                at += 1;
                continue;
            }
            (None, None) => return true,
            (Some(b'?'), Some(_)) => Some(1),
            (Some(b'['), Some(&byte)) => class(&pattern[at..], byte),
            (Some(one), Some(byte)) if one == byte => Some(1),
            _ => None,
        };
        match (step, retry) {
            (Some(length), _) => (at, place) = (at + length, place + 1),
            (None, Some((after, from))) if from < text.len() => {
                retry = Some((after, from + 1));
                (at, place) = (after, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// The length of the class that `pattern` starts with, if `byte` is in it.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|&one| one == b']')?;
    let mut inside = &pattern[1..end];
    let mut found = false;
    while let Some((&low, rest)) = inside.split_first() {
        inside = match rest {
            [b'-', high, rest @ ..] => {
                found |= (low..=*high).contains(&byte);
                rest
            }
            _ => {
                found |= low == byte;
                rest
            }
        };
    }
    found.then_some(end + 1)
}

/// The kernel's `modprobe -q -- NAME`: what it asks for when it needs a module. Returns the exit
/// status.
pub fn modprobe(arguments: impl Iterator<Item = String>) -> u8 {
    let wanted: Vec<String> = arguments.filter(|word| !word.starts_with('-')).collect();
    let Ok(modules) = Modules::of_this_kernel() else { return 1 };
    let loaded = |name: &String| matches!(modules.load(name), Ok(count) if count > 0);
    u8::from(!wanted.iter().all(loaded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn aliases_are_patterns() {
        let fits = [
            ("pci:v00008086d*sv*sd*bc*sc*i*", "pci:v00008086d00001533sv1sd2bc02sc00i00"),
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4"),
            ("usb:v0[0-3A]*", "usb:v0A12"),
            ("*", ""),
            ("a*b*c", "aXbYbZc"),
        ];
        for (pattern, text) in fits {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a*c", "ab"), ("[0-3]", "4"), ("[0", "0"), ("?", "")]
        {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn names_and_aliases_lead_to_modules() {
        let folder = tempfile::tempdir().unwrap();
        let dep =
            "kernel/a-b.ko: kernel/c.ko kernel/d.ko\nkernel/c.ko: kernel/d.ko\nkernel/d.ko:\n";
        std::fs::write(folder.path().join("modules.dep"), dep).unwrap();
        let aliases = "# Aliases\nalias pci:v01* a_b\nalias fs-d d\nalias pci:v0* c\n";
        std::fs::write(folder.path().join("modules.alias"), aliases).unwrap();
        let modules = Modules::in_folder(folder.path(), "").unwrap();
        assert_eq!(modules.resolve("a-b"), ["a_b"]);
        assert_eq!(modules.resolve("a_b"), ["a_b"]);
        assert_eq!(modules.resolve("pci:v01"), ["a_b", "c"]);
        assert_eq!(modules.resolve("fs-d"), ["d"]);
        assert!(modules.resolve("nothing").is_empty());
        assert!(
            modules.load("a-b").unwrap_err().contains("kernel/d.ko"),
            "what it needs comes first"
        );
        assert_eq!(modules.load("nothing"), Ok(0));
    }

    #[test]
    fn parameters_are_those_of_the_command_line() {
        let line =
            "quiet i6300esb.heartbeat=10 ip=10.0.0.5::10.0.0.1 a-b.c=d=e a_b.f forebay.slot=b";
        let all = parameters(line);
        let of = |name: &str| all.get(name).map(|text| text.to_str().unwrap().trim_end());
        assert_eq!(of("i6300esb"), Some("heartbeat=10"));
        assert_eq!(of("a_b"), Some("c=d=e f"));
        assert_eq!((of("ip"), of("10"), of("quiet")), (None, None, None));
    }

    proptest! {
        /// Against the definition, by recursion.
        #[test]
        fn patterns_fit_as_defined(pattern in "[ab?*]{0,8}", text in "[ab]{0,8}") {
            fn fits(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.split_first(), text.split_first()) {
                    (None, left) => left.is_none(),
                    (Some((b'*', rest)), _) => (0..=text.len()).any(|n| fits(rest, &text[n..])),
                    (Some((one, rest)), Some((byte, left))) => {
                        (*one == b'?' || one == byte) && fits(rest, left)
                    }
                    (Some(_), None) => false,
                }
            }
            prop_assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                fits(pattern.as_bytes(), text.as_bytes())
            );
        }

        #[test]
        fn any_pattern_is_read(pattern in proptest::collection::vec(any::<u8>(), 0..40), text in proptest::collection::vec(any::<u8>(), 0..40)) {
            matches(&pattern, &text);
        }
    }
}
