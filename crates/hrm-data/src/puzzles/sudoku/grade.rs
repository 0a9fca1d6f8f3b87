//! How hard a puzzle is for a person: which techniques it takes, tried from the easiest to the hardest.
//!
//! The techniques are those of the usual guides (sudokuwiki.org, the explainer of Nicolas Juillerat), each by its textbook
//! definition. After every success the easiest is tried again, so the hardest technique used is the least that is needed.
//! It does not depend on the orientation; how often each was used may.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::board::Board;
use super::solver::Solver;
use crate::task::Solutions;

crate::named! {
    /// A technique, from easy to hard.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Technique {
        /// A cell with one candidate.
        NakedSingle = "naked single",
        /// A value with one place in a unit.
        HiddenSingle = "hidden single",
        /// The places of a value in a box lie in one line: no other place of the line takes it.
        Pointing = "locked candidates (pointing)",
        /// The places of a value in a line lie in one box: no other place of the box takes it.
        Claiming = "locked candidates (claiming)",
        /// Two cells of a unit with the same two candidates.
        NakedPair = "naked pair",
        /// Two values of a unit with the same two places.
        HiddenPair = "hidden pair",
        /// Three cells of a unit with three candidates together.
        NakedTriple = "naked triple",
        /// Three values of a unit with three places together.
        HiddenTriple = "hidden triple",
        /// A value whose places in two rows lie in two columns, or the other way round.
        XWing = "X-wing",
        /// The same with three rows and columns.
        Swordfish = "swordfish",
        /// A cell XY that sees a cell XZ and a cell YZ: what both of these see is not Z.
        XyWing = "XY-wing",
        /// Nothing above helps.
        Guessing = "needs guessing",
    }
}

/// What a puzzle takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grade {
    /// The hardest technique needed; [`Technique::Guessing`] if the others did not finish it. `None` for a full board.
    pub hardest: Option<Technique>,
    /// How often each technique made progress; those never used are left out. If the puzzle needs guessing, `Guessing` counts
    /// once and the others as far as they went.
    pub counts: BTreeMap<Technique, usize>,
    /// Cells left blank when nothing helped any more; 0 if the techniques solved the puzzle.
    pub open: usize,
}

/// Why a puzzle has no grade.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GradeError {
    /// The techniques assume exactly one solution.
    #[error("expected a puzzle with exactly one solution, got one that {why}: {puzzle}")]
    NotProper {
        /// What it has instead.
        why: &'static str,
        /// The puzzle on one line.
        puzzle: String,
    },
}

/// Nodes for the proof that a puzzle is proper. Larger boards than 9x9 can take for ever; they are believed.
const PROOF_NODES: u64 = 1_000_000;

/// Grades a puzzle of any geometry.
///
/// # Errors
/// [`GradeError::NotProper`] if it has no solution or several. A puzzle for which that takes more than a million search nodes
/// to find out is graded all the same.
pub fn grade(puzzle: &Board) -> Result<Grade, GradeError> {
    let why = match Solver::with_node_limit(PROOF_NODES).classify(puzzle) {
        Solutions::None => "has no solution",
        Solutions::Several(..) => "has several solutions",
        Solutions::Unique(_) | Solutions::Unknown => return Ok(Pencil::new(puzzle).finish(|_| {})),
    };
    Err(GradeError::NotProper { why, puzzle: puzzle.to_line() })
}

/// A board with pencil marks.
struct Pencil {
    side: usize,
    /// Candidates of each cell, bit 0 for value 1; one for a cell that is filled.
    marks: Vec<u32>,
    filled: Vec<bool>,
    /// The cells of each unit: rows, columns, boxes.
    units: Vec<Vec<usize>>,
    peers: Vec<Vec<usize>>,
}

