//! Numbers and names that the rules know.

/// Namespaces that a subsystem can have, numbered from 1 (the target's limit).
pub const NAMESPACES: u32 = 1024;

/// The name of the discovery subsystem (NVM Express Base Specification, "NVMe Qualified Names").
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
