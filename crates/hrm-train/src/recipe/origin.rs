//! Who set a value, and how a saved recipe notes it.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use toml::Table;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// This file.
    File(PathBuf),
    /// `--set` on the command line.
    Flag,
    /// `--set` when the run was resumed after this step.
    Resumed(u64),
    /// The choice of this backend in place of `auto`.
    Backend(String),
}

impl Origin {
    /// Reads what [`Display`](fmt::Display) writes.
    fn parse(text: &str) -> Option<Self> {
        if text == Self::Flag.to_string() {
            return Some(Self::Flag);
        }
        let file = text.strip_prefix("file ").map(|path| Self::File(path.into()));
        let resumed = || text.strip_prefix("flag --set after step ")?.parse().ok().map(Self::Resumed);
        let backend = || text.strip_prefix("auto on ").map(|name| Self::Backend(name.to_owned()));
        file.or_else(resumed).or_else(backend)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Flag => write!(f, "flag --set"),
            Self::Resumed(step) => write!(f, "flag --set after step {step}"),
            Self::Backend(name) => write!(f, "auto on {name}"),
        }
    }
}

/// One value of a resolved recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRow {
    /// Dotted name, `train.lr`.
    pub key: String,
    /// As TOML writes it.
    pub value: String,
    /// Who set it.
    pub origin: Origin,
}

/// The origins in the comments that [`ResolvedRecipe::to_toml`](super::ResolvedRecipe::to_toml) writes, by dotted name.
pub(super) fn noted(text: &str) -> BTreeMap<String, Origin> {
    let mut section = "";
    let mut origins = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        // A string may contain the mark as well: the comment begins after a whole value.
        let comment = line.match_indices("  # ").find(|(at, _)| line[..*at].parse::<Table>().is_ok());
        let origin = comment.and_then(|(at, mark)| Origin::parse(&line[at + mark.len()..]));
        if let (Some(origin), Some((name, _))) = (origin, line.split_once(" = ")) {
            origins.insert(format!("{section}.{name}"), origin);
        }
    }
    origins
}
