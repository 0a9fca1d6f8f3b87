//! Test support: parity fixtures of the original, and the tests over every compiled backend of [`hrm_backend::testing`].

#![forbid(unsafe_code)]

pub mod fuzz;
pub mod parity;

pub use hrm_backend::{for_each_backend, testing::*};
