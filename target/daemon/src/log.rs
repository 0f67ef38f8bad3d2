//! The log: what is logged, and how its fields are written.

use nvme_spec::Shown;
use std::fmt;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};

/// The environment variable that says what is logged.
const VARIABLE: &str = "FOREBAY_LOG";

/// Fields of events as text. Names of hosts, paths and sentences of others are among them: nothing
/// in them may begin a line, or do something to a terminal.
pub struct ShownFields;

impl<'writer> FormatFields<'writer> for ShownFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        write!(writer, "{}", Shown(&text))
    }
}

/// What is logged: `info` and above, or what the environment says.
///
/// # Errors
/// A sentence, when that cannot be understood.
pub fn filter() -> Result<EnvFilter, String> {
    match std::env::var(VARIABLE) {
        Err(std::env::VarError::NotPresent) => Ok(EnvFilter::new("info")),
        Ok(text) => parse(&text),
        Err(_) => Err(refusal("something that is not text")),
    }
}

/// A filter from a list of levels: one for everything, others for crates by name.
fn parse(text: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let parts = || text.split(',').map(str::trim);
    if parts().all(str::is_empty) {
        return Ok(EnvFilter::new("info"));
    }
    // A bare word that is no level would be taken for a crate, and all others fall silent.
    if !parts().all(|part| part.contains(['=', '[']) || is_level(part)) {
        return Err(refusal(&format!("\"{}\"", Shown(text))));
    }
    EnvFilter::try_new(text).map_err(|_| refusal(&format!("\"{}\"", Shown(text))))
}

fn refusal(what: &str) -> String {
    format!(
        "{VARIABLE} is {what}: give off, error, warn, info, debug or trace, and others for crates \
         by name after commas, as in info,nvmf_tcp=debug."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_filter_is_a_list_of_levels() {
        for good in
            ["info", "WARN", "off", "info,nvmf=trace", "nvmf=debug", "[span]=debug", "", " "]
        {
            assert!(parse(good).is_ok(), "{good:?}");
        }
        for bad in ["loud", "info,loud", "verbose,nvmf=debug", "nvmf=loud", "info debug", "3\n"] {
            let why = parse(bad).unwrap_err();
            assert!(why.contains("FOREBAY_LOG") && why.contains("info,nvmf_tcp=debug"), "{why}");
            assert_eq!(why.lines().count(), 1);
        }
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_name_in_the_log_begins_no_line() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).fmt_fields(ShownFields);
        let log = log.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            let host = "nqn\n2026 ERROR all is lost\x1b[0m";
            tracing::info!(host, other = %host, "{host} is connected");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.ends_with('\n') && !text.contains('\x1b'), "{text}");
    }
}
