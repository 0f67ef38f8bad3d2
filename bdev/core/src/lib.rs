//! The block device contract: Io, Done, Channel, Cx, slab, SPSC ring, DMA memory, limits.
