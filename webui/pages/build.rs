//! Takes the files of the page that were built into `webui/web/dist`, if they were, and lists them. They are
//! copied: the page may be built again while this is compiled.
#![allow(missing_docs, reason = "a build script")]

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The files of a folder and of those in it, by their paths below it.
fn files(folder: &Path, below: &str, found: &mut Vec<(String, PathBuf)>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        match path.is_dir() {
            true => files(&path, &format!("{below}{name}/"), found),
            false => found.push((format!("{below}{name}"), path)),
        }
    }
}

fn main() {
    let source = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let dist = Path::new(&source).join("../web/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut found = Vec::new();
    files(&dist, "/", &mut found);
    found.sort();
    // Without the part that names all others the page was not built.
    let built = found.iter().any(|(name, _)| name == "/index.html");
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    let out = Path::new(&out);
    let mut copies = 0;
    let mut include = |path: &Path| {
        copies += 1;
        let copy = out.join(format!("file-{copies}"));
        fs::copy(path, &copy).expect("what is listed can be read");
        format!("include_bytes!({:?})", copy.display().to_string())
    };
    let mut list = String::from("&[\n");
    for (name, path) in found.iter().filter(|(name, _)| built && !name.contains("/.")) {
        if name.ends_with(".gz") {
            continue;
        }
        let packed = found.iter().find(|(other, _)| *other == format!("{name}.gz"));
        let packed =
            packed.map_or("None".to_owned(), |(_, path)| format!("Some({})", include(path)));
        list.push_str(&format!("    ({name:?}, {}, {packed}),\n", include(path)));
    }
    list.push_str("]\n");
    fs::write(out.join("files.rs"), list).expect("cargo's folder can be written to");
}
