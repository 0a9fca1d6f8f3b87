//! The symmetry group of Sudoku: relabelling, permutations of bands, of rows within a band, of stacks, of columns
//! within a stack, and transposition where boxes are square.
//!
//! Order for 9x9: 9! x 6^8 x 2. Semantics are the reference's (`shuffle_sudoku` of `build_sudoku_dataset.py`):
//! `out[r][c] = digits[x[rows[r]][cols[c]]]` with `x` the board, transposed first if `transpose`.

use rand::Rng;

use super::board::{Board, Geometry, MAX_SIDE};
use crate::random;

/// One element of the symmetry group of a geometry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Symmetry {
    geometry: Geometry,
    transpose: bool,
    rows: Lines,
    cols: Lines,
    /// `digits[v]` is the new value of `v`; `digits[0]` is 0.
    digits: [u8; MAX_SIDE + 1],
}

/// `lines[i]` is the line of the source that becomes line `i`; entries beyond the side are 0.
type Lines = [u8; MAX_SIDE];

impl Symmetry {
    /// The symmetry that changes nothing.
    pub fn identity(geometry: Geometry) -> Self {
        let mut symmetry = Self {
            geometry,
            transpose: false,
            rows: [0; MAX_SIDE],
            cols: [0; MAX_SIDE],
            digits: [0; MAX_SIDE + 1],
        };
        for i in 0..geometry.side() {
            symmetry.rows[i] = i as u8;
            symmetry.cols[i] = i as u8;
            symmetry.digits[i + 1] = i as u8 + 1;
        }
        symmetry
    }

    /// A symmetry from its parts: `digits` maps value `v` to `digits[v - 1]`; `rows` and `cols` hold the source line of
    /// each line of the result (0-based); `transpose` is applied first.
    pub(super) fn new(geometry: Geometry, digits: &[u8], rows: &[u8], cols: &[u8], transpose: bool) -> Self {
        let side = geometry.side();
        let mut symmetry = Self { transpose, ..Self::identity(geometry) };
        symmetry.digits[1..=side].copy_from_slice(digits);
        symmetry.rows[..side].copy_from_slice(rows);
        symmetry.cols[..side].copy_from_slice(cols);
        symmetry
    }

    /// A uniformly random element of the group.
    pub fn random<R: Rng + ?Sized>(geometry: Geometry, rng: &mut R) -> Self {
        let mut symmetry = Self::identity(geometry);
        symmetry.transpose = geometry.is_square() && random::below(rng, 2) == 1;
        random::shuffle(rng, &mut symmetry.digits[1..=geometry.side()]);
        symmetry.rows = random_lines(geometry.bands(), geometry.box_rows(), rng);
        symmetry.cols = random_lines(geometry.stacks(), geometry.box_cols(), rng);
        symmetry
    }

    /// The new value of each value `1..=side`; entry `v - 1` belongs to `v`.
    pub fn digits(&self) -> &[u8] {
        &self.digits[1..=self.geometry.side()]
    }

    /// The transformed board, of the geometry that this is a symmetry of; blanks stay blank.
    pub fn apply(&self, board: &Board) -> Board {
        debug_assert_eq!(board.geometry(), self.geometry);
        let source = board.cells();
        let mut cells = vec![0; source.len()];
        self.for_each_source(|i, from| cells[i] = self.digits[usize::from(source[from])]);
        Board::from_trusted(self.geometry, cells)
    }

    /// Calls `visit(target cell, source cell)` for each cell of the result in order.
    #[inline]
    fn for_each_source(&self, mut visit: impl FnMut(usize, usize)) {
        let side = self.geometry.side();
        let mut target = 0;
        for &row in &self.rows[..side] {
            for &col in &self.cols[..side] {
                let (row, col) = (usize::from(row), usize::from(col));
                visit(target, if self.transpose { col * side + row } else { row * side + col });
                target += 1;
            }
        }
    }

    /// The cell that each cell of the image comes from. `[side * side]`
    pub(crate) fn sources(&self) -> Vec<u32> {
        let mut sources = Vec::with_capacity(self.geometry.cells());
        self.for_each_source(|_, from| sources.push(from as u32));
        sources
    }

    /// Transforms a row of tokens (value + 1, blank 1, anything else left alone) into `target`. Both must hold
    /// `side * side` tokens; what does not fit is left as it is.
    pub(crate) fn apply_tokens(&self, source: &[u8], target: &mut [i32]) {
        let side = self.geometry.side();
        if source.len() < side * side || target.len() < side * side {
            return;
        }
        self.for_each_source(|i, from| {
            let token = source[from];
            target[i] = match token {
                1.. if usize::from(token) <= side + 1 => i32::from(self.digits[usize::from(token) - 1]) + 1,
                other => i32::from(other),
            };
        });
    }
}

