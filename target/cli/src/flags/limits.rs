//! Flags that limit a volume.

use crate::print::value;
use clap::Args;
use std::str::FromStr;
use webui_model::{Limits, Size};

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit<T> {
    /// Any.
    None,
    /// So much.
    Of(T),
}

impl<T: FromStr> FromStr for Limit<T>
where
    T::Err: std::fmt::Display,
{
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Limit::None),
            _ => text.parse().map(Limit::Of).map_err(|e: T::Err| format!("{e}, or none")),
        }
    }
}

/// The most a volume does. What is not given stays as it is.
#[derive(Args, Clone, Copy)]
pub struct LimitFlags {
    /// Commands a second, or none.
    #[arg(long, value_name = "NUMBER")]
    pub iops: Option<Limit<u64>>,
    /// Bytes a second, as in 500MB, or none.
    #[arg(long, value_name = "SIZE")]
    pub bandwidth: Option<Limit<Size>>,
    /// Of what it did not use before, how many seconds' worth of the limits it may use later, at
    /// any speed.
    #[arg(long, value_name = "SECONDS")]
    pub burst: Option<u32>,
}

impl LimitFlags {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.iops.is_none() && self.bandwidth.is_none() && self.burst.is_none()
    }

    /// These limits with what the flags change.
    pub fn over(&self, limits: Limits) -> Limits {
        let set = |flag: Option<Limit<u64>>, before| match flag {
            None => before,
            Some(Limit::None) => None,
            Some(Limit::Of(value)) => Some(value),
        };
        let bandwidth = self.bandwidth.map(|limit| match limit {
            Limit::None => Limit::None,
            Limit::Of(Size(bytes)) => Limit::Of(bytes),
        });
        Limits {
            iops: set(self.iops, limits.iops),
            bytes_per_second: set(bandwidth, limits.bytes_per_second),
            burst_seconds: self.burst.unwrap_or(limits.burst_seconds),
        }
    }
}

/// Limits in a few words.
pub fn words(limits: &Limits) -> String {
    let mut parts = Vec::new();
    parts.extend(limits.iops.map(|n| format!("{n} IOPS")));
    parts.extend(limits.bytes_per_second.map(|n| format!("{}/s", value::bytes(n))));
    if parts.is_empty() {
        return "none".into();
    }
    if limits.burst_seconds > 0 {
        parts.push(format!("bursts of {} s", limits.burst_seconds));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_change_what_they_name() {
        let before = Limits { iops: Some(5), bytes_per_second: Some(1 << 20), burst_seconds: 3 };
        let flags = LimitFlags { iops: Some(Limit::None), bandwidth: None, burst: Some(0) };
        let after = Limits { iops: None, bytes_per_second: Some(1 << 20), burst_seconds: 0 };
        assert_eq!(flags.over(before), after);
        assert!(!flags.is_empty());
        assert_eq!("1GiB".parse(), Ok(Limit::Of(Size(1 << 30))));
        assert_eq!("none".parse(), Ok(Limit::<u64>::None));
        assert!("x".parse::<Limit<u64>>().unwrap_err().contains("or none"));
    }

    #[test]
    fn limits_are_told_in_words() {
        assert_eq!(words(&Limits::default()), "none");
        let limits = Limits { iops: Some(5), bytes_per_second: Some(1 << 20), burst_seconds: 3 };
        assert_eq!(words(&limits), "5 IOPS, 1.00 MiB/s, bursts of 3 s");
    }
}
