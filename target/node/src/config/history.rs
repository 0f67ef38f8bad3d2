//! How much is kept of the past.

use serde::{Deserialize, Serialize};
use std::str::FromStr;
use webui_history::MIN_BYTES;
use webui_model::Size;

/// The history of how everything performed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// What it may take of the disk.
    pub size: HistorySize,
}

/// A size, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum HistorySize {
    /// The last hour is kept in memory, nothing on disk.
    Off,
    /// At most so much is on disk.
    Bytes(Size),
}

impl HistorySize {
    /// Bytes on disk, if any.
    pub fn bytes(self) -> Option<u64> {
        match self {
            HistorySize::Off => None,
            HistorySize::Bytes(size) => Some(size.0),
        }
    }
}

impl Default for HistorySize {
    fn default() -> HistorySize {
        HistorySize::Bytes(Size(16 << 20))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for HistorySize {
    type Error = String;

    fn try_from(written: Written) -> Result<HistorySize, String> {
        match written {
            Written::Number(bytes) => bytes.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl FromStr for HistorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<HistorySize, String> {
        if text == "off" {
            return Ok(HistorySize::Off);
        }
        match text.parse::<Size>()? {
            Size(0) => Ok(HistorySize::Off),
            size if (MIN_BYTES..=1 << 30).contains(&size.0) => Ok(HistorySize::Bytes(size)),
            size => Err(format!(
                "history.size is {size}: give between 1MiB and 1GiB, or off for the last hour alone"
            )),
        }
    }
}

impl From<HistorySize> for String {
    fn from(size: HistorySize) -> String {
        match size {
            HistorySize::Off => "off".to_owned(),
            HistorySize::Bytes(size) => size.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_or_off() {
        let of = |text: &str| text.parse::<HistorySize>();
        assert_eq!(of("off").unwrap().bytes(), None);
        assert_eq!(of("0").unwrap().bytes(), None);
        assert_eq!(of("4MiB").unwrap().bytes(), Some(4 << 20));
        assert_eq!(HistorySize::default().bytes(), Some(16 << 20));
        for wrong in ["512KiB", "2GiB", "much", "-1"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        for size in ["off", "4MiB"] {
            assert_eq!(String::from(of(size).unwrap()), size);
        }
    }
}
