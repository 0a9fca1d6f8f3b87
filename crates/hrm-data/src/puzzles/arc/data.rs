//! Training and evaluation tasks with their augmentations: what a reference dataset holds, in a thousandth of the memory.
//!
//! Only the original tasks and one number per augmentation are kept; examples are made when a batch is filled.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use rayon::prelude::*;
use thiserror::Error;

use super::augment::{Names, Transform};
use super::canvas::{CANVAS, VOCAB_SIZE, encode, side_of};
use super::sets::save;
use super::task::{ArcTask, Pair};
use crate::dataset::{DatasetError, Metadata, Overwrite, folder, npy, save_identifiers};
use crate::grid::{Dihedral, Grid};
use crate::random::{self, Purpose, stream};

/// How tasks become data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArcOptions {
    /// Seed of the augmentations.
    pub seed: u64,
    /// Augmentations of each task beside the task itself; fewer where a task has fewer different ones.
    pub augmentations: usize,
    /// Whether the demonstrations of the evaluation tasks are trained on, as HRM and TRM do. Without it their identifiers are
    /// never trained.
    pub train_on_evaluation_demonstrations: bool,
    /// Rows and columns of the canvas, at most [`CANVAS`]: no grid may be larger.
    pub canvas: usize,
}

impl Default for ArcOptions {
    fn default() -> Self {
        Self { seed: 0, augmentations: 1000, train_on_evaluation_demonstrations: true, canvas: CANVAS }
    }
}

/// Why tasks cannot become data.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No task.
    #[error("expected at least one task, got none")]
    Empty,
    /// Two tasks of one name.
    #[error(
        "task {id} is given twice; names become puzzle identifiers, leave one of the two out (`arc::leaks` lists them)"
    )]
    Duplicate {
        /// The name.
        id: String,
    },
    /// More augmentations than can be numbered.
    #[error("expected at most {limit} puzzles, got {tasks} tasks with {augmentations} augmentations each", limit = i32::MAX)]
    TooMany {
        /// Tasks.
        tasks: usize,
        /// Augmentations of each.
        augmentations: usize,
    },
    /// A grid that does not fit the canvas.
    #[error(
        "task {id}: expected grids of at most {canvas}x{canvas}, the model's canvas, got one of {rows}x{cols}"
    )]
    TooLarge {
        /// The task.
        id: String,
        /// Rows and columns of the canvas.
        canvas: usize,
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid.
        cols: usize,
    },
    /// A dataset that cannot be written.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// Tasks, the transforms of each, and the numbers of both.
#[derive(Clone, Debug)]
pub struct ArcData {
    tasks: Vec<ArcTask>,
    /// Tasks from this one on are for evaluation.
    first_evaluation: usize,
    options: ArcOptions,
    /// Where the transforms of each task start. `[tasks + 1]`
    starts: Vec<u32>,
    /// Packed transforms, the identity first for each task.
    transforms: Vec<u64>,
}

impl ArcData {
    /// Draws the augmentations of tasks for training and for evaluation. The list of a task depends on its name, its content
    /// and the seed only.
    ///
    /// Training uses all pairs of the training tasks, and the demonstrations of the evaluation tasks (see
    /// [`ArcOptions`]); evaluation asks for the tests of the evaluation tasks.
    ///
    /// # Errors
    /// [`BuildError`] if there is no task, a name is given twice, or there would be too many puzzles.
    pub fn new(
        training: Vec<ArcTask>,
        evaluation: Vec<ArcTask>,
        options: ArcOptions,
    ) -> Result<Self, BuildError> {
        let first_evaluation = training.len();
        let mut tasks = training;
        tasks.extend(evaluation);
        if tasks.is_empty() {
            return Err(BuildError::Empty);
        }
        let mut names = HashSet::new();
        if let Some(twice) = tasks.iter().find(|task| !names.insert(task.id.as_str())) {
            return Err(BuildError::Duplicate { id: twice.id.clone() });
        }
        let canvas = options.canvas;
        for task in &tasks {
            if let Some(grid) = task.grids().find(|grid| grid.rows().max(grid.cols()) > canvas) {
                let (id, rows, cols) = (task.id.clone(), grid.rows(), grid.cols());
                return Err(BuildError::TooLarge { id, canvas, rows, cols });
            }
        }
        let puzzles = tasks.len().checked_mul(options.augmentations.saturating_add(1));
        if puzzles.is_none_or(|n| n >= i32::MAX as usize) {
            return Err(BuildError::TooMany { tasks: tasks.len(), augmentations: options.augmentations });
        }
        let lists: Vec<Vec<u64>> = tasks.par_iter().map(|task| draw_transforms(task, options)).collect();
        Ok(Self::of_lists(tasks, first_evaluation, options, lists))
    }

