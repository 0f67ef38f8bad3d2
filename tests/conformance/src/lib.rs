//! A stock Linux host in QEMU against the shipped binary.
