//! Recipes: what a TOML file in `configs/` says, resolved with where every value came from.
//!
//! A key stands once, in the section that it belongs to ([`data`], [`train`], [`eval`]; section `[model]` is
//! [`hrm_model::Architecture`] itself): what it means, its type, its default, its range, and whether a resumed run may have another
//! value. What several keys say together is checked in `check`.

mod check;
pub mod data;
pub mod eval;
mod origin;
#[cfg(feature = "schema")]
mod schema;
pub mod train;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::backend::Backend;
use hrm_model::{
    Architecture, ForwardChoice, ForwardDtype,
    settings::{Key, Range},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

pub use data::{Also, DataConfig, DataSource, MazeKind, OnLeak};
pub use eval::EvalConfig;
pub use origin::{ConfigRow, Origin};
pub use train::{GroupConfig, OptimizerKind, TrainConfig};

/// Whole numbers are at most this, so that no sum or product of them wraps.
const MOST: u64 = 1 << 40;
/// Sequences of a batch.
const BATCH: Range = Range::count(1, 1 << 20);

/// A complete description of a training run. In every numeric field that says so, 0 means "off".
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Where puzzles come from.
    pub data: DataConfig,
    /// The architecture; vocabulary, sequence length and number of puzzles come from the data.
    pub model: Architecture,
    /// Optimization.
    pub train: TrainConfig,
    /// Evaluation during training.
    pub eval: EvalConfig,
}

impl Recipe {
    /// Every section with its keys.
    pub const SECTIONS: [(&'static str, &'static [Key]); 4] = [
        ("data", DataConfig::KEYS),
        ("model", Architecture::KEYS),
        ("train", TrainConfig::KEYS),
        ("eval", EvalConfig::KEYS),
    ];

    /// What may differ when a run is resumed: keys that do not change what the remaining steps compute.
    pub fn resumable() -> impl Iterator<Item = String> {
        Self::SECTIONS.into_iter().flat_map(|(section, keys)| {
            keys.iter().filter(|key| key.resumable).map(move |key| format!("{section}.{}", key.name))
        })
    }
}

/// What can be wrong with a recipe.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}: {source}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A key that no recipe has.
    #[error("{origin}: unknown key `{key}`{}", suggestion.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
    UnknownKey {
        /// Who set it.
        origin: Origin,
        /// Its dotted name.
        key: String,
        /// The nearest known key.
        suggestion: Option<String>,
    },
    /// A value of the wrong type or outside its range.
    #[error("{origin}: {key} = {got}: expected {expected}")]
    Value {
        /// Who set it.
        origin: Origin,
        /// Its dotted name.
        key: String,
        /// What was given.
        got: String,
        /// What would be valid.
        expected: String,
    },
    /// `--set` without `=`.
    #[error("--set {0}: expected key=value, for example --set train.seed=3")]
    Flag(String),
}

/// A recipe and the origin of every value that is not a default.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedRecipe {
    /// The values.
    pub recipe: Recipe,
    origins: BTreeMap<String, Origin>,
}

impl std::ops::Deref for ResolvedRecipe {
    type Target = Recipe;

    fn deref(&self) -> &Recipe {
        &self.recipe
    }
}

impl ResolvedRecipe {
    /// Defaults, then the file's values, then those of `sets` (`train.seed=3`).
    ///
    /// # Errors
    /// If the file is absent or no TOML, a key is unknown, or a value cannot be used.
    pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Self, ConfigError> {
        let text = file.map(|path| Ok((path, read(path)?))).transpose()?;
        Self::resolve(text.as_ref().map(|(path, text)| (*path, text.as_str())), sets)
    }

