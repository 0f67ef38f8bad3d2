//! Supported log pages, commands and features, and their effects.

use crate::layout;
use zerocopy::little_endian::U32;

layout! {
    /// Supported Log Pages log (Base Specification, "Supported Log Pages (Log Page Identifier
    /// 00h)").
    pub struct SupportedLogPages[1024] {
        /// By log page identifier; see [`log_support`].
        0 => pages: [U32; 256],
    }

    /// Commands Supported and Effects log (Base Specification, "Commands Supported and Effects
    /// (Log Page Identifier 05h)").
    pub struct CommandEffects[4096] {
        /// Admin commands by opcode; see [`command_effect`].
        0 => admin: [U32; 256],
        /// I/O commands by opcode.
        1024 => io: [U32; 256],
        /// Reserved.
        2048 => rsvd2048: [u8; 2048],
    }

    /// Feature Identifiers Supported and Effects log (Base Specification, "Feature Identifiers
    /// Supported and Effects (Log Page Identifier 12h)").
    pub struct FeatureEffects[1024] {
        /// By feature identifier; see [`feature_effect`].
        0 => features: [U32; 256],
    }
}

/// Bits of an entry of [`SupportedLogPages`].
pub mod log_support {
    /// The page is supported.
    pub const SUPPORTED: u32 = 1 << 0;
    /// The page takes an index as offset.
    pub const INDEX_OFFSET: u32 = 1 << 1;
}

/// Bits of an entry of [`CommandEffects`].
pub mod command_effect {
    /// The command is supported.
    pub const SUPPORTED: u32 = 1 << 0;
    /// Logical block content may change.
    pub const CONTENT: u32 = 1 << 1;
    /// Namespace capabilities may change.
    pub const NAMESPACE_CAPABILITY: u32 = 1 << 2;
    /// The inventory of namespaces may change.
    pub const NAMESPACE_INVENTORY: u32 = 1 << 3;
    /// Controller capabilities may change.
    pub const CONTROLLER_CAPABILITY: u32 = 1 << 4;
    /// No other command for the same namespace while this one runs (bits 18:16 = 1).
    pub const SAME_NAMESPACE_ALONE: u32 = 1 << 16;
    /// Scope, namespace.
    pub const SCOPE_NAMESPACE: u32 = 1 << 20;
    /// Scope, controller.
    pub const SCOPE_CONTROLLER: u32 = 1 << 21;
}

/// Bits of an entry of [`FeatureEffects`].
pub mod feature_effect {
    /// The feature is supported.
    pub const SUPPORTED: u32 = 1 << 0;
    /// User data content may change.
    pub const CONTENT: u32 = 1 << 1;
    /// Namespace capabilities may change.
    pub const NAMESPACE_CAPABILITY: u32 = 1 << 2;
    /// The inventory of namespaces may change.
    pub const NAMESPACE_INVENTORY: u32 = 1 << 3;
    /// Controller capabilities may change.
    pub const CONTROLLER_CAPABILITY: u32 = 1 << 4;
    /// Scope, namespace.
    pub const SCOPE_NAMESPACE: u32 = 1 << 20;
    /// Scope, controller.
    pub const SCOPE_CONTROLLER: u32 = 1 << 21;
}
