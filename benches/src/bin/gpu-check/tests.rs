//! The files of tests of other crates that are generic over the backend, as parts of this program.
#![allow(dead_code, unused_imports, reason = "tests of one backend only are left out here")]

#[path = "../../../../crates/hrm-model/tests/components.rs"]
mod components;
#[path = "../../../../crates/hrm-model/tests/parity.rs"]
mod evaluation;
#[path = "../../../../crates/hrm-backend/tests/functions.rs"]
mod functions;
#[path = "../../../../crates/hrm-backend/tests/ops.rs"]
mod ops;
#[path = "../../../../crates/hrm-train/tests/components.rs"]
mod optimizers;
#[path = "../../../../crates/hrm-train/tests/parity.rs"]
mod training;

/// Tests by name.
type Tests = &'static [(&'static str, fn())];

/// Files, by crate and name, with their tests on one backend.
macro_rules! files {
    ($backend:ident) => {
        [
            ("hrm-backend/functions", functions::$backend::TESTS),
            ("hrm-backend/ops", ops::$backend::TESTS),
            ("hrm-model/components", components::$backend::TESTS),
            ("hrm-model/parity", evaluation::$backend::TESTS),
            ("hrm-train/components", optimizers::$backend::TESTS),
            ("hrm-train/parity", training::$backend::TESTS),
        ]
    };
}

/// The tests of a file on a backend, if the program has both.
pub fn of(backend: &str, file: &str) -> Option<Tests> {
    let files = match backend {
        "cuda" => files!(cuda),
        #[cfg(feature = "vulkan")]
        "vulkan" => files!(vulkan),
        _ => return None,
    };
    files.into_iter().find(|(name, _)| *name == file).map(|(_, tests)| tests)
}
