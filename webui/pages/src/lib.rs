//! The page for browsers, as `webui/web` was built when the binary was; without that, a page that says
//! how to get it.
#![forbid(unsafe_code)]

use std::sync::Arc;
use webui_api::{Page, Pages};

/// A file: its path, its content, and the same as gzip packs it.
type File = (&'static str, &'static [u8], Option<&'static [u8]>);

const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));
const NOT_BUILT: &[File] = &[("/index.html", include_bytes!("not-built.html"), None)];

struct Embedded {
    files: &'static [File],
}

/// The page of this binary.
pub fn pages() -> Arc<dyn Pages> {
    Arc::new(Embedded { files: if FILES.is_empty() { NOT_BUILT } else { FILES } })
}

impl Pages for Embedded {
    fn page(&self, path: &str) -> Option<Page> {
        let wanted = if path == "/" { "/index.html" } else { path };
        let (path, content, gzip) = *self.files.iter().find(|(path, ..)| *path == wanted)?;
        // What is below assets has the hash of its content in its name.
        let lasting = path.starts_with("/assets/");
        Some(Page { content_type: content_type(path)?, content, gzip, lasting })
    }
}

/// The content type of a file; nothing for one that the page does not have.
fn content_type(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: &[File] = &[
        ("/assets/index-1a2b.js", b"import", Some(b"packed")),
        ("/assets/notes.txt", b"", None),
        ("/index.html", b"<!doctype html>", None),
    ];

    #[test]
    fn files_are_found_by_their_paths_alone() {
        let pages = Embedded { files: BUILT };
        let start = pages.page("/").unwrap();
        assert_eq!((start.content_type, start.lasting), ("text/html; charset=utf-8", false));
        let script = pages.page("/assets/index-1a2b.js").unwrap();
        assert_eq!((script.content, script.gzip), (&b"import"[..], Some(&b"packed"[..])));
        assert!(script.lasting);
        for path in ["/assets/../index.html", "/assets/", "/assets/notes.txt", "/none", ""] {
            assert!(pages.page(path).is_none(), "{path}");
        }
    }

    #[test]
    fn every_file_that_was_built_has_a_type() {
        for (path, ..) in FILES.iter().chain(NOT_BUILT) {
            assert!(content_type(path).is_some(), "{path}");
        }
    }

    #[test]
    fn there_is_always_a_page() {
        let page = pages().page("/").unwrap();
        assert!(page.content.starts_with(b"<!doctype html>"));
        let page = Embedded { files: NOT_BUILT }.page("/").unwrap();
        assert!(String::from_utf8_lossy(page.content).contains("make run"));
    }
}
