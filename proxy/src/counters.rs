//! Counters with names.

/// Declares a struct of counters, and `iter`, which gives each with its name in `vswitch stats`.
macro_rules! counters {
    ($(#[$doc:meta])* $struct:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub(crate) struct $struct {
            $($(#[$field_doc])* pub(crate) $field: u64,)*
        }

        impl $struct {
            /// Every counter with its name.
            pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((concat!("relay_", stringify!($field)), self.$field),)*].into_iter()
            }
        }
    };
}

pub(crate) use counters;
