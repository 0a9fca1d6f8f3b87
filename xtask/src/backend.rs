//! The backends that `hrm` can be built for.

#[path = "../../crates/hrm-engine/src/name.rs"]
mod name;

pub use name::Name as Backend;

impl Backend {
    /// What `hrm --backend` calls it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, backend, _)| *backend == self).map_or("cpu", |(name, ..)| name)
    }

    /// Arguments for a Cargo command on `hrm-cli` that give a binary with this backend alone, so that nothing
    /// is compiled for a second one, and with the network, as in the default build. The default build is the CPU's: it takes no arguments and compiles nothing
    /// that `cargo run` and `cargo test` have not compiled already.
    pub fn cargo_args(self) -> Vec<&'static str> {
        match self.feature() {
            "flex" => Vec::new(),
            feature => vec!["--no-default-features", "--features", feature, "--features", "download"],
        }
    }
}
