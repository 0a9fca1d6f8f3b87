//! Canonical forms: two boards are equivalent under the full symmetry group if and only if their canonical forms are
//! equal.
//!
//! The canonical form is the lexicographically smallest image of a board, rows read from the top, *a blank counting as
//! larger than every digit* (of images with a value twice in their first row, those with more givens at its start come
//! first). For full grids this is the usual "minlex" form; for puzzles it puts the densest row on top,
//! which leaves far fewer ties to follow than the usual blank-first order. The search fixes one row of the image at a
//! time and keeps every partial transformation that reaches the smallest prefix; labels follow from the order of first
//! appearance.

use thiserror::Error;

use super::board::{Board, Geometry};
use super::symmetry::Symmetry;

/// The largest side with an exact canonical form.
pub const MAX_CANONICAL_SIDE: usize = 9;

/// The board is too large for a canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "expected a board of side at most {MAX_CANONICAL_SIDE}, got {geometry}: compare fingerprints instead"
)]
pub struct TooLarge {
    /// The board's geometry.
    pub geometry: Geometry,
}

/// A value that equivalent boards share, for boards of any size. Boards with different fingerprints are not equivalent;
/// boards with equal ones very probably are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub u64);

/// Computes canonical forms of boards of one geometry; holds tables, so reuse it.
#[derive(Clone, Debug)]
pub struct Canonicalizer {
    geometry: Geometry,
    /// All orders of the columns that keep stacks together, as source columns.
    orders: Vec<[u8; MAX_CANONICAL_SIDE]>,
    /// For each mask of a row's givens: the largest mask that an order of columns makes of it.
    best: Vec<u16>,
    /// For each mask, where its orders in `best_orders` start.
    starts: Vec<u32>,
    /// The orders that reach `best`, by mask.
    best_orders: Vec<u16>,
    /// Partial transformations of the current and the next level.
    level: Vec<Partial>,
    next: Vec<Partial>,
}

/// A transformation of which the first rows of the image are chosen.
#[derive(Clone, Copy, Debug)]
struct Partial {
    labels: Labels,
    /// Source rows chosen so far.
    rows: [u8; MAX_CANONICAL_SIDE],
    /// Bit set of `rows`.
    used: u16,
    /// Index into `orders`.
    order: u16,
    transpose: bool,
}

/// A blank in a packed row: larger than every label.
const BLANK: u64 = 15;

impl Canonicalizer {
    /// Tables for a geometry.
    ///
    /// # Errors
    /// [`TooLarge`] if the side is above [`MAX_CANONICAL_SIDE`].
    pub fn new(geometry: Geometry) -> Result<Self, TooLarge> {
        let side = geometry.side();
        if side > MAX_CANONICAL_SIDE {
            return Err(TooLarge { geometry });
        }
        let orders = column_orders(geometry);
        let mut best = vec![0u16; 1 << side];
        let mut starts = vec![0u32; (1 << side) + 1];
        let mut best_orders = Vec::new();
        for mask in 0..1usize << side {
            let images: Vec<u16> =
                orders.iter().map(|order| permute_mask(mask as u16, &order[..side])).collect();
            best[mask] = images.iter().copied().max().unwrap_or(0);
            best_orders.extend((0..orders.len()).filter(|&i| images[i] == best[mask]).map(|i| i as u16));
            starts[mask + 1] = best_orders.len() as u32;
        }
        Ok(Self { geometry, orders, best, starts, best_orders, level: Vec::new(), next: Vec::new() })
    }

    /// The geometry of the boards this is for.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The canonical form of a board of the geometry: its smallest image. Boards that break the rules have one as well.
    pub fn canonical(&mut self, board: &Board) -> Board {
        debug_assert_eq!(board.geometry(), self.geometry);
        let side = self.geometry.side();
        // Both orientations as rows of cells.
        let mut grids = [[[0u8; MAX_CANONICAL_SIDE]; MAX_CANONICAL_SIDE]; 2];
        for (i, &value) in board.cells().iter().enumerate() {
            grids[0][i / side][i % side] = value;
            grids[1][i % side][i / side] = value;
        }
        self.first_row(&grids);
        for row in 1..side {
            self.extend(&grids, row);
        }
        self.symmetry(&self.level[0]).apply(board)
    }