    /// Evaluation tasks with the transforms that each is to have, the identity first; a task without any gets drawn ones.
    ///
    /// # Errors
    /// As [`ArcData::new`].
    pub fn with_transforms(
        evaluation: Vec<ArcTask>,
        transforms: &[Vec<Transform>],
        options: ArcOptions,
    ) -> Result<Self, BuildError> {
        let drawn = Self::new(Vec::new(), evaluation, options)?;
        let list = |task: usize| match transforms.get(task) {
            Some(given) if !given.is_empty() => given.iter().map(Transform::pack).collect(),
            _ => drawn.transforms[drawn.starts[task] as usize..drawn.starts[task + 1] as usize].to_vec(),
        };
        let lists = (0..drawn.tasks.len()).map(list).collect();
        Ok(Self::of_lists(drawn.tasks, 0, options, lists))
    }

    /// The same transforms and identifiers with other pairs of the tasks, which are all for evaluation.
    #[must_use]
    pub fn with_pairs(&self, tasks: Vec<ArcTask>) -> Self {
        Self { tasks, first_evaluation: 0, ..self.clone() }
    }

    fn of_lists(
        tasks: Vec<ArcTask>,
        first_evaluation: usize,
        options: ArcOptions,
        lists: Vec<Vec<u64>>,
    ) -> Self {
        let mut starts = vec![0];
        let mut transforms = Vec::new();
        for list in lists {
            transforms.extend(list);
            starts.push(transforms.len() as u32);
        }
        transforms.shrink_to_fit();
        Self { tasks, first_evaluation, options, starts, transforms }
    }

    /// Tokens of an example.
    pub const fn seq_len(&self) -> usize {
        self.options.canvas * self.options.canvas
    }

    /// All tasks, those for training first.
    pub fn tasks(&self) -> &[ArcTask] {
        &self.tasks
    }

    /// The tasks for evaluation.
    pub fn evaluation(&self) -> &[ArcTask] {
        &self.tasks[self.first_evaluation..]
    }

    /// How the data were made.
    pub const fn options(&self) -> &ArcOptions {
        &self.options
    }

    /// Number of puzzle identifiers, the blank one (0) included.
    pub fn identifiers(&self) -> usize {
        self.transforms.len() + 1
    }

    /// The identifiers of a task and its augmentations, itself first; empty if there is no such task.
    pub fn identifiers_of(&self, task: usize) -> std::ops::Range<u32> {
        match (self.starts.get(task), self.starts.get(task.wrapping_add(1))) {
            (Some(start), Some(end)) => start + 1..end + 1,
            _ => 0..0,
        }
    }

    /// The task (by index) and the transform of an identifier; `None` for the blank one.
    pub fn puzzle(&self, identifier: u32) -> Option<(usize, Transform)> {
        let puzzle = identifier.checked_sub(1)?;
        let transform = Transform::unpack(*self.transforms.get(puzzle as usize)?);
        Some((self.starts.partition_point(|&start| start <= puzzle) - 1, transform))
    }

    /// The name of an identifier, as HRM writes it into `identifiers.json`.
    pub fn name(&self, identifier: u32) -> String {
        self.named(identifier, Names::Hrm)
    }

    fn named(&self, identifier: u32, names: Names) -> String {
        match self.puzzle(identifier) {
            None => "<blank>".to_owned(),
            Some((task, Transform::IDENTITY)) => self.tasks[task].id.clone(),
            Some((task, transform)) => transform.name(&self.tasks[task].id, names),
        }
    }

