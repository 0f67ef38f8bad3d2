//! Commands that destroy what is on a drive: Format NVM and Sanitize.

use crate::opcode::admin;
use crate::{Sqe, layout};
use zerocopy::little_endian::{U16, U32};

/// Secure erase of Format NVM (Base Specification, "Format NVM command", SES).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureErase {
    /// None asked for.
    None,
    /// User data is erased; what it reads as is not said.
    UserData,
    /// The key that the data is encrypted with is deleted.
    Cryptographic,
}

/// The Format NVM command (Base Specification, "Format NVM command"), without metadata and
/// protection information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Namespace, or [`Sqe::NSID_ALL`].
    pub nsid: u32,
    /// Index of the LBA format, 0 to 63.
    pub lbaf: u8,
    /// Secure erase.
    pub erase: SecureErase,
}

impl Format {
    /// The command.
    pub fn sqe(&self, cid: u16) -> Sqe {
        let erase = match self.erase {
            SecureErase::None => 0,
            SecureErase::UserData => 1,
            SecureErase::Cryptographic => 2,
        };
        let lbaf = u32::from(self.lbaf);
        let d10 = lbaf & 0xf | erase << 9 | (lbaf >> 4 & 3) << 12;
        Sqe { cdw10: U32::new(d10), ..Sqe::new(admin::FORMAT_NVM, cid, self.nsid) }
    }

    /// Index of the LBA format in a Format NVM command.
    pub fn lbaf_of(sqe: &Sqe) -> u8 {
        let d10 = sqe.cdw10.get();
        (d10 & 0xf | (d10 >> 12 & 3) << 4) as u8
    }
}

/// What Sanitize does (Base Specification, "Sanitize command", SANACT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sanitize {
    /// Ends the failure mode of an earlier sanitize operation.
    ExitFailure,
    /// Erases blocks at the media.
    BlockErase,
    /// Overwrites everything with a pattern, once.
    Overwrite(u32),
    /// Changes the media encryption keys.
    CryptoErase,
}

impl Sanitize {
    /// The command; an operation may end restricted only (AUSE is clear).
    pub fn sqe(&self, cid: u16) -> Sqe {
        let (action, pattern) = match *self {
            Sanitize::ExitFailure => (1, 0),
            Sanitize::BlockErase => (2, 0),
            Sanitize::Overwrite(pattern) => (3 | 1 << 4, pattern),
            Sanitize::CryptoErase => (4, 0),
        };
        let mut sqe = Sqe::new(admin::SANITIZE, cid, 0);
        sqe.cdw10 = U32::new(action);
        sqe.cdw11 = U32::new(pattern);
        sqe
    }

    /// Bit of SANICAP (Identify Controller) that says the drive can do it; 0 where none is needed.
    pub const fn capability(&self) -> u32 {
        match self {
            Sanitize::ExitFailure => 0,
            Sanitize::CryptoErase => 1 << 0,
            Sanitize::BlockErase => 1 << 1,
            Sanitize::Overwrite(_) => 1 << 2,
        }
    }
}

layout! {
    /// Sanitize Status log (Base Specification, "Sanitize Status (Log Page Identifier 81h)").
    pub struct SanitizeLog[512] {
        /// Progress as a share of 65,536; FFFFh when none is under way.
        0 => progress: U16,
        /// State of the last operation in bits 2:0, passes done in 7:3, global data erased in 8.
        2 => status: U16,
        /// Dword 10 of the last Sanitize command.
        4 => cdw10: U32,
        /// Estimated seconds of an overwrite; FFFFFFFFh is not known.
        8 => overwrite_seconds: U32,
        /// Estimated seconds of a block erase.
        12 => erase_seconds: U32,
        /// Estimated seconds of a cryptographic erase.
        16 => crypto_seconds: U32,
        /// Estimated seconds of an overwrite with no-deallocate set.
        20 => overwrite_kept_seconds: U32,
        /// Estimated seconds of a block erase with no-deallocate set.
        24 => erase_kept_seconds: U32,
        /// Estimated seconds of a cryptographic erase with no-deallocate set.
        28 => crypto_kept_seconds: U32,
        /// Reserved.
        32 => rsvd32: [u8; 480],
    }
}

/// State of the last sanitize operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanitizeState {
    /// The drive was never sanitized.
    Never,
    /// It ended well.
    Done,
    /// It is under way.
    Running,
    /// It failed: the drive is locked until it succeeds or Exit Failure Mode.
    Failed,
    /// It ended well, and blocks were not deallocated as asked for.
    DoneAllocated,
    /// A reserved value.
    Reserved,
}

impl SanitizeLog {
    /// State of the last operation.
    pub fn state(&self) -> SanitizeState {
        match self.status.get() & 7 {
            0 => SanitizeState::Never,
            1 => SanitizeState::Done,
            2 => SanitizeState::Running,
            3 => SanitizeState::Failed,
            4 => SanitizeState::DoneAllocated,
            _ => SanitizeState::Reserved,
        }
    }
}
