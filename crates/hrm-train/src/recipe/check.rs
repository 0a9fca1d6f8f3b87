//! What the values of a recipe may be: the range of each, then what they say together.

use hrm_data::registry::Family;
use hrm_model::{Cycles, ModelError, RecurrenceKind, settings::Unsound};
use toml::Value;

use super::{Also, ConfigError, DataConfig, DataSource, MOST, Recipe, ResolvedRecipe, flatten, to_table};
use crate::{optim::Decay, step::curriculum};

/// A rule: whether it is broken, the key at fault, and what was expected.
type Rule = (bool, &'static str, String);

impl ResolvedRecipe {
    /// The first value that cannot be used.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let problem = self.recipe.problem();
        problem.map_or(Ok(()), |(key, got, expected)| {
            Err(ConfigError::Value { origin: self.origin(&key), key, got, expected })
        })
    }
}

impl Recipe {
    /// The first key at fault, its value, and what was expected.
    fn problem(&self) -> Option<(String, String, String)> {
        let of_a_size = |also: &Also| {
            let of_that_size = Self { data: also.section(&self.data), ..self.clone() };
            let (key, got, expected) = of_that_size.problem()?;
            Some((
                "data.also".to_owned(),
                format!("{{ {} = {got} }}", key.trim_start_matches("data.")),
                expected,
            ))
        };
        let in_section = |section: &str, ranges: Result<(), Unsound>| {
            ranges.err().map(|(key, got, expected)| (format!("{section}.{key}"), got, expected))
        };
        let broken = |rules: Vec<Rule>| {
            let rule = rules.into_iter().find(|(broken, ..)| *broken);
            rule.map(|(_, key, expected)| {
                let got = flatten(&to_table(self)).get(key).map_or_else(String::new, Value::to_string);
                (key.to_owned(), got, expected)
            })
        };
        in_section("data", self.data.check_ranges())
            .or_else(|| in_section("train", self.train.check_ranges()))
            .or_else(|| in_section("eval", self.eval.check_ranges()))
            .or_else(|| {
                let (key, value) = beyond(self)?;
                Some((key, value.to_string(), format!("at most {MOST}")))
            })
            .or_else(|| broken(self.data.rules()))
            .or_else(|| self.data.also.iter().find_map(of_a_size))
            .or_else(|| broken(self.rules()))
            .or_else(|| match self.model.validate() {
                Err(ModelError::Config { field, got, expected }) => {
                    Some((format!("model.{field}"), got, expected))
                }
                _ => None,
            })
    }

    /// What the values of training and evaluation say together.
    fn rules(&self) -> Vec<Rule> {
        let Self { data, train, eval, model } = self;
        let batch = train.global_batch_size;
        let decays = train.lr_min_ratio < 1.0;
        let full = Cycles { h_cycles: model.h_cycles, l_cycles: model.l_cycles };
        let stages = curriculum::problem(&train.curriculum, full);
        let is_rate = |lr: f64| lr >= 0.0 && lr.is_finite();
        vec![
            (
                !batch.is_multiple_of(train.accumulate),
                "train.accumulate",
                format!("a divisor of train.global_batch_size ({batch}): parts of one size"),
            ),
            (
                train.blanks_only && matches!(data.task, Family::Maze | Family::Arc),
                "train.blanks_only",
                "false for mazes and ARC, where a cell may stay as it was given without being known".into(),
            ),
            (
                model.conflict && data.wrong_hint_prob == 0.0 && train.commit_prob == 0.0,
                "model.conflict",
                "false, or data.wrong_hint_prob or train.commit_prob above 0: contradictions are learned from wrong values"
                    .into(),
            ),
            (
                train.commit_prob > 0.0 && (!model.conflict || train.chains > 1),
                "train.commit_prob",
                "0, or model.conflict = true and train.chains = 1".into(),
            ),
            (
                !data.also.is_empty() && train.batches_in_turn <= data.also.len(),
                "train.batches_in_turn",
                format!("at least {}: one for each size in data.also, and one for the recipe's own", data.also.len() + 1),
            ),
            (
                !data.also.is_empty() && train.checkpoint_carry,
                "train.checkpoint_carry",
                "false with data.also: a checkpoint keeps puzzles at hand of one size only".into(),
            ),
            (
                !data.also.is_empty() && train.max_steps == 0,
                "train.max_steps",
                "at least 1 with data.also: an epoch is one of the recipe's own puzzles".into(),
            ),
            (
                train.lr_schedule == Decay::Linear && !decays,
                "train.lr_min_ratio",
                "less than 1: how far train.lr_schedule = \"linear\" goes down".into(),
            ),
            (
                train.lr_schedule == Decay::Constant && decays,
                "train.lr_min_ratio",
                "1, as train.lr_schedule = \"constant\" does not go down".into(),
            ),
            (train.ema_start > 0 && train.ema == 0.0, "train.ema_start", "0, or a rate in train.ema".into()),
            (
                !eval.best_metric.is_of(data.task),
                "eval.best_metric",
                "a score of the task: exact_accuracy, token_accuracy or lm_loss; any_optimal for mazes, \
                 valid for other puzzles with rules, pass_2 for ARC"
                    .into(),
            ),
            (
                train.early_stop_patience > 0 && eval.interval == 0,
                "train.early_stop_patience",
                "0, or an eval.interval: only evaluations can tell".into(),
            ),
            (
                !train.curriculum.is_empty() && model.recurrence == RecurrenceKind::Transformer,
                "train.curriculum",
                "[]: model.recurrence = \"transformer\" has no cycles".into(),
            ),
            (stages.is_some(), "train.curriculum", stages.unwrap_or_default()),
            (
                !train.groups.iter().all(|group| group.lr.is_none_or(is_rate)),
                "train.groups",
                "learning rates of 0 or more".into(),
            ),
            (
                eval.train_limit > 0 && data.task == Family::Arc,
                "eval.train_limit",
                "0 for ARC: its training pairs have no vote".into(),
            ),
            (
                train.max_steps == 0 && train.epochs == 0,
                "train.epochs",
                "at least 1, or train.max_steps".into(),
            ),
        ]
    }
}

