//! Places in the tables of a reactor: queue pairs, requests, namespaces.

/// In place of a queue pair or a namespace: none.
pub(crate) const NONE: u32 = u32::MAX;
