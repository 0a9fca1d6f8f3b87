//! The backends that `hrm` can be built for.

use clap::ValueEnum;

#[path = "../../crates/hrm-cli/src/backend/name.rs"]
mod name;

pub use name::Name as Backend;

impl Backend {
    /// What `hrm --backend` calls it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Arguments for a Cargo command on `hrm-cli` that give a binary with this backend alone, so that nothing
    /// is compiled for a second one. The default build is the CPU's: it takes no arguments and compiles nothing
    /// that `cargo run` and `cargo test` have not compiled already.
    pub fn cargo_args(self) -> Vec<&'static str> {
        match self.feature() {
            "flex" => Vec::new(),
            feature => vec!["--no-default-features", "--features", feature],
        }
    }
}
