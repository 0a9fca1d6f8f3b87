//! Mazes made from a seed: Maze-Hard (independent walls, distant ends) and Maze-Unique (perfect, one path).

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::board::{Direction, Maze};
use crate::random::{self, Purpose, stream};

/// What mazes are generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Kind {
    /// Independent walls with a probability drawn from `[0.3, 0.5)` for each maze, start and goal uniform on different free
    /// cells, kept if they are at least `min_distance` moves apart. 30 x 30 with 109 is Maze-Hard.
    Hard {
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid.
        cols: usize,
        /// Fewest moves between start and goal.
        min_distance: usize,
    },
    /// Perfect mazes (corridors that form a tree, carved depth-first): exactly one path, of `shortest` to `longest` moves.
    Unique {
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid.
        cols: usize,
        /// Fewest moves of the path.
        shortest: usize,
        /// Most moves of the path.
        longest: usize,
    },
}

impl Kind {
    /// Maze-Hard: 30 x 30, at least 109 moves.
    pub const MAZE_HARD: Self = Self::Hard { rows: 30, cols: 30, min_distance: 109 };

    /// The generator of this kind.
    ///
    /// # Errors
    /// [`GeneratorError`] if there are no such mazes.
    pub fn generator(self, seed: u64) -> Result<Box<dyn Blocks>, GeneratorError> {
        Ok(match self {
            Self::Hard { rows, cols, min_distance } => {
                Box::new(HardMazes::new(rows, cols, min_distance, seed)?)
            }
            Self::Unique { rows, cols, shortest, longest } => {
                Box::new(UniqueMazes::new(rows, cols, shortest, longest, seed)?)
            }
        })
    }
}

/// Why there are no such mazes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GeneratorError {
    /// A side out of range.
    #[error("expected {what} from {least} to {limit}, got {got}", limit = GeneratorError::LARGEST)]
    Side {
        /// `rows` or `cols`.
        what: &'static str,
        /// The smallest that is possible.
        least: usize,
        /// The value.
        got: usize,
    },
    /// A path longer than the grid allows.
    #[error("a maze of {rows} x {cols} has no path of {got} moves; ask for at most {most}")]
    TooLong {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// Moves asked for.
        got: usize,
        /// Moves of the longest path there could be.
        most: usize,
    },
    /// A range without a number in it.
    #[error("expected a range of lengths that holds an attainable one, got {shortest} to {longest}")]
    Range {
        /// Its beginning.
        shortest: usize,
        /// Its end.
        longest: usize,
    },
}

impl GeneratorError {
    /// The longest side that is generated.
    pub const LARGEST: usize = 1024;

    fn check(rows: usize, cols: usize, least: usize) -> Result<(), Self> {
        for (what, got) in [("rows", rows), ("cols", cols)] {
            if !(least..=Self::LARGEST).contains(&got) {
                return Err(Self::Side { what, least, got });
            }
        }
        Ok(())
    }
}

/// A generator that works in numbered blocks, each a pure function of the seed and its number.
pub trait Blocks: Send + Sync {
    /// The mazes of a block; often none.
    fn block(&self, number: u64) -> Vec<Maze>;

    /// Candidates that a block looks at.
    fn candidates_per_block(&self) -> u64;
}

/// Generator of Maze-Hard.
///
/// One maze in 59,000 has ends 109 moves apart, so the work lies in refusing candidates: walls are drawn for 32 cells at a
/// time, and the search runs on bit masks of whole rows, ending when it meets the goal too early or dies out.
#[derive(Clone, Copy, Debug)]
pub struct HardMazes {
    rows: usize,
    cols: usize,
    min_distance: usize,
    seed: u64,
}

/// Sides up to this one are searched on bit masks.
const FAST: usize = 32;

impl HardMazes {
    /// A generator of mazes of `rows` x `cols` with ends at least `min_distance` moves apart.
    ///
    /// # Errors
    /// [`GeneratorError`] if there are none.
    pub fn new(rows: usize, cols: usize, min_distance: usize, seed: u64) -> Result<Self, GeneratorError> {
        GeneratorError::check(rows, cols, 1)?;
        let most = rows * cols - 1;
        if min_distance > most || most == 0 {
            return Err(GeneratorError::TooLong { rows, cols, got: min_distance.max(1), most });
        }
        Ok(Self { rows, cols, min_distance, seed })
    }

