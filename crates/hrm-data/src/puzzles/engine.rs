//! The exact search behind the variants: cells with a set of candidate digits, units that hold every digit once, and cages
//! with a sum.
//!
//! Propagation: naked and hidden singles; for cages the digits that occur in some way to fill them, and digits that occur in
//! every way, which then go from the cells that see all their places. Then depth-first search on a cell with the fewest
//! candidates.

use rand_chacha::ChaCha8Rng;

pub use crate::puzzles::sudoku::Search;
use crate::puzzles::sudoku::{Stop, Work};
use crate::random;

/// A set of digits: bit `d - 1` for digit `d`, at most nine.
pub(super) type Digits = u16;

/// Cells with a sum.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    pub(super) cells: Vec<u16>,
    pub(super) sum: u32,
    /// Whether the digits must differ. If not, cells may still see each other through a unit.
    pub(super) distinct: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Engine {
    side: usize,
    all: Digits,
    units: Vec<Vec<u16>>,
    sums: Vec<Sum>,
    /// The units of each cell, then its sums, numbered on.
    constraints: Vec<Vec<u16>>,
    /// The cells that may not hold the same digit as a cell.
    peers: Vec<Vec<u16>>,
    /// Sets of `k` different digits with the sum `s`, at `k * (MAX_SUM + 1) + s`; empty without sums.
    combinations: Vec<Vec<Digits>>,
}

const MAX_SUM: usize = 45;

struct State {
    masks: Vec<Digits>,
    /// Cells that became single and whose peers do not know yet.
    singles: Vec<u16>,
    /// Constraints to look at again; units are looked at before sums.
    units: Vec<u16>,
    sums: Vec<u16>,
    dirty: Vec<bool>,
}

/// The order in which the digits of a cell are tried.
pub(super) enum Order<'a> {
    /// Smallest first.
    Ascending,
    Random(&'a mut ChaCha8Rng),
    /// First the one with the greatest weight, of equal ones the smallest. The weight is that of a digit in a cell.
    Preferring(&'a dyn Fn(usize, u8) -> f32),
}

/// Limits, order and results of one search.
struct Run<'a> {
    limit: u64,
    max_nodes: u64,
    order: Order<'a>,
    search: Search<Vec<u8>>,
}

impl Engine {
    /// An engine for boards of `cells` cells and digits up to `side` (at most 9). Each unit has `side` cells.
    pub(super) fn new(side: usize, cells: usize, units: Vec<Vec<u16>>, sums: Vec<Sum>) -> Self {
        let mut constraints = vec![Vec::new(); cells];
        let lists = units.iter().chain(sums.iter().map(|sum| &sum.cells));
        for (index, list) in lists.enumerate() {
            for &cell in list {
                constraints[usize::from(cell)].push(index as u16);
            }
        }
        let mut peers = vec![Vec::new(); cells];
        let different = sums.iter().filter(|sum| sum.distinct).map(|sum| &sum.cells);
        for list in units.iter().chain(different) {
            for &cell in list {
                peers[usize::from(cell)].extend(list.iter().filter(|&&peer| peer != cell));
            }
        }
        for list in &mut peers {
            list.sort_unstable();
            list.dedup();
        }
        let all = ((1u32 << side) - 1) as Digits;
        let mut combinations = Vec::new();
        if !sums.is_empty() {
            combinations = vec![Vec::new(); 10 * (MAX_SUM + 1)];
            for set in 0..=all {
                let sum: usize = digits(set).sum();
                combinations[set.count_ones() as usize * (MAX_SUM + 1) + sum].push(set);
            }
        }
        Self { side, all, units, sums, constraints, peers, combinations }
    }

