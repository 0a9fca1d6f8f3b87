//! The puzzles of `hrm eval`: those of a file or folder, or those that a recipe holds out.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use hrm_data::{
    dataset::{Dataset, Metadata},
    reader::{self, Reader},
    registry::{Family, Shape},
    task::Record,
};
use hrm_model::ModelConfig;
use hrm_train::{
    data::{self, TaskData},
    recipe::ResolvedRecipe,
};

use super::data::examples;
use crate::{
    models,
    puzzles::families,
    terminal::{Working, count},
};

/// Which puzzles are asked for.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Puzzles")]
pub struct PuzzleArgs {
    /// Puzzles: a dataset folder in the reference's format, or CSV source,question,answer,rating [default: those that the
    /// run's recipe holds out]
    #[arg(long, short, value_name = "DIR|CSV")]
    pub data: Option<PathBuf>,
    /// The puzzles that this recipe holds out
    #[arg(long, value_name = "TOML", conflicts_with = "data")]
    recipe: Option<PathBuf>,
    /// What the puzzles are, where their size does not tell
    #[arg(long, value_name = "TASK", conflicts_with = "recipe", value_parser = families())]
    task: Option<Family>,
    /// Rows and columns of mazes in a folder [default: as many rows as columns]
    #[arg(long, value_name = "ROWSxCOLS", value_parser = super::data::rectangle, requires = "data")]
    size: Option<(usize, usize)>,
    /// Only the first N puzzles; of ARC, tasks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Part of the dataset folder: train, test, ... [default: test, if it is there]
    #[arg(long, value_name = "NAME", requires = "data")]
    split: Option<String>,
}

/// Puzzles to evaluate on.
pub enum Puzzles {
    /// Each is judged by itself.
    Rows {
        dataset: Arc<Dataset>,
        shape: Option<Shape>,
        /// As their file rates them; empty if it does not.
        ratings: Vec<Option<f64>>,
    },
    /// ARC: the answers to the augmentations of a test vote.
    Arc {
        data: TaskData,
        /// Tasks at most, 0 for all.
        limit: usize,
    },
}

impl PuzzleArgs {
    /// Loads the puzzles for the model in `file`, of each ARC test at most `votes` augmentations.
    ///
    /// # Errors
    /// If there are none, they are malformed, or they are not what the model reads.
    pub fn load(&self, file: &Path, config: &ModelConfig, votes: Option<u32>) -> Result<Puzzles> {
        let (puzzles, place) = match &self.data {
            Some(data) => {
                let told = Shape::of(config.seq_len, config.vocab_size, self.task);
                let puzzles = self.of_path(data, self.task.or(told.map(Shape::family)))?;
                if self.split.as_deref() != Some("train") {
                    warn_of_leaks(&puzzles, recipe_of_run(file).as_deref());
                }
                (puzzles, data.clone())
            }
            None => {
                let recipe = match &self.recipe {
                    Some(recipe) => recipe.clone(),
                    None => recipe_of_run(file).with_context(|| {
                        format!(
                            "{} is not in a run folder, whose recipe would name puzzles; give some with --data or --recipe",
                            file.display()
                        )
                    })?,
                };
                (self.of_recipe(&recipe, votes)?, recipe)
            }
        };
        let (metadata, fits_shape) = match &puzzles {
            Puzzles::Rows { dataset, shape, .. } => {
                (dataset.metadata().clone(), shape.is_some_and(|shape| models::fits(config, shape)))
            }
            Puzzles::Arc { data, .. } => (data.metadata(), false),
        };
        fits(config, &metadata, fits_shape)
            .with_context(|| format!("{} and {}", file.display(), place.display()))?;
        Ok(puzzles)
    }

    /// Whether a number of puzzles is asked for.
    pub const fn has_limit(&self) -> bool {
        self.limit.is_some()
    }

    fn limit(&self) -> usize {
        self.limit.map_or(usize::MAX, |n| n as usize)
    }

    /// What a recipe holds out.
    fn of_recipe(&self, recipe: &Path, votes: Option<u32>) -> Result<Puzzles> {
        let votes = votes.map(|n| format!("data.votes={n}"));
        let resolved = ResolvedRecipe::load(Some(recipe), votes.as_slice())?;
        let data = data::load(&resolved.recipe.data).with_context(|| recipe.display().to_string())?;
        for warning in &data.warnings {
            note!("warning: {warning}");
        }
        Ok(match data.held_out() {
            Some(dataset) => Puzzles::Rows {
                dataset: first(dataset, self.limit()),
                shape: Some(data.shape),
                ratings: Vec::new(),
            },
            None => Puzzles::Arc { data, limit: self.limit.map_or(0, |n| n as usize) },
        })
    }