    /// The pairs of a task that training sees.
    pub fn training_pairs(&self, task: usize) -> impl ExactSizeIterator<Item = &Pair> + Clone {
        let (train, test): (&[Pair], &[Pair]) = match self.tasks.get(task) {
            Some(found) if task < self.first_evaluation => (&found.train, &found.test),
            Some(found) if self.options.train_on_evaluation_demonstrations => (&found.train, &[]),
            _ => (&[], &[]),
        };
        // A chain does not know its length; indices do.
        (0..train.len() + test.len())
            .map(move |i| if i < train.len() { &train[i] } else { &test[i - train.len()] })
    }

    /// The tests of a task that evaluation asks for.
    pub fn evaluation_pairs(&self, task: usize) -> &[Pair] {
        match self.tasks.get(task) {
            Some(found) if task >= self.first_evaluation => &found.test,
            _ => &[],
        }
    }

    /// Metadata of the training set, or of the test set.
    pub fn metadata(&self, training: bool) -> Metadata {
        let count = |task| match training {
            true => self.training_pairs(task).len(),
            false => self.evaluation_pairs(task).len(),
        };
        let (mut groups, mut puzzles, mut examples) = (0, 0, 0);
        for task in (0..self.tasks.len()).filter(|&task| count(task) > 0) {
            groups += 1;
            puzzles += self.identifiers_of(task).len();
            examples += self.identifiers_of(task).len() * count(task);
        }
        Metadata {
            pad_id: 0,
            ignore_label_id: Some(0),
            blank_identifier_id: 0,
            vocab_size: VOCAB_SIZE,
            seq_len: self.seq_len(),
            num_puzzle_identifiers: self.identifiers(),
            total_groups: groups,
            mean_puzzle_examples: if puzzles == 0 { 0.0 } else { examples as f64 / puzzles as f64 },
            total_puzzles: Some(puzzles),
            sets: vec!["all".to_owned()],
        }
    }

    /// Writes the reference format for the original tools: `ROOT/train`, `ROOT/test`, `identifiers.json`, `test_puzzles.json`.
    /// Every augmentation is written out, row by row, so memory does not grow with their number. In training each example is
    /// translated at random but for one of each puzzle.
    ///
    /// # Errors
    /// [`DatasetError`] if a dataset is there and may not be overwritten, or the file system says so.
    pub fn materialize(&self, root: &Path, names: Names, overwrite: Overwrite) -> Result<(), BuildError> {
        for (name, training) in [("train", true), ("test", false)] {
            let metadata = self.metadata(training);
            if metadata.total_groups > 0 {
                self.write_set(&root.join(name), &metadata, training, overwrite)?;
            }
        }
        let names: Vec<String> = (0..self.identifiers() as u32).map(|id| self.named(id, names)).collect();
        save_identifiers(root, &names)?;
        save(&root.join("test_puzzles.json"), self.evaluation())
    }

    fn write_set(
        &self,
        dir: &Path,
        metadata: &Metadata,
        training: bool,
        overwrite: Overwrite,
    ) -> Result<(), BuildError> {
        folder::write::<BuildError>(dir, overwrite, |dir| self.write_files(dir, metadata, training))
    }