    /// Searches until `limit` solutions are found, `max_nodes` states were propagated, or there are no more. `cells` holds
    /// digits, 0 for blank; `without` is a cell and the digit it may not hold.
    pub(super) fn search(
        &self,
        cells: &[u8],
        without: Option<(usize, u8)>,
        (limit, max_nodes): (u64, u64),
        order: Order<'_>,
    ) -> Search<Vec<u8>> {
        let search = Search {
            solutions: 0,
            first: None,
            second: None,
            stop: Stop::Exhausted,
            work: Work { guesses: 0, nodes: 0 },
        };
        let mut run = Run { limit, max_nodes, order, search };
        let mask = |&digit: &u8| if digit == 0 { self.all } else { bit(digit) & self.all };
        let mut masks: Vec<Digits> = cells.iter().map(mask).collect();
        if let Some((cell, digit)) = without {
            masks[cell] &= !bit(digit);
        }
        let consistent = masks.len() == self.peers.len() && masks.iter().all(|&mask| mask != 0);
        if limit == 0 {
            run.search.stop = Stop::SolutionLimit;
        } else if consistent && run.enter() {
            let single = |&cell: &u16| masks[usize::from(cell)].is_power_of_two();
            let singles = (0..masks.len() as u16).filter(single).collect();
            let (units, all) = (self.units.len() as u16, (self.units.len() + self.sums.len()) as u16);
            let dirty = vec![true; usize::from(all)];
            let (units, sums) = ((0..units).collect(), (units..all).collect());
            let mut state = State { masks, singles, units, sums, dirty };
            if self.settle(&mut state) {
                self.descend(&state.masks, &mut run);
            }
        }
        run.search
    }

    /// Searches below a settled state.
    fn descend(&self, masks: &[Digits], run: &mut Run<'_>) {
        let open = masks.iter().enumerate().filter(|(_, mask)| !mask.is_power_of_two());
        let Some((cell, _)) = open.min_by_key(|(_, mask)| mask.count_ones()) else {
            run.found(masks.iter().map(|mask| mask.trailing_zeros() as u8 + 1).collect());
            return;
        };
        run.search.work.guesses += 1;
        let mut options: Vec<usize> = digits(masks[cell]).collect();
        match &mut run.order {
            Order::Ascending => {}
            Order::Random(rng) => random::shuffle(rng, &mut options),
            Order::Preferring(weight) => {
                options.sort_by(|&a, &b| weight(cell, b as u8).total_cmp(&weight(cell, a as u8)));
            }
        }
        for digit in options {
            if run.search.stop != Stop::Exhausted || !run.enter() {
                return;
            }
            let dirty = vec![false; self.units.len() + self.sums.len()];
            let mut state = State {
                masks: masks.to_vec(),
                singles: Vec::new(),
                units: Vec::new(),
                sums: Vec::new(),
                dirty,
            };
            if self.restrict(&mut state, cell as u16, bit(digit as u8)) && self.settle(&mut state) {
                self.descend(&state.masks, run);
            }
        }
    }

    /// Leaves a cell only digits of a set; false if none remain.
    #[inline]
    fn restrict(&self, state: &mut State, cell: u16, to: Digits) -> bool {
        let slot = &mut state.masks[usize::from(cell)];
        let kept = *slot & to;
        if kept == *slot {
            return true;
        }
        *slot = kept;
        if kept == 0 {
            return false;
        }
        if kept.is_power_of_two() {
            state.singles.push(cell);
        }
        for &index in &self.constraints[usize::from(cell)] {
            if !std::mem::replace(&mut state.dirty[usize::from(index)], true) {
                let units = usize::from(index) < self.units.len();
                if units { &mut state.units } else { &mut state.sums }.push(index);
            }
        }
        true
    }

    /// Propagates until nothing changes; false on a contradiction.
    fn settle(&self, state: &mut State) -> bool {
        loop {
            while let Some(cell) = state.singles.pop() {
                let mask = state.masks[usize::from(cell)];
                for &peer in &self.peers[usize::from(cell)] {
                    if !self.restrict(state, peer, !mask) {
                        return false;
                    }
                }
            }
            if let Some(index) = state.units.pop() {
                state.dirty[usize::from(index)] = false;
                if !self.hidden_singles(state, usize::from(index)) {
                    return false;
                }
            } else if let Some(index) = state.sums.pop() {
                state.dirty[usize::from(index)] = false;
                if !self.fill_sum(state, &self.sums[usize::from(index) - self.units.len()]) {
                    return false;
                }
            } else {
                return true;
            }
        }
    }

    fn hidden_singles(&self, state: &mut State, unit: usize) -> bool {
        let (mut once, mut twice) = (0, 0);
        for &cell in &self.units[unit] {
            let mask = state.masks[usize::from(cell)];
            twice |= once & mask;
            once |= mask;
        }
        if once != self.all {
            return false;
        }
        let hidden = once & !twice;
        if hidden == 0 {
            return true;
        }
        self.units[unit].iter().all(|&cell| {
            let only = state.masks[usize::from(cell)] & hidden;
            only == 0 || (only.is_power_of_two() && self.restrict(state, cell, only))
        })
    }

