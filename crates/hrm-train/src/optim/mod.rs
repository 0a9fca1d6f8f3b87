//! The optimizers of the paper, and their schedule.

mod adam_atan2;
mod ema;
mod schedule;
mod sign_sgd;

pub use adam_atan2::{AdamAtan2, AdamAtan2Config, Moments};
pub use ema::{Ema, trained_weights};
pub use schedule::{Decay, Schedule, total_steps};
pub use sign_sgd::SignSgd;
