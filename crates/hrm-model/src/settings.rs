//! Settings in which each key stands once: what it means, its type, its default, its range, and whether a run that goes on may
//! have another value. [`settings!`](crate::settings!) makes the struct, its default and its [`Key`]s of that.

/// The numbers that a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    least: f64,
    /// Whether `least` itself is too low.
    above: bool,
    most: f64,
    /// Whether `most` itself is too high.
    below: bool,
    what: &'static str,
}

impl Range {
    /// Whole numbers.
    pub const fn count(least: u64, most: u64) -> Self {
        Self { most: most as f64, ..Self::from(least as f64, "") }
    }

    /// Finite numbers from `least` on; `what` is told who gives another one.
    pub const fn from(least: f64, what: &'static str) -> Self {
        Self { least, above: false, most: f64::MAX, below: false, what }
    }

    /// Finite numbers above `least`.
    pub const fn above(least: f64, what: &'static str) -> Self {
        Self { above: true, ..Self::from(least, what) }
    }

    /// Those of them up to `most`.
    pub const fn to(self, most: f64) -> Self {
        Self { most, ..self }
    }

    /// Those of them below `most`.
    pub const fn below(self, most: f64) -> Self {
        Self { most, below: true, ..self }
    }

    /// What was expected, if it was not `value`.
    pub fn expected(&self, value: f64) -> Option<String> {
        let low = if self.above { value <= self.least } else { value < self.least };
        let high = if self.below { value >= self.most } else { value > self.most };
        let sound = !low && !high && value.is_finite();
        (!sound).then(|| match self.what {
            "" if low => format!("at least {}", self.least),
            "" => format!("at most {}", self.most),
            what => what.to_owned(),
        })
    }

    /// The range in the words of JSON Schema.
    #[cfg(feature = "schema")]
    pub fn schema(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let least = (if self.above { "exclusiveMinimum" } else { "minimum" }, self.least);
        let most = (if self.below { "exclusiveMaximum" } else { "maximum" }, self.most);
        std::iter::once(least).chain((self.most < f64::MAX).then_some(most))
    }
}

/// What is known of a key beside its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Its name in its section.
    pub name: &'static str,
    /// The numbers that it takes, if not all of its type.
    pub range: Option<Range>,
    /// Whether it may change when a run is resumed: it does not change what the steps compute.
    pub resumable: bool,
}

/// Values that a [`Range`] can be held against.
pub trait Numbers {
    /// Each of them.
    fn numbers(&self) -> Vec<f64>;
}

macro_rules! numbers {
    ($($Type:ty),*) => {$(
        impl Numbers for $Type {
            fn numbers(&self) -> Vec<f64> {
                vec![*self as f64]
            }
        }
    )*};
}
numbers!(usize, u64, u32, f64);

impl<T: Numbers> Numbers for Vec<T> {
    fn numbers(&self) -> Vec<f64> {
        self.iter().flat_map(Numbers::numbers).collect()
    }
}

/// A value that cannot be used: its key, itself, and what was expected.
pub type Unsound = (&'static str, String, String);

/// A struct of settings: `key: Type = default;`, with `=> range` and `, resumable` where they apply.
#[macro_export]
macro_rules! settings {
    (
        $(#[$about:meta])*
        pub struct $Name:ident {
            $($(#[$meta:meta])* $key:ident: $Type:ty = $default:expr $(=> $range:expr)? $(, $mark:ident)?;)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(default, deny_unknown_fields)]
        pub struct $Name {
            $($(#[$meta])* pub $key: $Type,)*
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl $Name {
            /// Every key.
            pub const KEYS: &'static [$crate::settings::Key] = &[$($crate::settings::Key {
                name: stringify!($key),
                range: $crate::settings!(@range $($range)?),
                resumable: $crate::settings!(@resumable $($mark)?),
            }),*];

            /// Compares every number with its range.
            ///
            /// # Errors
            /// The first one that is not in it.
            pub fn check_ranges(&self) -> Result<(), $crate::settings::Unsound> {
                $($(
                    for number in $crate::settings::Numbers::numbers(&self.$key) {
                        if let Some(expected) = $range.expected(number) {
                            return Err((stringify!($key), number.to_string(), expected));
                        }
                    }
                )?)*
                Ok(())
            }
        }
    };
    (@range) => { None };
    (@range $range:expr) => { Some($range) };
    (@resumable) => { false };
    (@resumable resumable) => { true };
}
