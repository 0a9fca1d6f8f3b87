//! Looks at the metrics of a run for what goes wrong slowly: halting that decides nothing, Q values that drift away from
//! the truth, overfitting. Warnings only; nothing changes in the training.

use hrm_model::{ModelConfig, loss::Metrics};
use serde::{Deserialize, Serialize};

/// Sequences that are judged together.
const WINDOW: f64 = 2000.0;
/// Q values have drifted when the chance that they promise is this far from the share that is right.
const DRIFT: f64 = 0.25;
/// Evaluations in a row with a higher loss than the best that make an onset of overfitting.
const RISES: u32 = 3;
/// How much higher.
const RISE: f64 = 1.02;

/// What is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Every sequence halts after its first segment, though many are wrong.
    AlwaysFirst,
    /// No sequence halts before the last segment, though many are right.
    AlwaysLast,
    /// `q_halt` promises another share of right answers than there is.
    QDrift,
    /// The held-out loss rises while the training loss falls.
    Overfitting,
}

/// One warning; a row of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warning {
    /// After this step.
    pub step: u64,
    /// What.
    pub warning: Trouble,
    /// In words.
    pub message: String,
}

/// What the watch remembers; part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Sums over the sequences that halted since the last judgement.
    window: Sums,
    /// Cross-entropy in training since the last evaluation: sum and sequences.
    train_loss: (f64, f64),
    /// The best evaluation: its loss, the training loss at that time, the best exact accuracy so far.
    best: Option<(f64, f64, f64)>,
    /// Evaluations since then, if each was worse.
    rises: u32,
    /// Told already, and not over since.
    told: Vec<Trouble>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    sequences: f64,
    steps: f64,
    exact: f64,
    promised: f64,
}

impl Watch {
    /// Takes in the metrics of a good step of `batch` sequences.
    pub fn step(&mut self, step: u64, metrics: &Metrics, batch: usize, model: &ModelConfig) -> Vec<Warning> {
        self.train_loss.0 += metrics.lm_loss;
        self.train_loss.1 += batch as f64;
        self.window.sequences += metrics.count;
        self.window.steps += metrics.steps;
        self.window.exact += metrics.exact_accuracy;
        self.window.promised += metrics.q_halt;
        if self.window.sequences < WINDOW {
            return Vec::new();
        }
        let Sums { sequences, steps, exact, promised } = std::mem::take(&mut self.window);
        let (steps, exact, promised) = (steps / sequences, exact / sequences, promised / sequences);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let max = model.halt_max_steps as f64;
        let explores = model.halt_exploration_prob;
        // Exploration draws a minimum from 2 to the maximum.
        let earliest = 1.0 - explores + explores * (2.0 + max) / 2.0;
        let chooses = model.halt_max_steps > 1;
        let mut warnings = Vec::new();
        let mut judge = |trouble, is: bool, message: String| {
            warnings.extend(self.judge(step, trouble, is, message));
        };
        judge(
            Trouble::AlwaysFirst,
            chooses && steps <= earliest * 1.02 && exact < 0.9,
            format!(
                "nearly every sequence halts after its first segment, though only {} are right: the model does not use its \
                 {} segments; a higher model.halt_exploration_prob shows it what later segments give",
                percent(exact),
                model.halt_max_steps
            ),
        );
        judge(
            Trouble::AlwaysLast,
            chooses && steps >= max - 0.01 * (max - 1.0) && exact > 0.5,
            format!(
                "no sequence halts before segment {}, though {} are right: q_halt has not learned to tell; a higher \
                 train.halt_loss_weight lets it count for more",
                model.halt_max_steps,
                percent(exact)
            ),
        );
        judge(
            Trouble::QDrift,
            (promised - exact).abs() > DRIFT,
            format!(
                "q_halt promises that {} of the answers are right, {} are: halting and voting cannot rely on it",
                percent(promised),
                percent(exact)
            ),
        );
        warnings
    }

    /// The mean cross-entropy in training since this was last asked for; `None` if no step was taken since.
    pub fn take_train_loss(&mut self) -> Option<f64> {
        let (sum, count) = std::mem::take(&mut self.train_loss);
        (count > 0.0).then(|| sum / count)
    }