    /// Fills `level` with every choice of a first row that puts the most givens to the left.
    fn first_row(&mut self, grids: &[Grid; 2]) {
        let side = self.geometry.side();
        let orientations = if self.geometry.is_square() { 2 } else { 1 };
        let mask = |row: &[u8; MAX_CANONICAL_SIDE]| {
            row[..side].iter().fold(0usize, |mask, &v| mask << 1 | usize::from(v != 0))
        };
        let candidates = grids[..orientations].iter().flat_map(|grid| grid[..side].iter());
        let best = candidates.map(|row| self.best[mask(row)]).max().unwrap_or(0);
        self.level.clear();
        let mut smallest = u64::MAX;
        for (transpose, grid) in grids[..orientations].iter().enumerate() {
            let mut blank_bands = 0u16;
            for (r, row) in grid[..side].iter().enumerate() {
                let mask = mask(row);
                if self.best[mask] != best || self.repeats_a_blank(grid, r, 0, &mut blank_bands) {
                    continue;
                }
                let orders = self.starts[mask] as usize..self.starts[mask + 1] as usize;
                for &order in &self.best_orders[orders] {
                    let order_of = &self.orders[usize::from(order)];
                    let fresh = Labels { of: 0, next: 1 };
                    let Some((value, labels)) = pack(row, order_of, side, fresh, smallest) else {
                        continue;
                    };
                    // Rows without repeated values all read 1, 2, 3, ...; only others can differ here.
                    if value < smallest {
                        smallest = value;
                        self.level.clear();
                    }
                    let mut rows = [0; MAX_CANONICAL_SIDE];
                    rows[0] = r as u8;
                    self.level.push(Partial { labels, rows, used: 1 << r, order, transpose: transpose == 1 });
                }
            }
        }
    }

    /// Extends every partial transformation by row `target` of the image, keeping the smallest.
    fn extend(&mut self, grids: &[Grid; 2], target: usize) {
        let side = self.geometry.side();
        let box_rows = self.geometry.box_rows();
        let new_band = target.is_multiple_of(box_rows);
        let mut level = std::mem::take(&mut self.level);
        let mut next = std::mem::take(&mut self.next);
        next.clear();
        let mut best = u64::MAX;
        for partial in &level {
            let grid = &grids[usize::from(partial.transpose)];
            let order = &self.orders[usize::from(partial.order)];
            let rows = if new_band {
                0..side
            } else {
                let band = usize::from(partial.rows[target - 1]) / box_rows;
                band * box_rows..(band + 1) * box_rows
            };
            let mut blank_bands = 0u16;
            for r in rows {
                if partial.used & 1 << r != 0 || self.repeats_a_blank(grid, r, partial.used, &mut blank_bands)
                {
                    continue;
                }
                let Some((value, labels)) = pack(&grid[r], order, side, partial.labels, best) else {
                    continue;
                };
                if value < best {
                    best = value;
                    next.clear();
                }
                let mut extended = Partial { labels, ..*partial };
                extended.rows[target] = r as u8;
                extended.used |= 1 << r;
                next.push(extended);
            }
        }
        std::mem::swap(&mut level, &mut next);
        self.level = level;
        self.next = next;
    }

    /// Whether row `r` is blank and another unused blank row that leads to the same images was offered before: one of
    /// the same band, or, if its whole band is blank, one of another blank band. Keeps nearly empty boards cheap.
    fn repeats_a_blank(&self, grid: &Grid, r: usize, used: u16, blank_bands: &mut u16) -> bool {
        let side = self.geometry.side();
        let box_rows = self.geometry.box_rows();
        let blank = |r: usize| grid[r][..side].iter().all(|&v| v == 0);
        if !blank(r) {
            return false;
        }
        let band = r / box_rows * box_rows;
        if (band..r).any(|other| used & 1 << other == 0 && blank(other)) {
            return true;
        }
        // The first blank row of its band: a repetition only if the whole band is blank and so was an earlier one.
        if (band..band + box_rows).all(|other| used & 1 << other == 0 && blank(other)) {
            let seen = *blank_bands != 0;
            *blank_bands |= 1;
            return seen;
        }
        false
    }

    fn symmetry(&self, chosen: &Partial) -> Symmetry {
        let side = self.geometry.side();
        let mut digits = [0u8; MAX_CANONICAL_SIDE];
        let mut next = chosen.labels.next as u8;
        for (i, digit) in digits[..side].iter_mut().enumerate() {
            *digit = (chosen.labels.of >> (4 * (i + 1)) & 15) as u8;
            if *digit == 0 {
                // A digit that does not occur: any free label will do.
                *digit = next;
                next += 1;
            }
        }
        let order = &self.orders[usize::from(chosen.order)];
        Symmetry::new(self.geometry, &digits[..side], &chosen.rows[..side], &order[..side], chosen.transpose)
    }
}

