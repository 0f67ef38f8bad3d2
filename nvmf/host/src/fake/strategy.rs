//! What a target and a network may choose, at random.

use super::Knobs;
use proptest::prelude::*;

/// Choices of a controller.
pub(crate) fn knobs() -> impl Strategy<Value = Knobs> {
    (
        any::<(bool, bool, bool)>(),
        0u8..32,
        1u32..40,
        prop::sample::select(vec![512usize, 1000, 4096, 1 << 20]),
        prop::sample::select(vec![100usize, 512, 4096, 1 << 20]),
        prop::collection::vec(0u8..8, 1..6),
        prop::sample::select(vec![4u32, 36, 516]),
    )
        .prop_map(|(flags, cpda, h2c, r2t_bytes, c2h_bytes, order, ioccsz)| Knobs {
            hdgst: flags.0,
            ddgst: flags.1,
            success: flags.2,
            cpda,
            maxh2cdata: h2c * 4096,
            r2t_bytes,
            c2h_bytes,
            order,
            ioccsz,
            ..Knobs::default()
        })
}

/// Where a stream is cut.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![Just(0usize), 20usize..200, 200usize..5000, Just(1 << 20)];
    // Single bytes are rare: a long stream takes long with them.
    let size = prop_oneof![9 => size, 1 => Just(1usize)];
    prop::collection::vec(size, 1..12)
        .prop_filter("some progress", |cuts| cuts.iter().any(|bytes| *bytes >= 200))
}
