//! The `hrm` program from outside: every test has a folder of its own and starts the program as a user would.
#![cfg(feature = "flex")]

mod arc;
mod bundled;
mod classical;
mod config;
mod data;
mod faults;
mod hostile;
mod kill;
mod look;
mod power;
mod readme;
mod runs;
mod sandbox;
mod solve;
mod train;
mod weights;
