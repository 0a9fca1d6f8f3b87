//! Things that are picked by a name, on the command line and in recipes.

use thiserror::Error;

/// A name that nothing has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected {}, got {got:?}", listed(known))]
pub struct UnknownName {
    /// The names there are.
    pub known: Vec<&'static str>,
    /// The name.
    pub got: String,
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The one of `all` that has the name.
///
/// # Errors
/// If none has it.
pub fn find<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, wanted: &str) -> Result<T, UnknownName> {
    all.iter().copied().find(|&one| name(one) == wanted).ok_or_else(|| UnknownName {
        known: all.iter().map(|&one| name(one)).collect(),
        got: wanted.to_owned(),
    })
}

/// An enum of things with names: all of them in order (`ALL`), the name of each (`name`, and as it is displayed), and the one
/// that has a name (`FromStr`).
#[macro_export]
macro_rules! named {
    ($(#[$about:meta])* pub enum $Enum:ident { $($(#[$doc:meta])* $Variant:ident = $name:literal),+ $(,)? }) => {
        $(#[$about])*
        pub enum $Enum {
            $($(#[$doc])* $Variant),+
        }

        impl $Enum {
            /// All of them, in order.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$Variant),+];

            /// The name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Variant => $name),+ }
            }
        }

        impl ::std::fmt::Display for $Enum {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl ::std::str::FromStr for $Enum {
            type Err = $crate::names::UnknownName;

            fn from_str(name: &str) -> ::std::result::Result<Self, Self::Err> {
                $crate::names::find(&Self::ALL, Self::name, name)
            }
        }
    };
}
