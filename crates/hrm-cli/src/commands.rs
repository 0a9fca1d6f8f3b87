//! One module for each subcommand: its arguments and what it does.

pub mod arc;
pub mod compare;
pub mod completions;
pub mod config;
pub mod data;
pub mod eval;
mod eval_data;
mod eval_tables;
pub mod export;
pub mod import;
pub mod inspect;
pub mod man;
pub mod plot;
pub mod report;
pub mod runs;
pub mod solve;
pub mod train;
pub mod view;
pub mod warmup;
