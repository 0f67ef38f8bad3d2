//! The macro that declares a structure of the specification together with its byte layout.

/// Declares a structure with its size and the offset of every field, both checked by the
/// compiler.
///
/// The structure can be viewed in place over bytes of any alignment (zerocopy) and defaults to
/// all zeroes, the specification's value of every reserved field.
#[macro_export]
macro_rules! layout {
    ($($(#[$meta:meta])* pub struct $name:ident[$size:literal] {
        $($(#[$fmeta:meta])* $off:literal => $field:ident: $ty:ty,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::Immutable,
            zerocopy::KnownLayout,
            zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            $($(#[$fmeta])* pub $field: $ty,)*
        }

        const _: () = assert!(size_of::<$name>() == $size);
        $(const _: () = assert!(core::mem::offset_of!($name, $field) == $off);)*

        impl Default for $name {
            fn default() -> $name {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    )*};
}