impl DataConfig {
    /// What its values say together. Options that the task would ignore are at fault too.
    fn rules(&self) -> Vec<Rule> {
        let Self { task, source, extra_shares: shares, .. } = self;
        let sources: Vec<&str> = DataSource::of(*task).iter().map(|source| source.name()).collect();
        let generates = *source == DataSource::Generate;
        let json = *source == DataSource::Json;
        let sudoku = *task == Family::Sudoku;
        let trains = !self.path.is_empty() || !self.extra_paths.is_empty() || self.evaluation_demonstrations;
        let extra_is_read = json || (sudoku && *source == DataSource::Csv);
        let are_shares =
            shares.iter().all(|share| *share > 0.0 && *share < 1.0) && shares.iter().sum::<f64>() < 1.0;
        let no_file = || "no file with data.source = \"generate\"; another source reads one".to_owned();
        let hints = || {
            let families = Family::ALL.iter().filter(|family| family.takes_hints());
            format!("0 but for {}", families.map(|family| family.name()).collect::<Vec<_>>().join(" and "))
        };
        let some = |key, count: usize| {
            let expected = "at least 1 with data.source = \"generate\"".to_owned();
            (generates && count == 0, key, expected)
        };
        vec![
            (
                !sources.contains(&source.name()),
                "data.source",
                format!("one of {} for {task}", sources.join(", ")),
            ),
            (
                self.path.is_empty() && !generates && !json,
                "data.path",
                "the file or folder with the training puzzles".into(),
            ),
            (generates && !self.path.is_empty(), "data.path", no_file()),
            (generates && !self.test_path.is_empty(), "data.test_path", no_file()),
            (
                json && self.test_path.is_empty(),
                "data.test_path",
                "the file or folder with the evaluation tasks".into(),
            ),
            (
                json && !trains,
                "data.path",
                "the training tasks, or data.evaluation_demonstrations = true to train on those alone".into(),
            ),
            (
                !self.extra_paths.is_empty() && !extra_is_read,
                "data.extra_paths",
                "none but for Sudoku from csv and ARC from json".into(),
            ),
            (
                !shares.is_empty() && (!sudoku || shares.len() != self.extra_paths.len() || !are_shares),
                "data.extra_shares",
                format!(
                    "for Sudoku, one share for each of data.extra_paths ({}), above 0 and together below 1",
                    self.extra_paths.len()
                ),
            ),
            (self.hint_prob > 0.0 && !task.takes_hints(), "data.hint_prob", hints()),
            (self.wrong_hint_prob > 0.0 && !task.takes_hints(), "data.wrong_hint_prob", hints()),
            (
                *task == Family::Queens && self.grid_rows != self.grid_cols,
                "data.grid_cols",
                "as many columns as rows (data.grid_rows) for queens".into(),
            ),
            (
                generates && self.min_clues > self.max_clues,
                "data.min_clues",
                format!("at most data.max_clues ({})", self.max_clues),
            ),
            some("data.train_examples", self.train_examples),
            some("data.test_examples", self.test_examples),
        ]
    }
}

/// The first whole number that is so large that a sum or product of it could wrap; but for seeds, which may be any.
fn beyond(recipe: &Recipe) -> Option<(String, i64)> {
    fn find(key: &str, value: &Value) -> Option<(String, i64)> {
        match value {
            Value::Integer(n) => {
                (n.unsigned_abs() > MOST && !key.ends_with("seed")).then(|| (key.to_owned(), *n))
            }
            Value::Array(items) => items.iter().find_map(|item| find(key, item)),
            Value::Table(table) => {
                table.iter().find_map(|(name, value)| find(&format!("{key}.{name}"), value))
            }
            _ => None,
        }
    }
    flatten(&to_table(recipe)).iter().find_map(|(key, value)| find(key, value))
}
