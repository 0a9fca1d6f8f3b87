//! How hard a puzzle is for the solver: its guesses; and a table of that, and of the grade for people, over a set.

use std::collections::BTreeMap;
use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::board::Board;
use super::grade::{Technique, grade};
use super::solver::Solver;
use super::symmetry::Symmetry;
use super::task::decode_tokens;
use crate::random::{Purpose, stream};
use crate::task::Record;

/// The rating: how often [`Solver`] guesses until it has the first solution, the puzzle taken as it stands.
///
/// The same notion as the ratings of Sudoku-Extreme, which are those of the solver tdoku: its numbers differ for one puzzle but
/// are alike on average. It depends on the orientation: equivalent puzzles may have ratings several times apart, so it must not
/// be carried over to an augmented copy. [`mean_guesses`] depends on it less.
pub fn rating(solver: &mut Solver, puzzle: &Board) -> u64 {
    solver.search(puzzle, 1).work.guesses
}

/// The mean number of guesses over `images` random images of the puzzle under its symmetries, each searched until it is known
/// that there is no second solution. A pure function of puzzle, number and seed; 0 for no image.
pub fn mean_guesses(solver: &mut Solver, puzzle: &Board, images: u32, seed: u64) -> f64 {
    let mut total = 0;
    for number in 0..images {
        let mut rng = stream(seed, Purpose::Generate, u64::from(number), 3);
        // A symmetry of the puzzle's own geometry always applies.
        let image = Symmetry::random(puzzle.geometry(), &mut rng).apply(puzzle);
        total += solver.search(&image, 2).work.guesses;
    }
    if images == 0 { 0.0 } else { total as f64 / f64::from(images) }
}

/// Bounds of the classes of ratings in a [`DifficultyTable`]: a class goes from its bound to before the next.
pub const RATING_CLASSES: [u64; 6] = [0, 1, 3, 10, 30, 100];

/// The difficulty of a set of puzzles. Displayed as a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DifficultyTable {
    /// Puzzles in the set.
    pub puzzles: usize,
    /// Puzzles without a solution or with several, which are left out below.
    pub improper: usize,
    /// Fewest, mean and most givens.
    pub clues: (usize, f64, usize),
    /// Mean and median of our ratings, and the largest.
    pub rating: (f64, u64, u64),
    /// Mean of the ratings that the set states, if any are stated.
    pub stated_rating: Option<f64>,
    /// Puzzles in each class of [`RATING_CLASSES`].
    pub by_rating: Vec<usize>,
    /// Puzzles by the hardest technique that they need.
    pub by_technique: BTreeMap<Technique, usize>,
    /// Puzzles that use a technique at least once.
    pub using: BTreeMap<Technique, usize>,
}

/// Rates and grades every puzzle of a set, on all threads of rayon's pool.
pub fn difficulty(records: &[Record]) -> DifficultyTable {
    let each: Vec<_> = records
        .par_iter()
        .map_init(Solver::new, |solver, record| {
            let puzzle = decode_tokens(&record.input).ok()?;
            let grade = grade(&puzzle).ok()?;
            Some((grade, rating(solver, &puzzle), puzzle.clues()))
        })
        .collect();
    let proper: Vec<_> = each.into_iter().flatten().collect();
    let mut ratings: Vec<u64> = proper.iter().map(|p| p.1).collect();
    ratings.sort_unstable();
    let stated: Vec<f64> = records.iter().filter_map(|r| r.rating).collect();
    let mean = |sum: f64, count: usize| if count == 0 { 0.0 } else { sum / count as f64 };
    let mut table = DifficultyTable {
        puzzles: records.len(),
        improper: records.len() - proper.len(),
        clues: (
            proper.iter().map(|p| p.2).min().unwrap_or(0),
            mean(proper.iter().map(|p| p.2).sum::<usize>() as f64, proper.len()),
            proper.iter().map(|p| p.2).max().unwrap_or(0),
        ),
        rating: (
            mean(ratings.iter().sum::<u64>() as f64, ratings.len()),
            ratings.get(ratings.len() / 2).copied().unwrap_or(0),
            ratings.last().copied().unwrap_or(0),
        ),
        stated_rating: (!stated.is_empty()).then(|| mean(stated.iter().sum(), stated.len())),
        by_rating: vec![0; RATING_CLASSES.len()],
        by_technique: BTreeMap::new(),
        using: BTreeMap::new(),
    };
    for (grade, rating, _) in &proper {
        table.by_rating[RATING_CLASSES.partition_point(|bound| bound <= rating) - 1] += 1;
        if let Some(hardest) = grade.hardest {
            *table.by_technique.entry(hardest).or_insert(0) += 1;
        }
        for &technique in grade.counts.keys() {
            *table.using.entry(technique).or_insert(0) += 1;
        }
    }
    table
}