    fn write_files(&self, dir: &Path, metadata: &Metadata, training: bool) -> Result<(), BuildError> {
        let pairs = |task: usize| -> Vec<&Pair> {
            if training {
                self.training_pairs(task).collect()
            } else {
                self.evaluation_pairs(task).iter().collect()
            }
        };
        let groups: Vec<usize> = (0..self.tasks.len()).filter(|&task| !pairs(task).is_empty()).collect();
        let (mut identifiers, mut puzzles, mut ends) = (Vec::new(), vec![0u32], vec![0u32]);
        let mut examples = 0usize;
        for &task in &groups {
            for identifier in self.identifiers_of(task) {
                identifiers.push(identifier);
                examples += pairs(task).len();
                puzzles.push(u32::try_from(examples).unwrap_or(u32::MAX));
            }
            ends.push(identifiers.len() as u32);
        }
        for (side, input) in [("inputs", true), ("labels", false)] {
            let path = dir.join(format!("all__{side}.npy"));
            let rows = |out: &mut dyn Write| -> io::Result<()> {
                let (mut left, mut right) = (vec![0u8; self.seq_len()], vec![0u8; self.seq_len()]);
                for &task in &groups {
                    let pairs = pairs(task);
                    for identifier in self.identifiers_of(task) {
                        let transform =
                            self.puzzle(identifier).map_or(Transform::IDENTITY, |(_, transform)| transform);
                        // The same draws for inputs and labels.
                        let mut rng =
                            stream(self.options.seed, Purpose::Materialize, u64::from(identifier), 1);
                        let corner = random::below_u64(&mut rng, pairs.len() as u64) as usize;
                        for (index, pair) in pairs.iter().enumerate() {
                            let rng = (training && index != corner).then_some(&mut rng);
                            write_pair(pair, &transform, rng, &mut left, &mut right);
                            out.write_all(if input { &left } else { &right })?;
                        }
                    }
                }
                Ok(())
            };
            npy::write_u8_with(&path, &[examples, self.seq_len()], rows).map_err(DatasetError::from)?;
        }
        let array = |name: &str, data: &[u32]| npy::write_i32(&dir.join(format!("all__{name}.npy")), data);
        array("puzzle_identifiers", &identifiers).map_err(DatasetError::from)?;
        array("puzzle_indices", &puzzles).map_err(DatasetError::from)?;
        array("group_indices", &ends).map_err(DatasetError::from)?;
        write_json(&dir.join("dataset.json"), metadata)
    }
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), BuildError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| DatasetError::Json { path: path.to_owned(), source })?;
    Ok(fs::write(path, text + "\n").map_err(|source| DatasetError::Io { path: path.to_owned(), source })?)
}

/// Writes the image of a pair: in the first corner, or translated by a random amount that keeps both grids on the canvas. A
/// withheld output is all padding. Slices are `[canvas * canvas]`.
pub(super) fn write_pair<T: From<u8>>(
    pair: &Pair,
    transform: &Transform,
    translate: Option<&mut rand_chacha::ChaCha8Rng>,
    input: &mut [T],
    label: &mut [T],
) {
    let image = transform.apply(&pair.input);
    let output = pair.output.as_ref().map(|output| transform.apply(output)).unwrap_or_default();
    let offset = translate.map_or((0, 0), |rng| {
        let canvas = side_of(input.len()).unwrap_or(CANVAS);
        let room = |side: usize| canvas.saturating_sub(side) as u32 + 1;
        let row = random::below(rng, room(image.rows().max(output.rows()))) as usize;
        (row, random::below(rng, room(image.cols().max(output.cols()))) as usize)
    });
    encode(&image, offset, input);
    match output.is_empty() {
        true => label.iter_mut().for_each(|slot| *slot = T::from(0)),
        false => encode(&output, offset, label),
    }
}

/// The identity and up to the number asked for of transforms whose images of the task differ. Five tries for each, as in the
/// reference.
fn draw_transforms(task: &ArcTask, options: ArcOptions) -> Vec<u64> {
    let fingerprints = Fingerprints::new(task);
    let mut rng = stream(options.seed, Purpose::Materialize, text_hash(&task.id), 0);
    let mut seen = HashSet::from([fingerprints.of(&Transform::IDENTITY)]);
    let mut list = vec![Transform::IDENTITY.pack()];
    for _ in 0..options.augmentations.saturating_mul(5) {
        if list.len() > options.augmentations {
            break;
        }
        let transform = Transform::random(&mut rng);
        if seen.insert(fingerprints.of(&transform)) {
            list.push(transform.pack());
        }
    }
    list
}

/// FNV-1a: the same on every machine and in every version.
fn text_hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// A mixing of 64 bits (the finalizer of SplitMix64).
const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Fingerprints of the images of a task, without making them: each symmetry's sums of random numbers over the cells of each
/// colour are kept, and a permutation of colours only weighs them anew. A pair's fingerprint is mixed before pairs are added,
/// so the order of pairs does not matter, as in the reference's hash.
struct Fingerprints {
    /// For each symmetry and pair: its shape, and for each colour the sum over its cells.
    pairs: [Vec<(u64, [u64; 10])>; 8],
}

