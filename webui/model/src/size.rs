//! Sizes as people write and read them.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// A number of bytes, written as a number or as a text with a unit: `512MiB`, `1.5TiB`, `4GB`. A
/// letter alone, as in `512M`, is a unit of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Size(pub u64);

impl Size {
    /// With two decimals and the unit that fits, for people: `1.50 GiB`.
    pub fn rounded(self) -> impl fmt::Display {
        Rounded(ByteSize(self.0))
    }
}

struct Rounded(ByteSize);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.0.display().iec())
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || {
            let part: String = text.chars().take(32).flat_map(char::escape_default).collect();
            format!(
                "\"{part}\" is no size: write a number of bytes, or one with a unit, as in 512MiB"
            )
        };
        let mut text = text.trim().to_owned();
        // For bytesize a letter alone is a power of 1000; for LVM, QEMU and dd it is not.
        if text.ends_with(|c: char| "kmgtpe".contains(c.to_ascii_lowercase())) {
            text.push('i');
        }
        let bytes = match text.starts_with(|c: char| c.is_ascii_digit()) {
            true => text.parse::<ByteSize>().map_err(|_| wrong())?.as_u64(),
            false => return Err(wrong()),
        };
        // Where a number does not fit, bytesize gives the largest that does.
        if bytes == u64::MAX { Err(wrong()) } else { Ok(Size(bytes)) }
    }
}

/// Exact, so that reading it gives the same: with the largest unit that leaves no rest.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 6] = [
            ("EiB", bytesize::EIB),
            ("PiB", bytesize::PIB),
            ("TiB", bytesize::TIB),
            ("GiB", bytesize::GIB),
            ("MiB", bytesize::MIB),
            ("KiB", bytesize::KIB),
        ];
        let exact = |bytes: u64| self.0 != 0 && self.0.is_multiple_of(bytes);
        match UNITS.iter().find(|(_, bytes)| exact(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Size, String> {
        match written {
            Written::Number(bytes) => Ok(Size(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}

impl utoipa::PartialSchema for Size {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .maximum(Some(crate::MAX_BYTES));
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^[0-9]{1,6} ?(KiB|MiB|GiB|TiB|PiB)?$"));
        OneOfBuilder::new()
            .item(number)
            .item(text)
            .description(Some("A number of bytes, or a text with a unit: 100GiB."))
            .into()
    }
}

impl ToSchema for Size {
    fn name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("512MiB", 512 << 20),
            ("512 mib", 512 << 20),
            (" 1G ", 1 << 30),
            ("1T", 1 << 40),
            ("1.5GiB", 3 << 29),
            ("2TB", 2_000_000_000_000),
            ("1PiB", 1 << 50),
            ("0.5P", 1 << 49),
            ("3PB", 3_000_000_000_000_000),
            ("100KB", 100_000),
            ("18014398509481983KiB", u64::MAX - 1023),
            ("17592186044415MiB", u64::MAX - (1 << 20) + 1),
            ("16383PiB", 16383 << 50),
            ("15EiB", 15 << 60),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "GiB",
            "-1",
            "+1",
            ".",
            "1XB",
            "1..5G",
            "1 0GiB",
            "1e400",
            "0x10",
            "1GiBx",
            "16EiB",
            "99999999999TiB",
            "18014398509481984KiB",
            "99999999999999999999999",
            "99999999999999999999.5EiB",
        ] {
            let why = text.parse::<Size>().unwrap_err();
            assert!(why.contains("is no size"), "{text}: {why}");
        }
    }

    #[test]
    fn sizes_are_printed_exactly_and_for_people() {
        for (bytes, exact, rounded) in [
            (0, "0", "0 B"),
            (1023, "1023", "1023 B"),
            (4097, "4097", "4.00 KiB"),
            (512 << 20, "512MiB", "512.00 MiB"),
            (3 << 29, "1536MiB", "1.50 GiB"),
            (1 << 40, "1TiB", "1.00 TiB"),
            (5 << 60, "5EiB", "5.00 EiB"),
        ] {
            let size = Size(bytes);
            assert_eq!(
                (size.to_string().as_str(), size.rounded().to_string().as_str()),
                (exact, rounded)
            );
        }
    }
}
