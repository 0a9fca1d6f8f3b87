//! Options whose values are an enum of a library.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A value by its name on the command line, and what it means, in words.
pub type Choice<T> = (&'static str, T, &'static str);

/// Takes one of the values, by its name.
pub fn one_of<T: Copy + Send + Sync>(choices: &'static [Choice<T>]) -> impl TypedValueParser<Value = T> {
    let value = |(name, _, help): &Choice<T>| match *help {
        "" => PossibleValue::new(*name),
        help => PossibleValue::new(*name).help(help),
    };
    PossibleValuesParser::new(choices.iter().map(value)).try_map(|given| {
        choices.iter().find(|(name, ..)| *name == given).map(|(_, value, _)| *value).ok_or("not one of them")
    })
}
