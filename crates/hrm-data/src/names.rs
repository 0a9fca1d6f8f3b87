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
pub(crate) fn find<T: Copy>(
    all: &[T],
    name: impl Fn(T) -> &'static str,
    wanted: &str,
) -> Result<T, UnknownName> {
    all.iter().copied().find(|&one| name(one) == wanted).ok_or_else(|| UnknownName {
        known: all.iter().map(|&one| name(one)).collect(),
        got: wanted.to_owned(),
    })
}