    /// A dataset folder, a part of one, or a puzzle file.
    fn of_path(&self, data: &Path, family: Option<Family>) -> Result<Puzzles> {
        let path = match &self.split {
            None => data.to_owned(),
            Some(split) => {
                let folder = data.join(split);
                if !folder.join("dataset.json").is_file() {
                    bail!("--split {split}: expected a dataset in {}", folder.display());
                }
                folder
            }
        };
        let limit = self.limit();
        if path.is_dir() {
            let test = path.join("test");
            let folder = if path.join("dataset.json").exists() || !test.exists() { &path } else { &test };
            let dataset = Dataset::load(folder)?;
            let shape = examples::shape_of(folder, &dataset, self.task, self.size)?;
            return Ok(Puzzles::Rows {
                dataset: first(&Arc::new(dataset), limit),
                shape,
                ratings: Vec::new(),
            });
        }
        let puzzles = reader::puzzles(Reader::open(family.unwrap_or_default(), &path)?).take(limit);
        let puzzles = puzzles.collect::<Result<Vec<_>, _>>()?;
        let Some(first) = puzzles.first() else { bail!("{}: no puzzle in it", path.display()) };
        let (shape, task) = (first.shape, first.task.clone());
        let records: Vec<Record> = puzzles.into_iter().map(|puzzle| puzzle.record).collect();
        let dataset = task.dataset(&records, 0, 0).with_context(|| path.display().to_string())?;
        let ratings = records.iter().map(|record| record.rating).collect();
        Ok(Puzzles::Rows { dataset: Arc::new(dataset), shape: Some(shape), ratings })
    }
}

/// The first `limit` puzzles.
fn first(dataset: &Arc<Dataset>, limit: usize) -> Arc<Dataset> {
    if limit < dataset.groups() { Arc::new(dataset.head(limit)) } else { Arc::clone(dataset) }
}

/// Warns of puzzles that a run has trained on, or images of them. Nothing is said where the run's data are not here any more.
fn warn_of_leaks(puzzles: &Puzzles, recipe: Option<&Path>) {
    let Some(recipe) = recipe else { return };
    let Puzzles::Rows { dataset, shape: Some(shape), .. } = puzzles else { return };
    let _working = Working::on("comparing the puzzles with those of the run");
    let Ok(resolved) = ResolvedRecipe::load(Some(recipe), &[]) else { return };
    let Ok(data) = data::load(&resolved.recipe.data) else { return };
    let Some(training) = data.training().filter(|_| data.shape == *shape) else { return };
    let records = |dataset: &Dataset| -> Vec<Record> {
        examples::firsts(dataset, *shape).map(|puzzle| puzzle.record).collect()
    };
    let (test, train) = (records(dataset), records(training));
    // Asked the other way round: which test puzzles are known from training.
    let Ok(leaks) = shape.task().leaks(&test, &train) else { return };
    for leak in leaks.0.iter().filter(|leak| !leak.pairs.is_empty()) {
        note!(
            "warning: {}: {} of {} are among those that the run trained on; it may know them by heart",
            leak.title,
            leak.pairs.len(),
            count(test.len(), "puzzle"),
        );
    }
}

/// The recipe of the run that a checkpoint's file is in.
fn recipe_of_run(file: &Path) -> Option<PathBuf> {
    let run = file.ancestors().find(|folder| folder.ends_with("checkpoints"))?.parent()?;
    Some(run.join("config.toml")).filter(|recipe| recipe.is_file())
}

fn fits(config: &ModelConfig, metadata: &Metadata, fits_shape: bool) -> Result<()> {
    if !fits_shape && (config.seq_len, config.vocab_size) != (metadata.seq_len, metadata.vocab_size) {
        bail!(
            "the model reads {} tokens of a vocabulary of {}, the data have {} tokens of {}",
            config.seq_len,
            config.vocab_size,
            metadata.seq_len,
            metadata.vocab_size
        );
    }
    if config.puzzle_emb_ndim > 0 && config.num_puzzle_identifiers < metadata.num_puzzle_identifiers {
        bail!(
            "the model knows {} puzzle identifiers, the data have {}",
            config.num_puzzle_identifiers,
            metadata.num_puzzle_identifiers
        );
    }
    Ok(())
}
