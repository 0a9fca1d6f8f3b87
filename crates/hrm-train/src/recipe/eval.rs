//! Section `[eval]`.

use hrm_model::settings::Range;

use super::BATCH;
use crate::trainer::BestMetric;

hrm_model::settings! {
    /// Section `[eval]`.
    pub struct EvalConfig {
        /// Steps between two evaluations; 0 for only the last.
        interval: u64 = 1000, resumable;
        /// Sequences per batch.
        batch_size: usize = 64 => BATCH, resumable;
        /// Whether training goes on while an evaluation runs on the weights of its step, in a thread of its own. They share the
        /// processor: on a CPU both become slower.
        background: bool = false, resumable;
        /// Held-out puzzles to evaluate on during training; 0 for all.
        limit: usize = 0, resumable;
        /// Training puzzles to evaluate on as well, as they stand in the data; 0 for none.
        train_limit: usize = 0, resumable;
        /// Numbers of segments after which exact accuracy is reported as well, for example [1, 2, 4, 8, 16].
        steps: Vec<usize> = Vec::new() => Range::count(1, 1 << 16), resumable;
        /// What makes a checkpoint the best: `exact_accuracy`, `token_accuracy` or `lm_loss` of an evaluation, `any_optimal` for
        /// mazes, `valid` for puzzles with rules, `pass_2` for ARC.
        best_metric: BestMetric = BestMetric::ExactAccuracy;
    }
}