    /// Draws the walls of one row of up to 32 cells: each bit is set with probability `threshold / 2^32`. The binary digits
    /// of 32 uniform numbers are compared with those of the threshold at once, until all are decided.
    #[inline]
    fn wall_bits(rng: &mut ChaCha8Rng, threshold: u32, lanes: u32) -> u32 {
        let (mut undecided, mut wall, mut digits) = (lanes, 0, threshold);
        for _ in 0..32 {
            let draw = rng.next_u32();
            // All ones if the next digit of the threshold is 1.
            let digit = ((digits as i32) >> 31) as u32;
            wall |= undecided & digit & !draw;
            undecided &= !(draw ^ digit);
            digits <<= 1;
            if undecided == 0 {
                break;
            }
        }
        wall
    }

    fn threshold(rng: &mut ChaCha8Rng) -> u32 {
        const LEAST: u64 = (3 << 32) / 10;
        const RANGE: u64 = (2 << 32) / 10;
        (LEAST + ((u64::from(rng.next_u32()) * RANGE) >> 32)) as u32
    }

    /// One candidate: kept if its ends are far enough apart.
    fn candidate(&self, rng: &mut ChaCha8Rng, free: &mut [u32]) -> Option<Maze> {
        let words = self.cols.div_ceil(FAST);
        let threshold = Self::threshold(rng);
        let mut count = 0;
        for row in 0..self.rows {
            for word in 0..words {
                let width = (self.cols - word * FAST).min(FAST) as u32;
                let lanes = u32::MAX >> (32 - width);
                let bits = lanes & !Self::wall_bits(rng, threshold, lanes);
                count += bits.count_ones();
                // One empty row above and below.
                free[(row + 1) * words + word] = bits;
            }
        }
        if count < 2 {
            return None;
        }
        let is_free = |cell: usize| {
            let (row, col) = (cell / self.cols, cell % self.cols);
            free[(row + 1) * words + col / FAST] >> (col % FAST) & 1 == 1
        };
        let cells = (self.rows * self.cols) as u32;
        let mut draw = |not: usize| loop {
            let cell = random::below(rng, cells) as usize;
            if cell != not && is_free(cell) {
                return cell;
            }
        };
        let start = draw(usize::MAX);
        let goal = draw(start);
        let accepted = if self.rows <= FAST && words == 1 {
            let free: &[u32; FAST + 2] = free.first_chunk()?;
            let place = |cell: usize| (cell / self.cols + 1, cell % self.cols);
            far_apart(free, place(start), place(goal), self.min_distance)
        } else {
            let maze = Maze::build((self.rows, self.cols), (start, goal), |cell| !is_free(cell));
            maze.distance().is_some_and(|distance| distance >= self.min_distance)
        };
        accepted.then(|| Maze::build((self.rows, self.cols), (start, goal), |cell| !is_free(cell)))
    }
}

/// Whether the goal is reached, after at least `min` moves. Places are (row + 1, column).
#[inline]
fn far_apart(free: &[u32; FAST + 2], start: (usize, usize), goal: (usize, usize), min: usize) -> bool {
    let mut unseen = *free;
    let mut front = [0u32; FAST + 2];
    front[start.0] = 1 << start.1;
    unseen[start.0] &= !front[start.0];
    let goal_bit = 1u32 << goal.1;
    for moves in 1.. {
        let mut next = [0u32; FAST + 2];
        let mut any = 0;
        for row in 1..=FAST {
            let reached = (front[row] << 1 | front[row] >> 1 | front[row - 1] | front[row + 1]) & unseen[row];
            next[row] = reached;
            any |= reached;
        }
        for row in 1..=FAST {
            unseen[row] &= !next[row];
        }
        if any == 0 {
            return false;
        }
        if next[goal.0] & goal_bit != 0 {
            return moves >= min;
        }
        front = next;
    }
    false
}

impl Blocks for HardMazes {
    fn block(&self, number: u64) -> Vec<Maze> {
        let mut rng = stream(self.seed, Purpose::Generate, number, 0);
        let mut free = vec![0u32; (self.rows + 2).max(FAST + 2) * self.cols.div_ceil(FAST)];
        (0..self.candidates_per_block()).filter_map(|_| self.candidate(&mut rng, &mut free)).collect()
    }

    fn candidates_per_block(&self) -> u64 {
        // Larger mazes take longer each; a block stays a fraction of a second.
        (16_384 * 900 / (self.rows * self.cols).max(900)).max(16) as u64
    }
}

