//! The NVMe/TCP target transport.
