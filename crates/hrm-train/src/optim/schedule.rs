use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// Linear warm-up to a base rate, then half a cosine down to `min_ratio` of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CosineSchedule {
    /// Steps of warm-up; step 1 has the rate `base / warmup_steps`.
    pub warmup_steps: u64,
    /// Step at which the rate reaches its minimum.
    pub total_steps: u64,
    /// Final rate relative to the base.
    pub min_ratio: f64,
}

impl CosineSchedule {
    /// The learning rate of a step, counted from 1.
    pub fn rate(&self, base: f64, step: u64) -> f64 {
        let Self { warmup_steps, total_steps, min_ratio } = *self;
        if step < warmup_steps {
            return base * step as f64 / warmup_steps.max(1) as f64;
        }
        let progress = (step - warmup_steps) as f64 / total_steps.saturating_sub(warmup_steps).max(1) as f64;
        base * (min_ratio + ((1.0 - min_ratio) * 0.5 * (1.0 + (PI * progress).cos())).max(0.0))
    }
}

/// Optimizer steps of a training: every epoch offers each group's mean number of examples.
pub fn total_steps(epochs: u64, groups: usize, mean_examples: f64, global_batch: usize) -> u64 {
    (epochs as f64 * groups as f64 * mean_examples / global_batch as f64) as u64
}
