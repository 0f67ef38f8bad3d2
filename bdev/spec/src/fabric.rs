//! Fabrics that hosts and controllers are connected by (NVM Express Base Specification, "Discovery
//! Log Page Entry", TRTYPE).

use core::fmt;
use core::str::FromStr;

/// A fabric that this project speaks, in the order of the types' codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Fabric {
    /// NVMe/RDMA.
    Rdma,
    /// NVMe/TCP.
    #[default]
    Tcp,
}

impl Fabric {
    /// Every fabric.
    pub const ALL: [Fabric; 2] = [Fabric::Rdma, Fabric::Tcp];

    /// Its transport type in discovery and error logs.
    pub const fn trtype(self) -> u8 {
        match self {
            Fabric::Rdma => 1,
            Fabric::Tcp => 3,
        }
    }

    /// As `nvme connect -t` wants it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Fabric::Rdma => "rdma",
            Fabric::Tcp => "tcp",
        }
    }

    /// Whether it is TCP, which is meant where none is named.
    pub const fn is_tcp(&self) -> bool {
        matches!(self, Fabric::Tcp)
    }
}

impl fmt::Display for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFabric;

impl fmt::Display for NoFabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no fabric: write tcp or rdma")
    }
}

impl core::error::Error for NoFabric {}

impl FromStr for Fabric {
    type Err = NoFabric;

    fn from_str(text: &str) -> Result<Fabric, NoFabric> {
        Fabric::ALL.into_iter().find(|fabric| fabric.as_str() == text).ok_or(NoFabric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fabrics_are_read_as_they_are_written() {
        for fabric in Fabric::ALL {
            assert_eq!(fabric.as_str().parse(), Ok(fabric));
        }
        for text in ["", "TCP", "fc", "tcp "] {
            assert_eq!(text.parse::<Fabric>(), Err(NoFabric));
        }
        assert!(Fabric::default().is_tcp());
    }
}
