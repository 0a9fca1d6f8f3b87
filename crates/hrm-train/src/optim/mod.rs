//! Optimizers: the paper's (AdamATan2, sparse SignSGD), AdamW and Muon; their schedule; averaged weights.

mod adam;
mod ema;
mod muon;
mod optimizer;
mod schedule;
mod sign_sgd;

pub use adam::AdamConfig;
pub use ema::{Ema, trained_weights};
pub use muon::{MuonConfig, orthogonal};
pub use optimizer::{Moments, Optimizer, ParamGroup, Rule, matches};
pub use schedule::{Decay, Schedule, total_steps};
pub use sign_sgd::SignSgd;
