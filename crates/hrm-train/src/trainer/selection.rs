//! Which checkpoint is the best, and when to stop looking for a better one.

use hrm_data::registry::Family;
use serde::{Deserialize, Serialize};

use hrm_infer::evaluate::EvalReport;

hrm_data::named! {
    /// What makes an evaluation better than another: `eval.best_metric`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    #[serde(rename_all = "snake_case")]
    pub enum BestMetric {
        /// More sequences right in every cell.
        ExactAccuracy = "exact_accuracy",
        /// More right cells.
        TokenAccuracy = "token_accuracy",
        /// A lower cross-entropy.
        LmLoss = "lm_loss",
        /// Mazes: more shortest paths, canonical or not.
        AnyOptimal = "any_optimal",
        /// Puzzles with rules: more answers that keep them.
        Valid = "valid",
        /// ARC: more tasks solved by one of two answers, by HRM's rule.
        #[serde(rename = "pass_2")]
        Pass2 = "pass_2",
    }
}

impl BestMetric {
    /// Its value in an evaluation; not a number where the task has no such score, which recipes are checked for.
    pub fn of(self, report: &EvalReport) -> f64 {
        match self {
            Self::ExactAccuracy => report.exact_accuracy,
            Self::TokenAccuracy => report.token_accuracy,
            Self::LmLoss => report.lm_loss,
            Self::AnyOptimal => report.task.any_optimal.unwrap_or(f64::NAN),
            Self::Valid => report.task.valid.unwrap_or(f64::NAN),
            Self::Pass2 => report.task.arc.map_or(f64::NAN, |arc| arc.pass_2_hrm),
        }
    }

    /// Whether evaluations of a task have it.
    pub fn is_of(self, task: Family) -> bool {
        match self {
            Self::ExactAccuracy | Self::TokenAccuracy | Self::LmLoss => true,
            Self::AnyOptimal => task == Family::Maze,
            Self::Valid => !matches!(task, Family::Maze | Family::Arc),
            Self::Pass2 => task == Family::Arc,
        }
    }

    fn better(self, new: f64, old: f64) -> bool {
        match self {
            Self::LmLoss => new < old,
            _ => new > old,
        }
    }
}

/// The best evaluation so far; part of a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    best: Option<f64>,
    /// Evaluations since then.
    pub since_best: u64,
}

impl Selection {
    /// Takes in an evaluation; whether it is the best so far.
    pub fn judge(&mut self, metric: BestMetric, report: &EvalReport) -> bool {
        let value = metric.of(report);
        let is_best = value.is_finite() && self.best.is_none_or(|best| metric.better(value, best));
        if is_best {
            self.best = Some(value);
            self.since_best = 0;
        } else {
            self.since_best += 1;
        }
        is_best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_kept_and_the_wait_for_a_better_one_counted() {
        let report = |exact_accuracy: f64, lm_loss: f64| {
            let json = serde_json::json!({
                "examples": 1, "lm_loss": 0.0, "q_halt_loss": 0.0, "token_accuracy": 0.0,
                "exact_accuracy": 0.0, "q_halt_accuracy": 0.0, "mean_steps": 1.0, "seconds": 0.0
            });
            let zero: EvalReport = serde_json::from_value(json).unwrap();
            EvalReport { exact_accuracy, lm_loss, ..zero }
        };
        let judged = |metric, values: &[f64]| {
            let mut selection = Selection::default();
            values
                .iter()
                .map(|v| (selection.judge(metric, &report(*v, *v)), selection.since_best))
                .collect::<Vec<_>>()
        };
        let rising = [0.1, 0.3, 0.3, 0.2, 0.4];
        let expected = [(true, 0), (true, 0), (false, 1), (false, 2), (true, 0)];
        assert_eq!(judged(BestMetric::ExactAccuracy, &rising), expected);
        let falling: Vec<f64> = rising.iter().map(|v| 1.0 - v).collect();
        assert_eq!(judged(BestMetric::LmLoss, &falling), expected);
        assert_eq!(judged(BestMetric::LmLoss, &[f64::NAN, 1.0]), [(false, 1), (true, 0)]);
    }
}