impl Fingerprints {
    fn new(task: &ArcTask) -> Self {
        let grid = |grid: &Grid, symmetry: Dihedral, salt: u64, sums: &mut [u64; 10]| {
            let (rows, cols) = (grid.rows(), grid.cols());
            for (cell, &colour) in grid.cells().iter().enumerate() {
                let (row, col) = symmetry.destination(rows, cols, cell / cols, cell % cols);
                let place = salt + (row * CANVAS + col) as u64;
                if let Some(sum) = sums.get_mut(usize::from(colour)) {
                    *sum = sum.wrapping_add(mix(place));
                }
            }
            let (rows, cols) = symmetry.shape(rows, cols);
            (rows * 64 + cols) as u64
        };
        let pairs = Dihedral::ALL.map(|symmetry| {
            let pair = |pair: &Pair| {
                let mut sums = [0; 10];
                let input = grid(&pair.input, symmetry, 0, &mut sums);
                let output =
                    pair.output.as_ref().map_or(0, |output| grid(output, symmetry, 1 << 32, &mut sums));
                (mix(input << 32 | output), sums)
            };
            task.pairs().map(pair).collect()
        });
        Self { pairs }
    }

    fn of(&self, transform: &Transform) -> u64 {
        let weight = transform.colours().map(|colour| mix(1 << 48 | u64::from(colour)) | 1);
        let pairs = &self.pairs[usize::from(transform.symmetry().id())];
        pairs.iter().fold(0u64, |all, (shape, sums)| {
            let weighed = sums.iter().zip(weight).fold(*shape, |h, (s, w)| h.wrapping_add(s.wrapping_mul(w)));
            all.wrapping_add(mix(weighed))
        })
    }
}

/// Why an evaluation task is known to training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// The training task.
    pub training: String,
    /// The evaluation task.
    pub evaluation: String,
    /// Whether they hold the same pairs; otherwise they only share the name.
    pub same_content: bool,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { training, evaluation, same_content } = self;
        match (same_content, training == evaluation) {
            (true, true) => write!(f, "{evaluation}: the same task, the same pairs"),
            (true, false) => write!(f, "{evaluation}: the pairs of training task {training}"),
            (false, _) => write!(f, "{evaluation}: the name of a training task, other pairs"),
        }
    }
}

/// The evaluation tasks that training tasks give away: by the same name, or by the same pairs (up to symmetry and colours, in
/// any role).
pub fn leaks(training: &[ArcTask], evaluation: &[ArcTask]) -> Vec<Leak> {
    let mut by_name = HashMap::new();
    let mut by_content: HashMap<_, Vec<&str>> = HashMap::new();
    for task in training {
        by_name.entry(task.id.as_str()).or_insert(task);
        by_content.entry(canonical_content(task)).or_default().push(&task.id);
    }
    let mut found = Vec::new();
    for task in evaluation {
        let same = by_content.get(&canonical_content(task)).map(Vec::as_slice).unwrap_or_default();
        let leak = |training: &str, same_content| Leak {
            training: training.to_owned(),
            evaluation: task.id.clone(),
            same_content,
        };
        found.extend(same.iter().map(|training| leak(training, true)));
        if by_name.contains_key(task.id.as_str()) && !same.contains(&task.id.as_str()) {
            found.push(leak(&task.id, false));
        }
    }
    found
}

/// The pairs of a task in the smallest of its forms under the symmetries of the square, colours renumbered (0 kept) by first
/// appearance in the smallest order of pairs that ignores colours. Pairs that differ in colours only keep the order of the file: two tasks that
/// list such pairs differently are told apart, so a leak between them is missed.
fn canonical_content(task: &ArcTask) -> Vec<(Grid, Option<Grid>)> {
    let form = |symmetry: Dihedral| {
        let mut pairs: Vec<(Grid, Option<Grid>)> = task
            .pairs()
            .map(|p| (symmetry.apply(&p.input), p.output.as_ref().map(|o| symmetry.apply(o))))
            .collect();
        let pattern = |grid: &Grid| rename(grid, &mut fresh_names());
        pairs.sort_by_cached_key(|(input, output)| (pattern(input), output.as_ref().map(pattern)));
        let mut names = fresh_names();
        let mut named: Vec<_> = pairs
            .iter()
            .map(|(input, output)| {
                (rename(input, &mut names), output.as_ref().map(|output| rename(output, &mut names)))
            })
            .collect();
        named.sort();
        named
    };
    Dihedral::ALL.into_iter().map(form).min().unwrap_or_default()
}