type Grid = [[u8; MAX_CANONICAL_SIDE]; MAX_CANONICAL_SIDE];

/// Labels given to old digits so far (four bits each, 0 for none) and the next one to give.
#[derive(Clone, Copy, Debug)]
struct Labels {
    of: u64,
    next: u64,
}

/// The image of a row as four bits per cell, first cell highest; new digits get the next labels. `None` as soon as the
/// image is known to be larger than `best`.
#[inline]
fn pack(
    row: &[u8; MAX_CANONICAL_SIDE],
    order: &[u8; MAX_CANONICAL_SIDE],
    side: usize,
    mut labels: Labels,
    best: u64,
) -> Option<(u64, Labels)> {
    let mut packed = 0u64;
    for (i, &col) in order[..side].iter().enumerate() {
        let value = row[usize::from(col)];
        let mut cell = BLANK;
        if value != 0 {
            let shift = 4 * u32::from(value);
            cell = labels.of >> shift & 15;
            if cell == 0 {
                cell = labels.next;
                labels.of |= cell << shift;
                labels.next += 1;
            }
        }
        packed = packed << 4 | cell;
        if packed > best >> (4 * (side - 1 - i)) {
            return None;
        }
    }
    Some((packed, labels))
}

fn permute_mask(mask: u16, order: &[u8]) -> u16 {
    let side = order.len();
    order.iter().fold(0, |image, &col| image << 1 | (mask >> (side - 1 - usize::from(col)) & 1))
}

/// Every order of the columns that keeps the stacks together.
fn column_orders(geometry: Geometry) -> Vec<[u8; MAX_CANONICAL_SIDE]> {
    let width = geometry.box_cols();
    let within = permutations(width);
    let mut orders = Vec::new();
    for stacks in permutations(geometry.stacks()) {
        // An odometer over one permutation per stack.
        let mut partial: Vec<Vec<u8>> = vec![Vec::new()];
        for &stack in &stacks {
            partial = partial
                .iter()
                .flat_map(|start| {
                    within.iter().map(move |cols| {
                        start.iter().copied().chain(cols.iter().map(|&c| stack * width as u8 + c)).collect()
                    })
                })
                .collect();
        }
        orders.extend(partial.iter().map(|cols| {
            let mut order = [0u8; MAX_CANONICAL_SIDE];
            order[..cols.len()].copy_from_slice(cols);
            order
        }));
    }
    orders
}

/// All permutations of `0..n`.
fn permutations(n: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    for item in 0..n as u8 {
        all = all
            .iter()
            .flat_map(|short: &Vec<u8>| {
                (0..=short.len()).map(move |at| {
                    let mut longer = short.clone();
                    longer.insert(at, item);
                    longer
                })
            })
            .collect();
    }
    all
}

/// The fingerprint of a board of any geometry: colour refinement on its clues, rows, columns, boxes, bands, stacks and
/// values, with every multiset hashed by the sum of its elements' hashes.
pub fn fingerprint(board: &Board) -> Fingerprint {
    let geometry = board.geometry();
    let side = geometry.side();
    // Group kinds: row, column, box, band, stack, value. Transposition exchanges rows and columns, bands and stacks.
    let square = geometry.is_square();
    let kinds: [u64; 6] = if square { [1, 1, 3, 4, 4, 6] } else { [1, 2, 3, 4, 5, 6] };
    let mut groups: [Vec<u64>; 6] = std::array::from_fn(|k| vec![mix(kinds[k]); side]);
    let clues: Vec<[usize; 6]> = (0..board.cells().len())
        .filter(|&cell| board.cells()[cell] != 0)
        .map(|cell| {
            let (row, col) = (cell / side, cell % side);
            let value = usize::from(board.cells()[cell]) - 1;
            [row, col, geometry.box_of(row, col), row / geometry.box_rows(), col / geometry.box_cols(), value]
        })
        .collect();
    let mut colours = vec![1u64; clues.len()];
    for _ in 0..8 {
        for (colour, clue) in colours.iter_mut().zip(&clues) {
            // The sum over the six groups does not depend on their order; their kinds are part of their colours.
            let around =
                clue.iter().zip(&groups).fold(0u64, |sum, (&n, group)| sum.wrapping_add(mix(group[n])));
            // Rows belong to bands and columns to stacks: pair them, so that a row is not confused with another's band.
            let pairs = [(0, 3), (1, 4)].iter().fold(0u64, |sum, &(line, strip)| {
                sum.wrapping_add(mix(mix(groups[line][clue[line]]).wrapping_add(groups[strip][clue[strip]])))
            });
            *colour = mix(colour.wrapping_add(mix(around)).wrapping_add(pairs.rotate_left(17)));
        }
        let mut sums: [Vec<u64>; 6] = std::array::from_fn(|_| vec![0u64; side]);
        for (colour, clue) in colours.iter().zip(&clues) {
            for (sum, &n) in sums.iter_mut().zip(clue) {
                sum[n] = sum[n].wrapping_add(mix(*colour));
            }
        }
        for (group, sum) in groups.iter_mut().zip(&sums) {
            for (colour, sum) in group.iter_mut().zip(sum) {
                *colour = mix(mix(*colour).wrapping_add(*sum));
            }
        }
    }
    let shape = mix((geometry.box_rows() * 64 + geometry.box_cols()) as u64);
    Fingerprint(colours.iter().fold(shape, |sum, &colour| sum.wrapping_add(mix(colour))))
}