    /// The recipe that [`to_toml`](Self::to_toml) wrote to a file, with the origins noted there, then the values of `sets`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_saved(file: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        Self::saved(file, &read(file)?, sets)
    }

    /// As [`load_saved`](Self::load_saved), from text that came from `file`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn saved(file: &Path, text: &str, sets: &[String]) -> Result<Self, ConfigError> {
        let mut resolved = Self::resolve(Some((file, text)), sets)?;
        let mut noted = origin::noted(text);
        let origins = std::mem::take(&mut resolved.origins).into_iter();
        resolved.origins = origins
            .filter_map(|(key, origin)| match origin {
                Origin::File(_) => noted.remove_entry(&key),
                _ => Some((key, origin)),
            })
            .collect();
        Ok(resolved)
    }

    fn resolve(file: Option<(&Path, &str)>, sets: &[String]) -> Result<Self, ConfigError> {
        let mut values = flatten(&to_table(&Recipe::default()));
        let known: Vec<String> = values.keys().cloned().collect();
        let mut origins = BTreeMap::new();
        let mut set = |values: &mut BTreeMap<String, Value>, key: String, value: Value, origin: Origin| {
            let Some((key, value)) = current(key, value, &origin)? else { return Ok(()) };
            let Some(old) = values.get_mut(&key) else {
                let suggestion = nearest(&key, &known);
                return Err(ConfigError::UnknownKey { origin, key, suggestion });
            };
            *old = like(old, value, &key, &origin)?;
            origins.insert(key, origin);
            Ok(())
        };
        if let Some((path, text)) = file {
            let table: Table = text
                .parse()
                .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
            for (key, value) in flatten(&table) {
                set(&mut values, key, value, Origin::File(path.to_owned()))?;
            }
        }
        for flag in sets {
            let (key, value) = flag.split_once('=').ok_or_else(|| ConfigError::Flag(flag.clone()))?;
            let value = value.trim();
            // A bare word is a string: --set train.loss=softmax
            let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
            let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
            set(&mut values, key.trim().to_owned(), value, Origin::Flag)?;
        }
        // As in the original's `puzzle_emb_ndim: ${.hidden_size}`.
        if !origins.contains_key("model.puzzle_emb_ndim") {
            values.insert("model.puzzle_emb_ndim".to_owned(), values["model.hidden_size"].clone());
        }
        let recipe = deserialize(&values, &origins)?;
        let resolved = Self { recipe, origins };
        resolved.validate()?;
        Ok(resolved)
    }

    /// A recipe made in code.
    pub fn from_recipe(recipe: Recipe) -> Self {
        Self { recipe, origins: BTreeMap::new() }
    }

    /// The recipe with the backend's own choice, [`ForwardDtype::fastest`], in the place of `model.forward_dtype = "auto"`.
    pub fn on_backend<B: Backend>(mut self, device: &B::Device) -> Self {
        if self.recipe.model.forward_dtype == ForwardChoice::Auto {
            self.recipe.model.forward_dtype = ForwardDtype::fastest::<B>(device).into();
            self.origins.insert("model.forward_dtype".to_owned(), Origin::Backend(B::name(device)));
        }
        self
    }

    /// Notes which values were changed when a run was resumed after a step.
    pub fn changed_after<'a>(&mut self, step: u64, keys: impl IntoIterator<Item = &'a str>) {
        let changed = keys.into_iter().map(|key| (key.to_owned(), Origin::Resumed(step)));
        self.origins.extend(changed);
    }

    /// Takes a default's place for a value that says nothing about the rest of a run.
    pub(crate) fn forget_stop(&mut self) {
        self.recipe.train.stop_after = 0;
        self.origins.remove("train.stop_after");
    }

    /// The origin of a value.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Every value with its origin, in the order of the sections.
    pub fn rows(&self) -> Vec<ConfigRow> {
        let mut rows = Vec::new();
        for (section, table) in to_table(&self.recipe) {
            let Value::Table(table) = table else { continue };
            for (name, value) in table {
                let key = format!("{section}.{name}");
                let origin = self.origin(&key);
                rows.push(ConfigRow { key, value: value.to_string(), origin });
            }
        }
        rows
    }

    /// As a TOML file, with the origin of each value that is no default as a comment.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        let rows = self.rows();
        for row in &rows {
            let (head, name) = row.key.split_once('.').unwrap_or(("", &row.key));
            if head != section {
                text.push_str(&format!("{}[{head}]\n", if section.is_empty() { "" } else { "\n" }));
                section = head;
            }
            text.push_str(&format!("{name} = {}", row.value));
            if row.origin != Origin::Default {
                text.push_str(&format!("  # {}", row.origin));
            }
            text.push('\n');
        }
        text
    }

    /// Keys whose values differ in `other`, with both values.
    pub fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let (ours, theirs) = (flatten(&to_table(&self.recipe)), flatten(&to_table(&other.recipe)));
        ours.into_iter()
            .filter_map(|(key, ours)| {
                let theirs = theirs.get(&key)?;
                (ours != *theirs).then(|| (key, ours.to_string(), theirs.to_string()))
            })
            .collect()
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })
}

