//! Memory block devices: ram, null, and the delay and error layers.
