//! What the web demo computes: puzzles from text, a model that thinks about one step by step, and a classical solver beside
//! it. The page talks to it as JSON, from a worker, through `bindings`, which exist on wasm only; everything else is plain Rust.
//!
//! ```
//! use hrm_web::{Model, Puzzle, read};
//!
//! # let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints/sudoku-9x9/model.safetensors"))?;
//! let model = Model::new("sudoku-9x9", &bytes)?;
//! let text = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79";
//! let puzzle: Puzzle = read("sudoku".parse()?, text)?.remove(0).puzzle?;
//! let mut thinker = model.start(&puzzle)?;
//! let settled = (0..16).any(|_| thinker.think().settled);
//! assert!(settled);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]

#[cfg(target_family = "wasm")]
mod bindings;
mod puzzle;
mod think;

pub use puzzle::{Checked, Entry, Puzzle, Worked, generate, read};
pub use think::{BUNDLED, Model, Thinker, Thought, model_name};