fn to_table(recipe: &Recipe) -> Table {
    match Value::try_from(recipe) {
        Ok(Value::Table(table)) => table,
        // A recipe is made of plain numbers, strings and flags only.
        _ => Table::new(),
    }
}

/// Leaves of a table by dotted name.
fn flatten(table: &Table) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, table: &Table, out: &mut BTreeMap<String, Value>) {
        for (key, value) in table {
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Table(inner) => walk(&key, inner, out),
                leaf => {
                    out.insert(key, leaf.clone());
                }
            }
        }
    }
    let mut out = BTreeMap::new();
    walk("", table, &mut out);
    out
}

/// `new` in the type of `old`: an integer is accepted where a float is expected.
fn like(old: &Value, new: Value, key: &str, origin: &Origin) -> Result<Value, ConfigError> {
    match (old, new) {
        (Value::Float(_), Value::Integer(n)) => Ok(Value::Float(n as f64)),
        (old, new) if old.same_type(&new) => Ok(new),
        (old, new) => Err(ConfigError::Value {
            origin: origin.clone(),
            key: key.to_owned(),
            got: new.to_string(),
            expected: format!("{} {}, like {old}", article(old.type_str()), old.type_str()),
        }),
    }
}

/// A key and its value under today's name; `None` for one that is gone and said nothing, as files of older runs have it.
fn current(key: String, value: Value, origin: &Origin) -> Result<Option<(String, Value)>, ConfigError> {
    match (key.as_str(), &value) {
        ("model.mlp_t", Value::Boolean(mlp)) => {
            let mixer = if *mlp { "mlp" } else { "attention" };
            Ok(Some(("model.mixer".to_owned(), Value::String(mixer.to_owned()))))
        }
        ("data.min_rating", Value::Integer(0)) => Ok(None),
        ("data.min_rating", _) => Err(ConfigError::Value {
            origin: origin.clone(),
            key,
            got: value.to_string(),
            expected: "0: this key is gone; put the puzzles that you want into a file of their own"
                .to_owned(),
        }),
        _ => Ok(Some((key, value))),
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// A recipe of all its values; an error names the key.
fn deserialize(
    values: &BTreeMap<String, Value>,
    origins: &BTreeMap<String, Origin>,
) -> Result<Recipe, ConfigError> {
    let mut table = Table::new();
    for (key, value) in values {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = entry {
            section.insert(name.to_owned(), value.clone());
        }
    }
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        // Within a list of tables the path goes on: `train.groups[0].lr`.
        let key = path.split('[').next().unwrap_or_default().to_owned();
        ConfigError::Value {
            origin: origins.get(&key).cloned().unwrap_or(Origin::Default),
            got: values.get(&key).map_or_else(|| "these values".to_owned(), ToString::to_string),
            expected: expectation(error.inner()),
            key,
        }
    })
}

fn expectation(error: &toml::de::Error) -> String {
    let message = error.message();
    message.split_once("expected ").map_or(message, |(_, expected)| expected).to_owned()
}

/// The known key nearest to a mistyped one.
fn nearest(key: &str, known: &[String]) -> Option<String> {
    let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    known
        .iter()
        .map(|k| (strsim::levenshtein(key, k).min(strsim::levenshtein(&name(key), &name(k)) + 1), k))
        .min_by_key(|(d, _)| *d)
        .filter(|(d, _)| *d <= 1 + key.len() / 4)
        .map(|(_, k)| k.clone())
}

#[cfg(test)]
mod tests {
    use hrm_model::loss::LossKind;

    use super::*;

