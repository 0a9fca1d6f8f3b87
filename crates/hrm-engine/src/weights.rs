//! Where weights are.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Trained weights: in a file, or in the program.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weights {
    /// A safetensors file.
    File(PathBuf),
    /// The name of a model that comes with the program, and the bytes of its safetensors file.
    Bundled(&'static str, &'static [u8]),
}

impl Weights {
    /// The file, or the name as a path: what errors say.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Bundled(name, _) => Path::new(name),
        }
    }
}

impl From<PathBuf> for Weights {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// The path or the name.
impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({path:?})"),
            Self::Bundled(name, bytes) => write!(f, "Bundled({name:?}, {} bytes)", bytes.len()),
        }
    }
}