/// Generator of Maze-Unique.
///
/// Junctions stand on every second cell, corridors are carved depth-first between them; start and goal are uniform among
/// the pairs of free cells with a path of a length in range. On a side of even length one outer line is wall, at random
/// the first or the last.
#[derive(Clone, Copy, Debug)]
pub struct UniqueMazes {
    rows: usize,
    cols: usize,
    shortest: usize,
    longest: usize,
    seed: u64,
}

impl UniqueMazes {
    /// A generator of perfect mazes of `rows` x `cols` with a path of `shortest` to `longest` moves.
    ///
    /// # Errors
    /// [`GeneratorError`] if there are none.
    pub fn new(
        rows: usize,
        cols: usize,
        shortest: usize,
        longest: usize,
        seed: u64,
    ) -> Result<Self, GeneratorError> {
        GeneratorError::check(rows, cols, 1)?;
        if shortest > longest || longest == 0 {
            return Err(GeneratorError::Range { shortest, longest });
        }
        let most = 2 * (rows.div_ceil(2) * cols.div_ceil(2) - 1);
        if shortest > most || most == 0 {
            return Err(GeneratorError::TooLong { rows, cols, got: shortest.max(1), most });
        }
        Ok(Self { rows, cols, shortest, longest, seed })
    }

    /// The free cells of a perfect maze.
    fn carve(&self, rng: &mut ChaCha8Rng) -> Vec<bool> {
        let mut offset =
            |side: usize| if side.is_multiple_of(2) { random::below(rng, 2) as usize } else { 0 };
        let (top, left) = (offset(self.rows), offset(self.cols));
        let (high, wide) = (self.rows.div_ceil(2), self.cols.div_ceil(2));
        let cell = |(r, c): (usize, usize)| (top + 2 * r) * self.cols + left + 2 * c;
        let mut free = vec![false; self.rows * self.cols];
        let first = (random::below(rng, high as u32) as usize, random::below(rng, wide as u32) as usize);
        free[cell(first)] = true;
        let mut stack = vec![first];
        while let Some(&(r, c)) = stack.last() {
            let mut ways = [(0, 0); 4];
            let mut count = 0;
            let up = (r.wrapping_sub(1), c);
            let left = (r, c.wrapping_sub(1));
            for way in [(r + 1, c), left, (r, c + 1), up] {
                if way.0 < high && way.1 < wide && !free[cell(way)] {
                    ways[count] = way;
                    count += 1;
                }
            }
            if count == 0 {
                stack.pop();
                continue;
            }
            let way = ways[random::below(rng, count as u32) as usize];
            free[cell((r, c)).midpoint(cell(way))] = true;
            free[cell(way)] = true;
            stack.push(way);
        }
        free
    }

    /// The maze of a number; `None` if no pair of cells is at a distance in range.
    pub fn generate(&self, number: u64) -> Option<Maze> {
        let mut rng = stream(self.seed, Purpose::Generate, number, 1);
        let free = self.carve(&mut rng);
        let cells: Vec<usize> = (0..free.len()).filter(|&cell| free[cell]).collect();
        let starts = random::permutation(&mut rng, cells.len());
        for start in starts.into_iter().map(|i| cells[i as usize]) {
            let &other = cells.iter().find(|&&cell| cell != start)?;
            let maze = Maze::build((self.rows, self.cols), (start, other), |cell| !free[cell]);
            let goals: Vec<usize> = distances(&maze)
                .into_iter()
                .enumerate()
                .filter(|&(_, d)| (self.shortest.max(1)..=self.longest).contains(&d))
                .map(|(cell, _)| cell)
                .collect();
            if !goals.is_empty() {
                let goal = goals[random::below(&mut rng, goals.len() as u32) as usize];
                return Some(Maze::build((self.rows, self.cols), (start, goal), |cell| !free[cell]));
            }
        }
        None
    }
}

/// Moves from the start to every cell; `usize::MAX` where none lead.
fn distances(maze: &Maze) -> Vec<usize> {
    let mut distance = vec![usize::MAX; maze.tokens().len()];
    distance[maze.start()] = 0;
    let mut queue = std::collections::VecDeque::from([maze.start()]);
    while let Some(cell) = queue.pop_front() {
        for next in Direction::CANONICAL.into_iter().filter_map(|d| maze.step(cell, d)) {
            if distance[next] == usize::MAX {
                distance[next] = distance[cell] + 1;
                queue.push_back(next);
            }
        }
    }
    distance
}

