//! Enumerations of reasons, each with a name that listings and metrics have.

/// Declares an enumeration of reasons with `ALL`, in the order of their numbers, and `name`, which is stable.
#[macro_export]
macro_rules! reasons {
    ($(#[$doc:meta])* pub enum $reasons:ident { $($(#[$variant_doc:meta])* $variant:ident => $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $reasons {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $reasons {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// A stable name for metrics and listings.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}