/// The finalizer of SplitMix64.
pub(super) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What equivalent boards share: the canonical form where there is one, the fingerprint elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClassKey {
    /// The cells of the canonical form: equal if and only if the boards are equivalent.
    Exact(Box<[u8]>),
    /// Equal for equivalent boards, and with negligible probability for others.
    Fingerprint(Fingerprint),
}

/// Assigns [`ClassKey`]s to boards of any geometry.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    canonicalizer: Option<Canonicalizer>,
}

impl Classifier {
    /// A classifier; tables are built when the first board of a geometry comes.
    pub const fn new() -> Self {
        Self { canonicalizer: None }
    }

    /// The key of a board's equivalence class.
    pub fn key(&mut self, board: &Board) -> ClassKey {
        if self.canonicalizer.as_ref().is_none_or(|c| c.geometry() != board.geometry()) {
            self.canonicalizer = Canonicalizer::new(board.geometry()).ok();
        }
        match &mut self.canonicalizer {
            Some(canonicalizer) => ClassKey::Exact(canonicalizer.canonical(board).cells().into()),
            None => ClassKey::Fingerprint(fingerprint(board)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::sudoku::generator::{Generator, full_grid};
    use crate::random::{Purpose, below, stream};
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    fn images(board: &Board, count: usize, seed: u64) -> Vec<Board> {
        let mut rng = stream(seed, Purpose::Other, 9, 0);
        (0..count).map(|_| Symmetry::random(board.geometry(), &mut rng).apply(board)).collect()
    }

    /// Random values in about `clues` cells, rules ignored.
    fn noise(geometry: Geometry, clues: u32, seed: u64) -> Board {
        let mut rng = stream(seed, Purpose::Other, 10, 0);
        let cells = (0..geometry.cells())
            .map(|_| {
                let keep = below(&mut rng, geometry.cells() as u32) < clues;
                if keep { below(&mut rng, geometry.side() as u32) as u8 + 1 } else { 0 }
            })
            .collect();
        Board::from_trusted(geometry, cells)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(120))]

        #[test]
        fn images_share_the_canonical_form(
            geometry in prop::sample::select(vec![Geometry::S4, Geometry::S6, Geometry::S9, Geometry::from_side(8).unwrap_or(Geometry::S4)]),
            clues in 0u32..40,
            seed in any::<u64>(),
        ) {
            let mut canonicalizer = Canonicalizer::new(geometry).unwrap();
            let board = noise(geometry, clues, seed);
            let form = canonicalizer.canonical(&board);
            prop_assert_eq!(canonicalizer.canonical(&form), form.clone());
            for image in images(&board, 3, seed) {
                prop_assert_eq!(canonicalizer.canonical(&image), form.clone());
                prop_assert_eq!(fingerprint(&image), fingerprint(&board));
            }
        }
    }

    #[test]
    fn classes_are_neither_merged_nor_split_on_the_smallest_board() {
        // The orbits of random boards under the whole group of 3,072 elements, by brute force.
        let geometry = Geometry::S4;
        let mut canonicalizer = Canonicalizer::new(geometry).unwrap();
        let mut group: HashSet<Symmetry> = HashSet::new();
        let mut rng = stream(0, Purpose::Other, 0, 0);
        while group.len() < 3072 {
            group.insert(Symmetry::random(geometry, &mut rng));
        }
        let mut orbit_of: HashMap<Board, usize> = HashMap::new();
        let mut form_of: HashMap<usize, Board> = HashMap::new();
        for seed in 0..40 {
            let board = noise(geometry, 2 + seed as u32 % 5, seed);
            if orbit_of.contains_key(&board) {
                continue;
            }
            let orbit = form_of.len();
            let form = canonicalizer.canonical(&board);
            let all: HashSet<Board> = group.iter().map(|s| s.apply(&board)).collect();
            assert!(all.contains(&form));
            if board.validate().is_ok() {
                // The form is the smallest image when blanks count as largest.
                let order =
                    |b: &Board| b.cells().iter().map(|&v| if v == 0 { 15 } else { v }).collect::<Vec<u8>>();
                assert_eq!(all.iter().map(order).min(), Some(order(&form)));
            }
            assert!(form_of.values().all(|other| *other != form), "two orbits, one form");
            for image in all {
                orbit_of.insert(image, orbit);
            }
            form_of.insert(orbit, form);
        }
        assert!(form_of.len() > 20);
        for (board, orbit) in orbit_of.iter().step_by(37) {
            assert_eq!(canonicalizer.canonical(board), form_of[orbit]);
        }
    }

    #[test]
    fn known_numbers_of_classes() {
        // 288 grids of 4x4 fall into 2 classes.
        let mut canonicalizer = Canonicalizer::new(Geometry::S4).unwrap();
        let grids: HashSet<Board> = (0..6000).map(|seed| full_grid(Geometry::S4, seed)).collect();
        let classes: HashSet<Board> = grids.iter().map(|g| canonicalizer.canonical(g)).collect();
        assert_eq!((grids.len(), classes.len()), (288, 2));
        // Minimal 4x4 puzzles: 36 classes (13 with 4 clues, 22 with 5, 1 with 6).
        let mut generator = Generator::new(Geometry::S4, 0);
        let minimal: HashSet<Board> =
            (0..6000).map(|i| canonicalizer.canonical(&generator.generate(i).puzzle)).collect();
        let by_clues = |n| minimal.iter().filter(|b| b.clues() == n).count();
        assert_eq!((by_clues(4), by_clues(5), by_clues(6), minimal.len()), (13, 22, 1, 36));
    }

    #[test]
    fn full_grids_start_with_the_usual_rows() {
        let mut canonicalizer = Canonicalizer::new(Geometry::S9).unwrap();
        for seed in 0..3 {
            let grid = full_grid(Geometry::S9, seed);
            let form = canonicalizer.canonical(&grid);
            assert!(form.is_solved());
            assert!(form.to_line().starts_with("12345678945"));
            for image in images(&grid, 3, seed) {
                assert_eq!(canonicalizer.canonical(&image), form);
            }
        }
    }

    #[test]
    fn degenerate_boards_are_cheap() {
        let mut canonicalizer = Canonicalizer::new(Geometry::S9).unwrap();
        let empty = Board::empty(Geometry::S9);
        assert_eq!(canonicalizer.canonical(&empty), empty);
        let mut one = empty.clone();
        one.set(7, 4, 3).unwrap();
        let form = canonicalizer.canonical(&one);
        assert_eq!(form.to_line(), format!("1{}", ".".repeat(80)));
        let same: Board = Board::from_cells(Geometry::S9, vec![5; 81]).unwrap();
        assert_eq!(canonicalizer.canonical(&same).cells(), &[1; 81]);
    }

    #[test]
    fn different_puzzles_have_different_fingerprints() {
        for geometry in [Geometry::S6, Geometry::S9] {
            let mut generator = Generator::new(geometry, 4);
            let mut classifier = Classifier::new();
            let mut keys = HashMap::new();
            for index in 0..60 {
                let puzzle = generator.generate(index).puzzle;
                keys.insert(fingerprint(&puzzle), classifier.key(&puzzle));
            }
            let classes: HashSet<&ClassKey> = keys.values().collect();
            assert!(
                keys.len() == classes.len() && keys.len() > 50,
                "{geometry}: {} {}",
                keys.len(),
                classes.len()
            );
        }
        let sixteen = full_grid(Geometry::S16, 1);
        let mut classifier = Classifier::new();
        assert!(matches!(classifier.key(&sixteen), ClassKey::Fingerprint(_)));
        assert!(images(&sixteen, 3, 1).iter().all(|image| classifier.key(image) == classifier.key(&sixteen)));
        assert!(matches!(Canonicalizer::new(Geometry::S16), Err(TooLarge { .. })));
    }
}