impl Pencil {
    fn new(puzzle: &Board) -> Self {
        let geometry = puzzle.geometry();
        let units: Vec<Vec<usize>> = geometry.units().map(|u| geometry.unit_cells(u)).collect();
        let all = ((1u64 << geometry.side()) - 1) as u32;
        let mut this = Self {
            side: geometry.side(),
            marks: vec![all; geometry.cells()],
            filled: vec![false; geometry.cells()],
            units,
            peers: geometry.peers(),
        };
        for (cell, &value) in puzzle.cells().iter().enumerate().filter(|(_, v)| **v != 0) {
            this.fill(cell, 1 << (value - 1));
        }
        this
    }

    /// Works until the board is full or nothing helps; `watch` sees every state in between.
    fn finish(mut self, mut watch: impl FnMut(&Self)) -> Grade {
        let mut counts = BTreeMap::new();
        let mut open = self.open();
        while open > 0 {
            let found = Technique::ALL.into_iter().find(|&technique| self.apply(technique));
            watch(&self);
            *counts.entry(found.unwrap_or(Technique::Guessing)).or_insert(0) += 1;
            if found.is_none() {
                break;
            }
            open = self.open();
        }
        Grade { hardest: counts.keys().next_back().copied(), counts, open }
    }

    fn open(&self) -> usize {
        self.filled.iter().filter(|filled| !**filled).count()
    }

    fn fill(&mut self, cell: usize, bit: u32) {
        self.marks[cell] = bit;
        self.filled[cell] = true;
        for i in 0..self.peers[cell].len() {
            let peer = self.peers[cell][i];
            self.marks[peer] &= !bit;
        }
    }

    /// Takes candidates from open cells; true if there was one to take.
    fn take(&mut self, cells: impl IntoIterator<Item = usize>, bits: u32) -> bool {
        let mut any = false;
        for cell in cells {
            if !self.filled[cell] && self.marks[cell] & bits != 0 {
                self.marks[cell] &= !bits;
                any = true;
            }
        }
        any
    }

    /// Uses a technique once; false if it finds nothing.
    fn apply(&mut self, technique: Technique) -> bool {
        match technique {
            Technique::NakedSingle => self.naked_single(),
            Technique::HiddenSingle => self.hidden_single(),
            Technique::Pointing => self.locked(2 * self.side..3 * self.side, 0..2 * self.side),
            Technique::Claiming => self.locked(0..2 * self.side, 2 * self.side..3 * self.side),
            Technique::NakedPair => self.naked_subset(2),
            Technique::HiddenPair => self.hidden_subset(2),
            Technique::NakedTriple => self.naked_subset(3),
            Technique::HiddenTriple => self.hidden_subset(3),
            Technique::XWing => self.fish(2),
            Technique::Swordfish => self.fish(3),
            Technique::XyWing => self.xy_wing(),
            Technique::Guessing => false,
        }
    }

    fn naked_single(&mut self) -> bool {
        let found = (0..self.marks.len()).find(|&c| !self.filled[c] && self.marks[c].count_ones() == 1);
        if let Some(cell) = found {
            self.fill(cell, self.marks[cell]);
        }
        found.is_some()
    }

    fn hidden_single(&mut self) -> bool {
        for unit in 0..self.units.len() {
            for value in 0..self.side {
                if let [index] = *bits(self.places(unit, value)) {
                    self.fill(self.units[unit][index], 1 << value);
                    return true;
                }
            }
        }
        false
    }

    /// Open places of a value (0-based) in a unit, as bits over the unit's cells.
    fn places(&self, unit: usize, value: usize) -> u32 {
        let cells = self.units[unit].iter().enumerate();
        cells
            .filter(|&(_, &c)| !self.filled[c] && self.marks[c] >> value & 1 == 1)
            .fold(0, |set, (i, _)| set | 1 << i)
    }