    /// Leaves the cells of a sum the digits with which it can be reached.
    fn fill_sum(&self, state: &mut State, sum: &Sum) -> bool {
        // The open cells and what is left for them.
        let mut open = [0u16; 9];
        let mut count = 0;
        let mut left = sum.sum as i32;
        for &cell in &sum.cells {
            let mask = state.masks[usize::from(cell)];
            if mask.is_power_of_two() {
                left -= mask.trailing_zeros() as i32 + 1;
            } else {
                open[count] = cell;
                count += 1;
            }
        }
        let open = &open[..count];
        if left < 0 || left > (self.side * count) as i32 || count == 0 {
            return count == 0 && left == 0;
        }
        if count <= 3 {
            let mut allowed = [0; 3];
            let mut masks = [0; 3];
            for (slot, &cell) in masks.iter_mut().zip(open) {
                *slot = state.masks[usize::from(cell)];
            }
            ways(&masks[..count], left, 0, sum.distinct, &mut allowed);
            if !open.iter().zip(allowed).all(|(&cell, mask)| self.restrict(state, cell, mask)) {
                return false;
            }
        }
        if !sum.distinct || left as usize > MAX_SUM {
            return !sum.distinct;
        }
        let (mut some, mut every) = (0, self.all);
        let union = open.iter().fold(0, |union, &cell| union | state.masks[usize::from(cell)]);
        for &set in &self.combinations[count * (MAX_SUM + 1) + left as usize] {
            let fits = set & !union == 0 && open.iter().all(|&c| state.masks[usize::from(c)] & set != 0);
            if fits {
                some |= set;
                every &= set;
            }
        }
        if some == 0 || !open.iter().all(|&cell| self.restrict(state, cell, some)) {
            return false;
        }
        // A digit in every way to fill the cage goes from the cells that see all its places.
        for digit in digits(every) {
            let bit = bit(digit as u8);
            let mut holders = open.iter().filter(|&&cell| state.masks[usize::from(cell)] & bit != 0);
            let Some(&first) = holders.next() else { return false };
            let others: Vec<u16> = holders.copied().collect();
            for &peer in &self.peers[usize::from(first)] {
                let sees = |&other: &u16| self.peers[usize::from(other)].binary_search(&peer).is_ok();
                if state.masks[usize::from(peer)] & bit != 0
                    && !others.contains(&peer)
                    && others.iter().all(sees)
                    && !self.restrict(state, peer, !bit)
                {
                    return false;
                }
            }
        }
        true
    }
}

/// Collects the digits of each cell over all ways to reach a sum; whether there is one.
fn ways(masks: &[Digits], left: i32, used: Digits, distinct: bool, allowed: &mut [Digits]) -> bool {
    let Some((&mask, rest)) = masks.split_first() else { return left == 0 };
    if rest.is_empty() {
        let last = if (1..=9).contains(&left) { bit(left as u8) & mask & !used } else { 0 };
        allowed[0] |= last;
        return last != 0;
    }
    let mut any = false;
    for digit in digits(mask & !used) {
        let used = if distinct { used | bit(digit as u8) } else { 0 };
        if ways(rest, left - digit as i32, used, distinct, &mut allowed[1..]) {
            allowed[0] |= bit(digit as u8);
            any = true;
        }
    }
    any
}

const fn bit(digit: u8) -> Digits {
    if digit == 0 || digit > 9 { 0 } else { 1 << (digit - 1) }
}

/// The digits of a set, smallest first.
fn digits(set: Digits) -> impl Iterator<Item = usize> {
    (1..=9).filter(move |digit| set & (1 << (digit - 1)) != 0)
}

impl Run<'_> {
    /// Counts a node; false if the search must stop instead.
    const fn enter(&mut self) -> bool {
        if self.search.work.nodes >= self.max_nodes {
            self.search.stop = Stop::NodeLimit;
            return false;
        }
        self.search.work.nodes += 1;
        true
    }

    fn found(&mut self, cells: Vec<u8>) {
        self.search.solutions += 1;
        if self.search.first.is_none() {
            self.search.first = Some(cells);
        } else if self.search.second.is_none() {
            self.search.second = Some(cells);
        }
        if self.search.solutions >= self.limit {
            self.search.stop = Stop::SolutionLimit;
        }
    }
}
