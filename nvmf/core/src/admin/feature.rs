//! Features.

/// The values that a host has set on its controller.
#[derive(Clone, Debug, Default)]
pub struct Features {}