/// A random order of `groups` groups of `size` lines each, lines shuffled within their group.
fn random_lines<R: Rng + ?Sized>(groups: usize, size: usize, rng: &mut R) -> Lines {
    let mut order = [0u8; MAX_SIDE];
    for (i, slot) in order[..groups].iter_mut().enumerate() {
        *slot = i as u8;
    }
    random::shuffle(rng, &mut order[..groups]);
    let mut lines = [0u8; MAX_SIDE];
    for (i, &group) in order[..groups].iter().enumerate() {
        let slots = &mut lines[i * size..(i + 1) * size];
        for (j, slot) in slots.iter_mut().enumerate() {
            *slot = group * size as u8 + j as u8;
        }
        random::shuffle(rng, slots);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::sudoku::Sudoku;
    use crate::puzzles::sudoku::generator::full_grid;
    use crate::random::{Purpose, stream};
    use crate::task::Task as _;
    use proptest::prelude::*;

    fn geometries() -> impl Strategy<Value = Geometry> {
        prop::sample::select(vec![
            Geometry::S4,
            Geometry::S6,
            Geometry::S9,
            Geometry::S16,
            Geometry::from_side(12).unwrap_or(Geometry::S9),
        ])
    }

    fn random(geometry: Geometry, seed: u64) -> Symmetry {
        Symmetry::random(geometry, &mut stream(seed, Purpose::Other, 0, 0))
    }

    /// A board with every cell and value likely to be told apart: random values, blanks among them.
    fn noise(geometry: Geometry, seed: u64) -> Board {
        let mut rng = stream(seed, Purpose::Other, 1, 0);
        let side = geometry.side() as u32;
        let cells = (0..geometry.cells()).map(|_| random::below(&mut rng, side + 1) as u8).collect();
        Board::from_trusted(geometry, cells)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn rules_are_kept(geometry in geometries(), seed in 0u64..50) {
            let s = random(geometry, seed);
            let grid = full_grid(geometry, seed % 3);
            prop_assert!(grid.is_solved());
            let image = s.apply(&grid);
            prop_assert!(image.is_solved());
            let board = noise(geometry, seed);
            prop_assert_eq!(s.apply(&board).violations().len(), board.violations().len());
            prop_assert_eq!(s.apply(&board).clues(), board.clues());
        }

        #[test]
        fn tokens_follow_the_board(geometry in geometries(), seed in any::<u64>()) {
            let s = random(geometry, seed);
            let board = noise(geometry, seed);
            let tokens: Vec<u8> = board.cells().iter().map(|v| v + 1).collect();
            let mut out = vec![0; tokens.len()];
            s.apply_tokens(&tokens, &mut out);
            let expected: Vec<i32> = s.apply(&board).cells().iter().map(|&v| i32::from(v) + 1).collect();
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn random_elements_are_uniform_on_the_smallest_board() {
        let order = |geometry| Sudoku { geometry }.symmetries().0;
        assert_eq!(order(Geometry::S4), f64::from(24 * 8 * 8 * 2));
        assert_eq!(order(Geometry::S9), 362_880.0 * f64::from(1296 * 1296 * 2));
        assert_eq!(order(Geometry::S6), f64::from(720 * 48 * 72));
        let mut rng = stream(1, Purpose::Other, 0, 0);
        let mut seen = std::collections::HashMap::new();
        for _ in 0..60_000 {
            *seen.entry(Symmetry::random(Geometry::S4, &mut rng)).or_insert(0u32) += 1;
        }
        assert_eq!(seen.len(), 3072, "60,000 draws meet every one of 3,072 elements");
        assert!(seen.values().all(|&n| n < 60), "20 expected each");
    }

    #[test]
    fn vectors_of_the_reference() {
        let Some(data) = crate::testdata::parity_json() else {
            return;
        };
        let cases = data["sudoku_shuffle"].as_array().cloned().unwrap_or_default();
        assert!(!cases.is_empty());
        for case in &cases {
            let list = |key: &str| -> Vec<u8> { crate::testdata::flat(&case[key]) };
            let board = |key: &str| Board::from_cells(Geometry::S9, list(key)).unwrap();
            let transpose = case["transpose"].as_bool().unwrap();
            let digit_map = list("digit_map");
            let symmetry =
                Symmetry::new(Geometry::S9, &digit_map[1..], &list("row_perm"), &list("col_perm"), transpose);
            assert_eq!(symmetry.apply(&board("board")), board("out_board"));
            assert_eq!(symmetry.apply(&board("solution")), board("out_solution"));
        }
        assert!(
            cases.iter().any(|c| c["transpose"] == true) && cases.iter().any(|c| c["transpose"] == false)
        );
    }
}
