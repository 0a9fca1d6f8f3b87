//! Section `[data]`.

use hrm_data::registry::Family;
use hrm_model::settings::Range;
use serde::{Deserialize, Serialize};

hrm_data::named! {
    /// Where puzzles come from.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    #[serde(rename_all = "lowercase")]
    pub enum DataSource {
        /// Made on the spot from the seed: all tasks but ARC.
        Generate = "generate",
        /// Sudoku and mazes: CSV of `source,question,answer,rating`, plain or gzipped.
        Csv = "csv",
        /// Killer, Samurai, queens: text, one puzzle a line.
        Text = "text",
        /// ARC: a folder of JSON files, or one JSON file of tasks by name, plain or gzipped.
        Json = "json",
        /// A folder in the reference's format.
        Dataset = "dataset",
    }
}

impl DataSource {
    /// What a task can be read from.
    pub const fn of(task: Family) -> &'static [Self] {
        match task {
            Family::Sudoku | Family::Maze => &[Self::Generate, Self::Csv, Self::Dataset],
            Family::Killer | Family::Samurai | Family::Queens => &[Self::Generate, Self::Text, Self::Dataset],
            Family::Arc => &[Self::Json, Self::Dataset],
        }
    }
}

hrm_data::named! {
    /// How mazes are generated.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    #[serde(rename_all = "lowercase")]
    pub enum MazeKind {
        /// As Maze-Hard: independent walls, ends at least `min_path` moves apart.
        Hard = "hard",
        /// As Maze-Unique: corridors with exactly one path, of `min_path` to `max_path` moves.
        Unique = "unique",
        /// Half of each.
        Mixed = "mixed",
    }
}

/// What to do about test puzzles that training puzzles give away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnLeak {
    /// Stop with an error.
    Refuse,
    /// Leave the training puzzles out.
    Drop,
    /// Train on them all the same, as published results did.
    Allow,
}

/// An entry of `data.also`: `{ box_rows = 2, box_cols = 3, train_examples = 2000 }`. What is left out is as in the section itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Also {
    /// Puzzles to make.
    pub train_examples: usize,
    /// Rows of a box.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub box_rows: Option<usize>,
    /// Columns of a box.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub box_cols: Option<usize>,
    /// Rows of the grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grid_rows: Option<usize>,
    /// Columns of the grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grid_cols: Option<usize>,
    /// Fewest givens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_clues: Option<usize>,
    /// Most givens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_clues: Option<usize>,
    /// Fewest moves of a maze.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_path: Option<usize>,
}

impl Also {
    /// The section for the puzzles of this size.
    pub(crate) fn section(&self, config: &DataConfig) -> DataConfig {
        DataConfig {
            source: DataSource::Generate,
            path: String::new(),
            test_path: String::new(),
            extra_paths: Vec::new(),
            extra_shares: Vec::new(),
            also: Vec::new(),
            train_examples: self.train_examples,
            test_examples: 1,
            box_rows: self.box_rows.unwrap_or(config.box_rows),
            box_cols: self.box_cols.unwrap_or(config.box_cols),
            grid_rows: self.grid_rows.unwrap_or(config.grid_rows),
            grid_cols: self.grid_cols.unwrap_or(config.grid_cols),
            min_clues: self.min_clues.unwrap_or(config.min_clues),
            max_clues: self.max_clues.unwrap_or(config.max_clues),
            min_path: self.min_path.unwrap_or(config.min_path),
            ..config.clone()
        }
    }
}

/// What is allocated before the first step has a limit.
const SIDE: Range = Range::count(1, 1000);
const EXAMPLES: Range = Range::count(0, 10_000_000);

hrm_model::settings! {
    /// Section `[data]`.
    pub struct DataConfig {
        /// What is trained: `sudoku`, `maze`, `arc`, `killer`, `samurai` or `queens`.
        task: Family = Family::Sudoku;
        /// Kind of source.
        source: DataSource = DataSource::Generate;
        /// `csv`, `text`, `json`: the training puzzles; `dataset`: the folder. ARC without one trains on the demonstrations of
        /// the evaluation tasks only.
        path: String = String::new();
        /// The puzzles to evaluate on; if empty, `csv` and `text` hold out `test_examples` of the training file, `dataset` takes
        /// the folder `test`. ARC needs one: the evaluation tasks.
        test_path: String = String::new();
        /// Further training puzzles: Sudoku CSV files of other difficulty, further ARC tasks.
        extra_paths: Vec<String> = Vec::new();
        /// The share of training rows that comes from each of `extra_paths`, above 0 and together below 1; the rest comes from
        /// `path`. Without shares, every puzzle of every file is as frequent as any other. Sudoku only.
        extra_shares: Vec<f64> = Vec::new();
        /// Sudoku and Samurai: the share of training rows in which a random number of blanks, drawn uniformly, is filled in from the
        /// solution, anew each time.
        hint_prob: f64 = 0.0 => Range::from(0.0, "a probability from 0 to 1").to(1.0);
        /// Sudoku and Samurai: the share of training rows in which a blank is filled in with a wrong value that breaks no rule at
        /// first sight. The model learns not to halt on what a wrong guess (`hrm solve --guesses`) leads to.
        wrong_hint_prob: f64 = 0.0 => Range::from(0.0, "a probability from 0 to 1").to(1.0);
        /// Rows of a Sudoku or Killer box.
        box_rows: usize = 3 => SIDE;
        /// Columns of a Sudoku or Killer box.
        box_cols: usize = 3 => SIDE;
        /// Rows of a maze, of the queens' board, or of the canvas of ARC: at most 30, no grid may be larger.
        grid_rows: usize = 30 => SIDE;
        /// Columns of a maze, of the queens' board, or of the canvas of ARC, which has as many as rows.
        grid_cols: usize = 30 => SIDE;
        /// Puzzles to train on; 0 for all of the file.
        train_examples: usize = 1000 => EXAMPLES;
        /// Puzzles to evaluate on; 0 for all of the file.
        test_examples: usize = 500 => EXAMPLES;
        /// `generate`, Sudoku and Samurai: fewest givens; 0 for minimal puzzles.
        min_clues: usize = 0;
        /// `generate`, Sudoku and Samurai: most givens; 0 for minimal puzzles.
        max_clues: usize = 0;
        /// `generate`, mazes: their kind.
        maze_kind: MazeKind = MazeKind::Hard;
        /// `generate`, mazes: fewest moves from start to goal.
        min_path: usize = 109;
        /// `generate`, mazes with one path: most moves from start to goal.
        max_path: usize = 140;
        /// ARC: augmentations of each task, the task itself not counted.
        augmentations: usize = 1000;
        /// ARC: whether the demonstrations of the evaluation tasks are trained on.
        evaluation_demonstrations: bool = true;
        /// ARC: how many augmentations of each test vote, the test itself first; 0 for all.
        votes: usize = 0;
        /// What to do if training puzzles give test puzzles away: `refuse`, `drop` or `allow`.
        on_leak: OnLeak = OnLeak::Refuse;
        /// Puzzles of further sizes that a model without places is trained on as well, all of them generated. Of the batches that take
        /// turns (`train.batches_in_turn`) the last ones are theirs, one a size. Only the puzzles of the recipe's own size are evaluated.
        also: Vec<Also> = Vec::new();
        /// Seed of generation, of subset draws, and of the list of ARC augmentations.
        seed: u64 = 42;
        /// Whether training applies a random symmetry to each puzzle each time. ARC always does, as `augmentations` says.
        augment: bool = true;
    }
}