    /// A value whose places in one of `from` all lie in one of `to` as well: the rest of that one loses it.
    fn locked(&mut self, from: std::ops::Range<usize>, to: std::ops::Range<usize>) -> bool {
        for source in from {
            for value in 0..self.side {
                let places: Vec<usize> =
                    bits(self.places(source, value)).iter().map(|&i| self.units[source][i]).collect();
                if places.is_empty() {
                    continue;
                }
                for target in to.clone() {
                    if places.iter().all(|c| self.units[target].contains(c)) {
                        let mut rest = self.units[target].clone();
                        rest.retain(|c| !places.contains(c));
                        if self.take(rest, 1 << value) {
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    fn naked_subset(&mut self, size: usize) -> bool {
        for unit in 0..self.units.len() {
            let cells: Vec<usize> = self.units[unit].iter().copied().filter(|&c| !self.filled[c]).collect();
            let sets: Vec<u32> = cells.iter().map(|&c| self.marks[c]).collect();
            let found = subset(&sets, size, &mut |chosen, union| {
                self.take((0..cells.len()).filter(|i| chosen >> i & 1 == 0).map(|i| cells[i]), union)
            });
            if found {
                return true;
            }
        }
        false
    }

    fn hidden_subset(&mut self, size: usize) -> bool {
        for unit in 0..self.units.len() {
            let sets: Vec<u32> = (0..self.side).map(|value| self.places(unit, value)).collect();
            let cells = self.units[unit].clone();
            let found = subset(&sets, size, &mut |values, places| {
                self.take(bits(places).iter().map(|&i| cells[i]), !values)
            });
            if found {
                return true;
            }
        }
        false
    }

    fn fish(&mut self, size: usize) -> bool {
        for value in 0..self.side {
            for (base, cover) in [(0, self.side), (self.side, 0)] {
                // A line's places by the number of the line that crosses there.
                let sets: Vec<u32> = (0..self.side).map(|line| self.places(base + line, value)).collect();
                let found = subset(&sets, size, &mut |lines, crossing| {
                    let mut any = false;
                    for &line in &*bits(crossing) {
                        let cells = self.units[cover + line].clone().into_iter().enumerate();
                        any |=
                            self.take(cells.filter(|(i, _)| lines >> i & 1 == 0).map(|(_, c)| c), 1 << value);
                    }
                    any
                });
                if found {
                    return true;
                }
            }
        }
        false
    }

    fn xy_wing(&mut self) -> bool {
        let pair = |this: &Self, c: usize| !this.filled[c] && this.marks[c].count_ones() == 2;
        for pivot in 0..self.marks.len() {
            if !pair(self, pivot) {
                continue;
            }
            let xy = self.marks[pivot];
            let wings: Vec<usize> = self.peers[pivot]
                .iter()
                .copied()
                .filter(|&c| pair(self, c) && (self.marks[c] & xy).count_ones() == 1)
                .collect();
            for (i, &one) in wings.iter().enumerate() {
                for &other in &wings[i + 1..] {
                    let (xz, yz) = (self.marks[one], self.marks[other]);
                    let z = xz & yz;
                    if z.count_ones() != 1 || z & xy != 0 || (xz ^ yz) != xy {
                        continue;
                    }
                    let mut seen = self.peers[one].clone();
                    seen.retain(|c| self.peers[other].contains(c));
                    if self.take(seen, z) {
                        return true;
                    }
                }
            }
        }
        false
    }
}

/// The positions of the bits of a mask, lowest first.
fn bits(mask: u32) -> Box<[usize]> {
    (0..32).filter(|i| mask >> i & 1 == 1).collect()
}

/// Calls `hit` with every choice of `size` sets whose union has `size` elements (the choice as a mask, the union), empty sets
/// left out, until it says true.
fn subset(sets: &[u32], size: usize, hit: &mut impl FnMut(u32, u32) -> bool) -> bool {
    fn descend(
        sets: &[u32],
        from: usize,
        left: usize,
        size: u32,
        chosen: u32,
        union: u32,
        hit: &mut impl FnMut(u32, u32) -> bool,
    ) -> bool {
        if left == 0 {
            return union.count_ones() == size && hit(chosen, union);
        }
        (from..sets.len()).any(|i| {
            let wider = union | sets[i];
            sets[i] != 0
                && wider.count_ones() <= size
                && descend(sets, i + 1, left - 1, size, chosen | 1 << i, wider, hit)
        })
    }
    descend(sets, 0, size, size as u32, 0, 0, hit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::puzzles::sudoku::{Generator, Geometry, Symmetry};
    use crate::random::{Purpose, stream};
    use proptest::prelude::*;

    const HARD: &str = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..";

    fn of(line: &str) -> Grade {
        grade(&line.parse().unwrap()).unwrap()
    }

    /// Marks of 9x9 as everything, except where `marks` says (row, column, digits).
    fn pencil(marks: &[(usize, usize, &str)]) -> Pencil {
        let mut pencil = Pencil::new(&Board::empty(Geometry::S9));
        for &(row, column, digits) in marks {
            pencil.marks[9 * row + column] = mask(digits);
        }
        pencil
    }

    fn mask(digits: &str) -> u32 {
        digits.bytes().fold(0, |set, digit| set | 1 << (digit - b'1'))
    }

    /// The cells that lost candidates when the technique was used, and what they lost.
    fn losses(mut pencil: Pencil, technique: Technique) -> Vec<(usize, usize, u32)> {
        let before = pencil.marks.clone();
        let used = pencil.apply(technique);
        let lost: Vec<_> =
            (0..81).map(|c| (c / 9, c % 9, before[c] & !pencil.marks[c])).filter(|l| l.2 != 0).collect();
        assert_eq!(used, !lost.is_empty(), "{technique}");
        lost
    }

    #[test]
    fn easy_and_hard() {
        let easy = of("53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79");
        assert_eq!((easy.hardest, easy.open), (Some(Technique::NakedSingle), 0));
        assert_eq!(easy.counts, BTreeMap::from([(Technique::NakedSingle, 51)]));
        let hard = of(HARD);
        assert_eq!((hard.hardest, hard.counts[&Technique::Guessing]), (Some(Technique::Guessing), 1));
        assert!(hard.open > 40);
        let full = crate::puzzles::sudoku::generator::full_grid(Geometry::S6, 1);
        assert_eq!(grade(&full).unwrap(), Grade { hardest: None, counts: BTreeMap::new(), open: 0 });
    }

    #[test]
    fn improper_puzzles_are_refused() {
        let error = |line: &str| grade(&line.parse().unwrap()).unwrap_err().to_string();
        assert!(error(&".".repeat(16)).starts_with(
            "expected a puzzle with exactly one solution, got one that has several solutions: ...."
        ));
        assert!(error("123...4.........").contains("has no solution"));
    }

    #[test]
    fn each_technique_takes_what_the_textbook_says() {
        // Pointing: 1 in box 1 only in its top row.
        let box_1: Vec<_> = (1..3).flat_map(|r| (0..3).map(move |c| (r, c, "23456789"))).collect();
        let lost = losses(pencil(&box_1), Technique::Pointing);
        assert_eq!(lost, (3..9).map(|c| (0, c, 1)).collect::<Vec<_>>());
        // Claiming: 1 in row 1 only in box 1.
        let row_1: Vec<_> = (3..9).map(|c| (0, c, "23456789")).collect();
        let lost = losses(pencil(&row_1), Technique::Claiming);
        assert_eq!(lost, (3..9).map(|i| (i / 3, i % 3, 1)).collect::<Vec<_>>());
        let lost = losses(pencil(&[(0, 0, "12"), (0, 8, "12")]), Technique::NakedPair);
        assert_eq!(lost, (1..8).map(|c| (0, c, 3)).collect::<Vec<_>>());
        let lost = losses(pencil(&[(0, 0, "12"), (0, 4, "23"), (0, 8, "13")]), Technique::NakedTriple);
        assert_eq!(lost, [1, 2, 3, 5, 6, 7].map(|c| (0, c, 7)));
        assert!(
            losses(pencil(&[(0, 0, "12"), (0, 4, "23"), (1, 8, "13")]), Technique::NakedTriple).is_empty()
        );
        let rest: Vec<_> = (2..9).map(|c| (0, c, "3456789")).collect();
        let lost = losses(pencil(&rest), Technique::HiddenPair);
        assert_eq!(lost, [(0, 0, mask("3456789")), (0, 1, mask("3456789"))]);
        let mut rest: Vec<_> = (3..9).map(|c| (0, c, "456789")).collect();
        rest.push((0, 0, "23456789"));
        let lost = losses(pencil(&rest), Technique::HiddenTriple);
        assert_eq!(lost, [0, 1, 2].map(|c| (0, c, mask("456789"))));
        // X-wing in rows 2 and 6, columns 2 and 9; with a third row a swordfish, and no X-wing any more.
        let without: Vec<_> = [1, 5]
            .iter()
            .flat_map(|&r| (0..9).filter(|c| ![1, 8].contains(c)).map(move |c| (r, c, "23456789")))
            .collect();
        let lost = losses(pencil(&without), Technique::XWing);
        assert!(lost.iter().all(|&(r, c, bits)| ![1, 5].contains(&r) && [1, 8].contains(&c) && bits == 1));
        assert_eq!(lost.len(), 14);
        let three: Vec<_> = [(1, [1, 4]), (4, [4, 8]), (7, [1, 8])]
            .iter()
            .flat_map(|&(r, open)| (0..9).filter(move |c| !open.contains(c)).map(move |c| (r, c, "23456789")))
            .collect();
        assert!(losses(pencil(&three), Technique::XWing).is_empty());
        let lost = losses(pencil(&three), Technique::Swordfish);
        assert!(
            lost.iter().all(|&(r, c, bits)| ![1, 4, 7].contains(&r) && [1, 4, 8].contains(&c) && bits == 1)
        );
        assert_eq!(lost.len(), 18);
        // XY-wing: pivot 12 in r1c1 sees 13 in r1c8 and 23 in r2c2; both see r1c2, r1c3 and r2c7 to r2c9.
        let lost = losses(pencil(&[(0, 0, "12"), (0, 7, "13"), (1, 1, "23")]), Technique::XyWing);
        assert_eq!(lost, [(0, 1, 4), (0, 2, 4), (1, 6, 4), (1, 7, 4), (1, 8, 4)]);
        assert!(losses(pencil(&[(0, 0, "12"), (0, 7, "13"), (1, 1, "13")]), Technique::XyWing).is_empty());
    }

    #[test]
    fn every_technique_comes_up_and_none_takes_the_solution() {
        let mut uses: BTreeMap<Technique, usize> = BTreeMap::new();
        let mut generator = Generator::new(Geometry::S9, 21).with_clues(22, 26);
        for index in 0..3_000 {
            let made = generator.generate(index);
            let solution = made.solution.cells();
            let grade = Pencil::new(&made.puzzle).finish(|pencil| {
                let right = (0..81).all(|c| pencil.marks[c] >> (solution[c] - 1) & 1 == 1);
                assert!(right, "{:?}", made.puzzle);
            });
            for (technique, count) in grade.counts {
                *uses.entry(technique).or_insert(0) += count;
            }
        }
        assert!(Technique::ALL.iter().all(|t| uses.contains_key(t)), "{uses:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_hardest_technique_does_not_depend_on_the_orientation(seed in any::<u64>(), small in any::<bool>()) {
            let geometry = if small { Geometry::S6 } else { Geometry::S9 };
            let puzzle = Generator::new(geometry, seed).generate(0).puzzle;
            let symmetry = Symmetry::random(geometry, &mut stream(seed, Purpose::Other, 0, 0));
            let (one, other) = (grade(&puzzle).unwrap(), grade(&symmetry.apply(&puzzle)).unwrap());
            prop_assert_eq!((one.hardest, one.open), (other.hardest, other.open));
        }
    }
}