impl Blocks for UniqueMazes {
    fn block(&self, number: u64) -> Vec<Maze> {
        let size = self.candidates_per_block();
        (0..size).filter_map(|i| self.generate(number.wrapping_mul(size).wrapping_add(i))).collect()
    }

    fn candidates_per_block(&self) -> u64 {
        64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walls_have_the_probability_asked_for() {
        let mut rng = stream(1, Purpose::Other, 0, 0);
        for p in [0.3, 0.4, 0.5, 0.01] {
            let threshold = (p * 2f64.powi(32)) as u32;
            let draws = 4000;
            let ones: u32 = (0..draws)
                .map(|_| HardMazes::wall_bits(&mut rng, threshold, u32::MAX >> 2).count_ones())
                .sum();
            let share = f64::from(ones) / f64::from(draws * 30);
            assert!((share - p).abs() < 0.006, "{share} for {p}");
        }
        let thresholds: Vec<f64> =
            (0..2000).map(|_| f64::from(HardMazes::threshold(&mut rng)) / 2f64.powi(32)).collect();
        assert!(thresholds.iter().all(|t| (0.2999999..0.5).contains(t)));
        let mean = thresholds.iter().sum::<f64>() / 2000.0;
        assert!((mean - 0.4).abs() < 0.006);
    }

    #[test]
    fn bit_search_agrees_with_the_queue() {
        let generator = HardMazes::new(30, 30, 25, 3).unwrap();
        let mazes = generator.block(0);
        assert!(mazes.len() > 100);
        assert!(mazes.iter().all(|maze| maze.distance().unwrap() >= 25));
        // Every candidate the fast path refuses is refused by the slow one: same stream, both decisions counted.
        for (rows, cols) in [(8, 8), (32, 32), (5, 17)] {
            let all = HardMazes::new(rows, cols, 1, 4).unwrap();
            let some = HardMazes::new(rows, cols, 12, 4).unwrap();
            let far: Vec<Maze> =
                all.block(0).into_iter().filter(|maze| maze.distance().unwrap() >= 12).collect();
            assert_eq!(far, some.block(0), "{rows} x {cols}");
            assert!(!far.is_empty());
        }
        let wide = HardMazes::new(20, 70, 60, 4).unwrap().block(0);
        assert!(!wide.is_empty() && wide.iter().all(|maze| maze.distance().unwrap() >= 60));
    }

    #[test]
    fn unique_mazes_are_perfect() {
        for (rows, cols, shortest, longest) in
            [(30, 30, 100, 140), (9, 9, 10, 20), (1, 9, 3, 5), (12, 7, 8, 30)]
        {
            let generator = UniqueMazes::new(rows, cols, shortest, longest, 5).unwrap();
            let mazes = generator.block(3);
            assert!(mazes.len() > 30, "{}", mazes.len());
            assert_eq!(mazes, generator.block(3));
            for maze in &mazes {
                assert!((shortest..=longest).contains(&maze.distance().unwrap()));
                // A connected graph is a tree exactly if it has one edge less than cells.
                let free: Vec<usize> = (0..rows * cols).filter(|&cell| !maze.is_wall(cell)).collect();
                let ends: usize = free.iter().map(|&cell| maze.neighbours(cell).count()).sum();
                assert_eq!(ends / 2 + 1, free.len());
                assert!(
                    distances(maze).iter().zip(maze.tokens()).all(|(&d, &t)| (t == 1) == (d == usize::MAX))
                );
            }
        }
    }

    #[test]
    fn impossible_wishes_are_refused() {
        let error = |kind: Kind| kind.generator(0).err().unwrap().to_string();
        assert_eq!(
            error(Kind::Hard { rows: 4, cols: 4, min_distance: 16 }),
            "a maze of 4 x 4 has no path of 16 moves; ask for at most 15"
        );
        assert_eq!(
            error(Kind::Hard { rows: 0, cols: 4, min_distance: 1 }),
            "expected rows from 1 to 1024, got 0"
        );
        assert!(error(Kind::Hard { rows: 1, cols: 1, min_distance: 0 }).contains("no path of 1 moves"));
        assert!(error(Kind::Unique { rows: 9, cols: 9, shortest: 5, longest: 4 }).contains("got 5 to 4"));
        assert!(error(Kind::Unique { rows: 9, cols: 9, shortest: 100, longest: 140 }).contains("at most 48"));
        assert!(error(Kind::Unique { rows: 2, cols: 2, shortest: 1, longest: 4 }).contains("at most 0"));
    }
}
