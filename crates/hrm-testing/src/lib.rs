//! Test support: parity fixtures of the original, the tests over every compiled backend of [`hrm_backend::testing`], and a browser.

#![forbid(unsafe_code)]

pub mod chromium;
pub mod fuzz;
pub mod parity;

pub use hrm_backend::{for_each_backend, testing::*};