    /// Takes in an evaluation after `step`; `train_loss` is that of the steps before, since the last evaluation.
    pub fn evaluation(
        &mut self,
        step: u64,
        train_loss: Option<f64>,
        loss: f64,
        exact: f64,
    ) -> Option<Warning> {
        let trained = train_loss.is_some();
        let train_loss = train_loss.unwrap_or_default();
        let Some((best, train_then, best_exact)) = self.best else {
            self.best = Some((loss, train_loss, exact));
            return None;
        };
        if loss <= best || !trained {
            self.best = Some((loss.min(best), train_loss, exact.max(best_exact)));
            self.rises = 0;
            return self.judge(step, Trouble::Overfitting, false, String::new());
        }
        self.best = Some((best, train_then, exact.max(best_exact)));
        let rises = loss > best * RISE && train_loss < train_then && exact <= best_exact;
        self.rises = if rises { self.rises + 1 } else { 0 };
        let message = format!(
            "the held-out loss has been higher than its best ({best:.4}) for {} evaluations, {loss:.4} now, while the training \
             loss fell from {train_then:.4} to {train_loss:.4}: the model overfits; more puzzles or symmetries, or \
             train.early_stop_patience, help",
            self.rises
        );
        self.judge(step, Trouble::Overfitting, self.rises >= RISES, message)
    }

    /// A warning when a trouble begins.
    fn judge(&mut self, step: u64, trouble: Trouble, is: bool, message: String) -> Option<Warning> {
        let told = self.told.contains(&trouble);
        if !is {
            self.told.retain(|other| *other != trouble);
            return None;
        }
        if !told {
            self.told.push(trouble);
        }
        (!told).then_some(Warning { step, warning: trouble, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelConfig {
        ModelConfig::new(6, 16).with(|config| config.halt_max_steps = 8)
    }

    /// 1,000 halted sequences.
    fn metrics(mean_steps: f64, exact: f64, promised: f64) -> Metrics {
        Metrics {
            count: 1000.0,
            exact_accuracy: exact * 1000.0,
            q_halt: promised * 1000.0,
            steps: mean_steps * 1000.0,
            ..Metrics::default()
        }
    }

    fn told(watch: &mut Watch, metrics: &Metrics) -> Vec<Trouble> {
        let warnings = (0..2).flat_map(|step| watch.step(step, metrics, 1000, &model()));
        warnings.map(|warning| warning.warning).collect()
    }

    #[test]
    fn dead_halting_is_told_once_until_it_is_over() {
        let watch = &mut Watch::default();
        assert_eq!(told(watch, &metrics(8.0, 0.0, 0.01)), [], "an untrained model runs to the end");
        assert_eq!(told(watch, &metrics(8.0, 0.7, 0.6)), [Trouble::AlwaysLast]);
        assert_eq!(told(watch, &metrics(8.0, 0.7, 0.6)), []);
        assert_eq!(told(watch, &metrics(5.0, 0.7, 0.6)), []);
        assert_eq!(told(watch, &metrics(8.0, 0.7, 0.6)), [Trouble::AlwaysLast]);
        let first = 0.9 + 0.1 * 5.0;
        assert_eq!(told(watch, &metrics(first, 0.3, 0.4)), [Trouble::AlwaysFirst]);
        assert_eq!(told(watch, &metrics(first, 0.99, 0.98)), [], "right at once is as it should be");
    }

    #[test]
    fn drifting_q_values_are_told() {
        let watch = &mut Watch::default();
        assert_eq!(told(watch, &metrics(4.0, 0.5, 0.6)), []);
        assert_eq!(told(watch, &metrics(4.0, 0.5, 0.9)), [Trouble::QDrift]);
        assert_eq!(told(watch, &metrics(4.0, 0.5, 0.1)), []);
    }

    #[test]
    fn overfitting_is_told_when_it_begins() {
        let watch = &mut Watch::default();
        let mut told = Vec::new();
        for (index, (train, test, exact)) in [
            (1.0, 1.0, 0.1),
            (0.8, 0.9, 0.2),
            (0.7, 0.95, 0.2),
            (0.6, 1.0, 0.2),
            (0.5, 1.1, 0.1),
            (0.4, 1.2, 0.1),
            (0.3, 0.8, 0.3),
        ]
        .into_iter()
        .enumerate()
        {
            let metrics = Metrics { lm_loss: train * 10.0, ..Metrics::default() };
            watch.step(index as u64, &metrics, 10, &model());
            let train = watch.take_train_loss();
            told.extend(watch.evaluation(index as u64, train, test, exact).map(|warning| warning.step));
        }
        assert_eq!(told, [4], "after the third rise");
        // A loss that rises while accuracy does too is no overfitting.
        let watch = &mut Watch::default();
        for index in 0..6 {
            let metrics = Metrics { lm_loss: 10.0 - f64::from(index), ..Metrics::default() };
            watch.step(1, &metrics, 10, &model());
            let exact = f64::from(index) / 10.0;
            let train = watch.take_train_loss();
            assert_eq!(watch.evaluation(1, train, 1.0 + f64::from(index), exact), None);
        }
    }
}
