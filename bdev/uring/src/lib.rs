//! Files and kernel block devices through io_uring.