const fn fresh_names() -> ([u8; 10], u8) {
    ([0, 255, 255, 255, 255, 255, 255, 255, 255, 255], 0)
}

fn rename(grid: &Grid, (names, last): &mut ([u8; 10], u8)) -> Grid {
    grid.map(|colour| match names.get_mut(usize::from(colour)) {
        Some(name) if *name == 255 => {
            *last += 1;
            *name = *last;
            *last
        }
        Some(name) => *name,
        None => colour,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{load, parse_name};
    use super::*;
    use crate::dataset::{Dataset, load_identifiers};
    use crate::testdata::data_dir;

    pub(crate) fn task(id: &str, cells: &[u8]) -> ArcTask {
        let grid = |cells: &[u8]| Grid::new(1, cells.len(), cells.to_vec()).unwrap();
        let pair = |cells: &[u8]| Pair { input: grid(cells), output: Some(grid(&cells[..1])) };
        ArcTask {
            id: id.to_owned(),
            train: vec![pair(cells), pair(&cells[1..])],
            test: vec![pair(&[&[9], cells].concat())],
        }
    }

    #[test]
    fn fingerprints_tell_images_apart_exactly() {
        // Few colours and much symmetry: many transforms give the same image.
        let image = |task: &ArcTask, t: &Transform| {
            let mut pairs: Vec<_> =
                task.pairs().map(|p| (t.apply(&p.input), p.output.as_ref().map(|o| t.apply(o)))).collect();
            pairs.sort();
            pairs
        };
        let symmetric = ArcTask { test: vec![], ..task("s", &[1, 2, 2, 1]) };
        for task in [task("a", &[1, 2, 0]), symmetric, task("c", &[0, 0, 0])] {
            let fingerprints = Fingerprints::new(&task);
            let mut rng = stream(1, Purpose::Other, 0, 0);
            let mut of_image = HashMap::new();
            let mut of_print = HashMap::new();
            for _ in 0..3000 {
                let transform = Transform::random(&mut rng);
                let (image, print) = (image(&task, &transform), fingerprints.of(&transform));
                assert_eq!(*of_image.entry(image.clone()).or_insert(print), print);
                assert_eq!(*of_print.entry(print).or_insert_with(|| image.clone()), image);
            }
        }
    }

    #[test]
    fn identifiers_and_names() {
        let options = ArcOptions { seed: 3, augmentations: 20, ..ArcOptions::default() };
        let data = ArcData::new(vec![task("a", &[1, 2, 3])], vec![task("b", &[0, 0, 0])], options).unwrap();
        // Task b: black but for the test's 9: two orientations besides itself ... times nine colours.
        assert_eq!(data.identifiers_of(0), 1..22);
        assert_eq!(data.identifiers(), 1 + 21 + data.identifiers_of(1).len());
        assert_eq!((data.name(0), data.name(1)), ("<blank>".to_owned(), "a".to_owned()));
        let mut names = HashSet::new();
        for identifier in 1..data.identifiers() as u32 {
            let (task, transform) = data.puzzle(identifier).unwrap();
            let name = data.name(identifier);
            assert_eq!(parse_name(&name), (data.tasks()[task].id.as_str(), transform));
            assert!(data.identifiers_of(task).contains(&identifier));
            assert!(names.insert(name));
        }
        assert_eq!((data.puzzle(0), data.puzzle(u32::MAX), data.identifiers_of(9)), (None, None, 0..0));
        // A task's list does not depend on its company.
        let alone = ArcData::new(vec![], vec![task("b", &[0, 0, 0])], options).unwrap();
        assert_eq!(alone.transforms[..], data.transforms[21..]);
        assert_eq!((data.training_pairs(0).len(), data.training_pairs(1).len()), (3, 2));
        assert_eq!((data.evaluation_pairs(0).len(), data.evaluation_pairs(1).len()), (0, 1));
        assert!(matches!(ArcData::new(vec![], vec![], options), Err(BuildError::Empty)));
        let twice = ArcData::new(vec![task("a", &[1, 2])], vec![task("a", &[1, 2])], options).unwrap_err();
        assert!(twice.to_string().starts_with("task a is given twice"));
        let many = ArcOptions { augmentations: usize::MAX, ..options };
        assert!(matches!(
            ArcData::new(vec![task("a", &[1, 2])], vec![], many),
            Err(BuildError::TooMany { .. })
        ));
    }

    #[test]
    fn materialized_data_load_as_a_dataset() {
        let options = ArcOptions { seed: 3, augmentations: 6, ..ArcOptions::default() };
        let data = ArcData::new(vec![task("a", &[1, 2, 3])], vec![task("b", &[4, 5, 0])], options).unwrap();
        let dir = tempfile::tempdir().unwrap();
        data.materialize(dir.path(), Names::Hrm, Overwrite::No).unwrap();
        assert!(data.materialize(dir.path(), Names::Hrm, Overwrite::No).is_err());
        let (train, test) = (
            Dataset::load(&dir.path().join("train")).unwrap(),
            Dataset::load(&dir.path().join("test")).unwrap(),
        );
        assert_eq!((train.metadata(), test.metadata()), (&data.metadata(true), &data.metadata(false)));
        assert_eq!(
            (train.groups(), train.examples(), test.groups(), test.examples()),
            (2, 7 * 3 + 7 * 2, 1, 7)
        );
        let names = load_identifiers(dir.path()).unwrap();
        assert_eq!(names.len(), data.identifiers());
        let set = &train.sets()[0];
        let mut translated = 0;
        for puzzle in 0..set.puzzles() {
            let (task, transform) = data.puzzle(set.puzzle_identifiers()[puzzle]).unwrap();
            let offsets: Vec<_> = set
                .examples_of(puzzle)
                .zip(data.training_pairs(task))
                .map(|(example, pair)| {
                    let (input, offset) = super::super::decode(set.input(example)).unwrap();
                    let (output, same) = super::super::decode(set.label(example)).unwrap();
                    assert_eq!(input, transform.apply(&pair.input));
                    assert_eq!(
                        (Some(output), same),
                        (pair.output.as_ref().map(|o| transform.apply(o)), offset)
                    );
                    offset
                })
                .collect();
            assert!(offsets.contains(&(0, 0)), "one example of each puzzle stays in the corner");
            translated += offsets.iter().filter(|&&o| o != (0, 0)).count();
        }
        assert!(translated >= 18, "{translated}");
        for example in 0..7 {
            assert_eq!(super::super::decode(test.sets()[0].input(example)).unwrap().1, (0, 0));
        }
    }

    #[test]
    fn known_leaks_are_found() {
        let Some(dir) = data_dir() else { return };
        let file = |name: &str| load(&dir.join(format!("arc/{name}.json.gz"))).unwrap();
        let all = leaks(&file("arc2-training"), &file("arc1-evaluation"));
        assert!(all.len() > 300, "{}", all.len());
        let shared = leaks(&file("arc1-evaluation"), &file("arc2-evaluation"));
        let names: HashSet<&str> = shared.iter().map(|leak| leak.evaluation.as_str()).collect();
        assert_eq!(names.len(), 6, "{shared:?}");
        let within = file("arc1-evaluation").into_iter().chain(file("arc1-training")).collect::<Vec<_>>();
        let same = leaks(&within, &within);
        let twins: Vec<_> = same.iter().filter(|leak| leak.training != leak.evaluation).collect();
        assert!(twins.iter().any(|l| l.training == "40853293" && l.evaluation == "070dd51e"), "{twins:?}");
    }

    #[test]
    #[ignore = "measures: run with --ignored --nocapture"]
    fn thousand_augmentations_of_everything() {
        let Some(dir) = data_dir() else { return };
        let start = std::time::Instant::now();
        let file = |name: &str| load(&dir.join(format!("arc/{name}.json.gz"))).unwrap();
        let training: Vec<ArcTask> = file("arc1-training").into_iter().chain(file("conceptarc")).collect();
        let data = ArcData::new(training, file("arc1-evaluation"), ArcOptions::default()).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        println!("{} identifiers in {seconds:.2} s, {memory}", data.identifiers());
    }
}