    fn load(text: &str, sets: &[&str]) -> Result<ResolvedRecipe, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipe.toml");
        fs::write(&path, text).unwrap();
        ResolvedRecipe::load(Some(&path), &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn values_know_where_they_came_from() {
        let resolved = load("[train]\nlr = 1\nseed = 5\n", &["train.seed=7", "train.loss=softmax"]).unwrap();
        assert_eq!(resolved.recipe.train.lr, 1.0);
        assert_eq!(resolved.recipe.train.seed, 7);
        assert_eq!(resolved.recipe.train.loss, LossKind::Softmax);
        assert!(matches!(resolved.origin("train.lr"), Origin::File(_)));
        assert_eq!(resolved.origin("train.seed"), Origin::Flag);
        assert_eq!(resolved.origin("train.beta1"), Origin::Default);
        let width = |sets: &[&str]| load("", sets).unwrap().recipe.model.puzzle_emb_ndim;
        assert_eq!(width(&["model.hidden_size=64"]), 64, "the puzzle embedding follows the model's width");
        assert_eq!(width(&["model.hidden_size=64", "model.puzzle_emb_ndim=0"]), 0);
        let again: Recipe = toml::from_str(&resolved.to_toml()).unwrap();
        assert_eq!(again, resolved.recipe);
        assert_eq!(resolved.rows().len(), flatten(&to_table(&Recipe::default())).len());
    }

    #[test]
    fn origins_survive_in_a_saved_recipe() {
        let mut resolved =
            load("[data]\ntask = \"arc\"\nsource = \"json\"\ntest_path = \"a  # b\"\n", &["train.seed=7"])
                .unwrap();
        resolved.changed_after(12, ["eval.limit"]);
        let resolved = resolved.on_backend::<hrm_backend::Cpu>(&Default::default());
        assert!(
            resolved.to_toml().contains("forward_dtype = \"f32\"  # auto on flex\n"),
            "{}",
            resolved.to_toml()
        );
        let file = Path::new("config.toml");
        assert_eq!(ResolvedRecipe::saved(file, &resolved.to_toml(), &[]).unwrap(), resolved);
        let changed = ResolvedRecipe::saved(file, &resolved.to_toml(), &["eval.limit=3".to_owned()]).unwrap();
        assert_eq!(changed.origin("eval.limit"), Origin::Flag);
    }

    #[test]
    fn mistakes_are_told() {
        let told = |text: &str, sets: &[&str]| load(text, sets).unwrap_err().to_string();
        assert!(told("[train]\nlearning_rat = 1.0\n", &[]).contains("unknown key `train.learning_rat`"));
        assert!(told("[train]\nwarmup_steps = 1\n", &[]).contains("unknown key"));
        assert!(told("", &["train.sed=1"]).contains("did you mean `train.seed`?"));
        assert!(told("", &["train.seed"]).contains("expected key=value"));
        assert!(told("", &["train.lr=fast"]).contains("train.lr = \"fast\": expected a float"));
        assert!(told("", &["train.loss=hinge"]).contains("train.loss"));
        assert!(told("", &["train.seed=-1"]).contains("train.seed"));
        assert!(told("", &["model.num_heads=7"]).contains("a divisor of hidden_size (512)"));
        for (set, part) in [
            ("train.accumulate=5", "a divisor of train.global_batch_size (384)"),
            ("train.lr_schedule=linear", "less than 1"),
            ("train.lr_schedule=exponential", "train.lr_schedule"),
            ("train.label_smoothing=1", "below 1"),
            ("train.halt_loss_weight=-1", "0 or more"),
            ("train.supervision_decay=0", "above 0"),
            ("train.ema_start=5", "a rate in train.ema"),
            ("train.curriculum=[{from=0,h_cycles=1,l_cycles=1}]", "h_cycles = 2"),
            ("train.curriculum=[{from=0,h_cycles=2}]", "train.curriculum"),
            ("eval.best_metric=any_optimal", "mazes"),
            ("data.also=[{train_examples=9,box_rows=2}]", "at least 2: one for each size in data.also"),
            ("data.also=[{train_examples=9,box_rows=0}]", "{ box_rows = 0 }: expected "),
        ] {
            assert!(told("", &[set]).contains(part), "{set}: {}", told("", &[set]));
        }
        let constant = told("", &["train.lr_schedule=constant", "train.lr_min_ratio=0.5"]);
        assert!(constant.contains("does not go down"), "{constant}");
        let never = told("", &["train.early_stop_patience=3", "eval.interval=0"]);
        assert!(never.contains("eval.interval"), "{never}");
        assert!(told("[train\n", &[]).contains("recipe.toml"));
        let nested = told("", &["train.groups=[{params=\"*\", lr=\"fast\"}]"]);
        assert!(nested.contains("train.groups = ") && nested.contains("expected "), "{nested}");
        assert!(told("", &["eval.steps=[4, 0]"]).contains("eval.steps = 0: expected at least 1"));
    }

    #[test]
    fn keys_of_older_runs() {
        let old = load("[data]\nmin_rating = 0\n[model]\nmlp_t = true\n", &[]).unwrap();
        assert_eq!(old.model.mixer, hrm_model::Mixer::Mlp);
        let gone = load("[data]\nmin_rating = 3\n", &[]).unwrap_err().to_string();
        assert!(gone.contains("data.min_rating = 3") && gone.contains("this key is gone"), "{gone}");
    }
}
