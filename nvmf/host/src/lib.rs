//! The NVMe over Fabrics initiator: a remote namespace as a Channel.