impl fmt::Display for DifficultyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |count: usize| 100.0 * count as f64 / (self.puzzles - self.improper).max(1) as f64;
        writeln!(f, "puzzles            {} ({} not proper)", self.puzzles, self.improper)?;
        let (fewest, mean, most) = self.clues;
        writeln!(f, "givens             {fewest} to {most}, mean {mean:.1}")?;
        let (mean, median, most) = self.rating;
        writeln!(f, "rating (guesses)   mean {mean:.2}, median {median}, largest {most}")?;
        if let Some(stated) = self.stated_rating {
            writeln!(f, "stated rating      mean {stated:.2}")?;
        }
        writeln!(f, "\n{:<30} {:>8} {:>7}", "rating", "puzzles", "%")?;
        for (i, &count) in self.by_rating.iter().enumerate() {
            let from = RATING_CLASSES.get(i).copied().unwrap_or(0);
            let class = match RATING_CLASSES.get(i + 1) {
                Some(&next) if next == from + 1 => from.to_string(),
                Some(next) => format!("{from} to {}", next - 1),
                None => format!("{from} or more"),
            };
            writeln!(f, "{class:<30} {count:>8} {:>7.1}", share(count))?;
        }
        writeln!(f, "\n{:<30} {:>8} {:>7} {:>10}", "technique", "hardest", "%", "used by")?;
        for technique in Technique::ALL {
            let hardest = self.by_technique.get(&technique).copied().unwrap_or(0);
            let using = self.using.get(&technique).copied().unwrap_or(0);
            writeln!(f, "{technique:<30} {hardest:>8} {:>7.1} {using:>10}", share(hardest))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::sudoku::{Geometry, encode_tokens};
    use crate::testdata;
    use crate::testdata::read_records;

    const EASY: &str = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79";
    const HARD: &str = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..";

    fn record(line: &str, rating: Option<f64>) -> Record {
        Record { input: encode_tokens(&line.parse().unwrap()), rating, ..Record::default() }
    }

    #[test]
    fn ratings_of_an_easy_and_a_hard_puzzle() {
        let mut solver = Solver::new();
        let (easy, hard): (Board, Board) = (EASY.parse().unwrap(), HARD.parse().unwrap());
        assert_eq!((rating(&mut solver, &easy), mean_guesses(&mut solver, &easy, 3, 1)), (0, 0.0));
        assert!(rating(&mut solver, &hard) > 5);
        let mean = mean_guesses(&mut solver, &hard, 8, 1);
        assert!(mean > 10.0);
        assert_eq!(mean.to_bits(), mean_guesses(&mut solver, &hard, 8, 1).to_bits());
        assert_ne!(mean.to_bits(), mean_guesses(&mut solver, &hard, 8, 2).to_bits());
        assert_eq!(mean_guesses(&mut solver, &hard, 0, 1), 0.0);
    }

    #[test]
    fn the_table_counts_every_puzzle_once() {
        let empty = Board::empty(Geometry::S4).to_line();
        let records = [record(EASY, Some(1.0)), record(HARD, Some(4.0)), record(&empty, None)];
        let table = difficulty(&records);
        assert_eq!((table.puzzles, table.improper, table.stated_rating), (3, 1, Some(2.5)));
        assert_eq!(table.by_technique[&Technique::NakedSingle], 1);
        assert_eq!(table.by_technique[&Technique::Guessing], 1);
        assert_eq!(table.by_technique.values().sum::<usize>(), 2);
        assert_eq!((table.by_rating.iter().sum::<usize>(), table.by_rating[0]), (2, 1));
        assert_eq!(table.clues.0, 21);
        let text = table.to_string();
        assert!(text.contains("puzzles            3 (1 not proper)\n"), "{text}");
        assert!(text.contains("needs guessing                        1    50.0          1\n"), "{text}");
        let json = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<DifficultyTable>(&json).unwrap(), table);
        assert_eq!(difficulty(&[]).puzzles, 0);
        assert!(!difficulty(&[]).to_string().contains("NaN"));
    }

    #[test]
    fn real_sets_are_as_hard_as_they_say() {
        let Some(dir) = testdata::data_dir() else { return };
        let hard = difficulty(&read_records(&dir.join("testcases/forum_hardest_1106-raw.csv"), "sudoku"));
        assert_eq!((hard.improper, hard.by_technique[&Technique::Guessing]), (0, 375));
        // tdoku and our solver guess alike on average.
        let (ours, stated) = (hard.rating.0, hard.stated_rating.unwrap());
        assert!(ours > 0.5 * stated && ours < 2.0 * stated, "{ours} {stated}");
    }
}
