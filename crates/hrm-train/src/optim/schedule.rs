use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine down to the minimum.
    #[default]
    Cosine,
    /// A straight line down to the minimum.
    Linear,
    /// No decay.
    Constant,
}

/// The learning rate of each step: linear warm-up to a base rate, then a decay to `min_ratio` of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// What follows the warm-up.
    pub decay: Decay,
    /// Steps of warm-up; step 1 has the rate `base / warmup_steps`.
    pub warmup_steps: u64,
    /// Step at which the rate reaches its minimum.
    pub total_steps: u64,
    /// Final rate relative to the base; no matter with a constant rate.
    pub min_ratio: f64,
}

impl Schedule {
    /// The learning rate of a step, counted from 1.
    pub fn rate(&self, base: f64, step: u64) -> f64 {
        let Self { decay, warmup_steps, total_steps, min_ratio } = *self;
        if step < warmup_steps {
            return base * step as f64 / warmup_steps.max(1) as f64;
        }
        let progress = (step - warmup_steps) as f64 / total_steps.saturating_sub(warmup_steps).max(1) as f64;
        base * match decay {
            Decay::Cosine => min_ratio + ((1.0 - min_ratio) * 0.5 * (1.0 + (PI * progress).cos())).max(0.0),
            Decay::Linear => min_ratio + (1.0 - min_ratio) * (1.0 - progress).max(0.0),
            Decay::Constant => 1.0,
        }
    }
}

/// Optimizer steps of a training: every epoch offers each group's mean number of examples.
pub fn total_steps(epochs: u64, groups: usize, mean_examples: f64, global_batch: usize) -> u64 {
    (epochs as f64 * groups as f64 * mean_examples / global_batch as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall_as_their_names_say() {
        let rates = |decay, min_ratio| {
            let schedule = Schedule { decay, warmup_steps: 4, total_steps: 12, min_ratio };
            [1, 2, 4, 8, 12].map(|step| schedule.rate(2.0, step))
        };
        assert_eq!(rates(Decay::Constant, 1.0), [0.5, 1.0, 2.0, 2.0, 2.0]);
        assert_eq!(rates(Decay::Linear, 0.0), [0.5, 1.0, 2.0, 1.0, 0.0]);
        assert_eq!(rates(Decay::Linear, 0.5), [0.5, 1.0, 2.0, 1.5, 1.0]);
        let cosine = rates(Decay::Cosine, 0.5);
        assert_eq!(cosine[..3], [0.5, 1.0, 2.0]);
        assert!((cosine[3] - 1.5).abs() < 1e-12 && (cosine[4] - 1.0).abs() < 1e-12, "{cosine:?}");
        let without_warmup =
            Schedule { decay: Decay::Linear, warmup_steps: 0, total_steps: 4, min_ratio: 0.0 };
        assert_eq!([1, 2, 3, 4].map(|step| without_warmup.rate(1.0, step)), [0.75, 0.5, 0.25, 0.0]);
    }
}
