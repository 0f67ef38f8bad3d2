//! Capacities as people write them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A number of bytes, written as a number or as a text with a unit of 1024: `100GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Capacity(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

/// Units and how many times 1024 they are, largest first.
const UNITS: [(&str, u32); 6] =
    [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl std::str::FromStr for Capacity {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, shift) = UNITS
            .iter()
            .find_map(|(unit, shift)| text.strip_suffix(unit).map(|digits| (digits, *shift)))
            .unwrap_or((text, 0));
        let digits = digits.strip_suffix(' ').unwrap_or(digits);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        digits
            .parse::<u64>()
            .ok()
            .filter(|_| plain)
            .and_then(|n| n.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| {
                let part: String = text.chars().take(32).flat_map(char::escape_default).collect();
                format!("\"{part}\" is no capacity: write a number of bytes, or one with a unit: 100GiB.")
            })
    }
}

impl TryFrom<Written> for Capacity {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl std::fmt::Display for Capacity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let exact = |shift: &u32| self.0 != 0 && self.0 & ((1 << *shift) - 1) == 0;
        match UNITS.iter().find(|(_, shift)| exact(shift)) {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl From<Capacity> for String {
    fn from(capacity: Capacity) -> String {
        capacity.to_string()
    }
}

impl utoipa::PartialSchema for Capacity {
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

impl ToSchema for Capacity {
    fn name() -> std::borrow::Cow<'static, str> {
        "Capacity".into()
    }
}
