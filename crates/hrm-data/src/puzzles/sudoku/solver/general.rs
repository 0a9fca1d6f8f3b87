//! The engine for any geometry: candidates as one bit mask per cell, naked and hidden singles, and a depth-first search
//! that branches where the fewest possibilities are (a cell's values, or a value's places in a unit).

use super::Run;
use super::trace::{Action, Tracer, Why};
use crate::puzzles::sudoku::board::{Geometry, Unit};
use crate::random;

#[derive(Clone, Debug)]
pub(super) struct General {
    geometry: Geometry,
    /// All values of the board as bits 0..side.
    all: u32,
    /// `side` cells of each unit: rows, columns, boxes.
    units: Vec<u16>,
    /// The three units of each cell.
    cell_units: Vec<[u8; 3]>,
    /// Cells that share a unit with a cell, `peer_count` each.
    peers: Vec<u16>,
    peer_count: usize,
    /// Candidates at each depth of the search.
    frames: Vec<Vec<u32>>,
    /// Cells that became single and whose peers do not know yet.
    queue: Vec<u16>,
}

/// Units to look through for hidden singles: at most 75 of them.
type Units = u128;

/// Where to branch: on the values of a cell, or on the places of a value in a unit.
enum Branch {
    Cell(usize),
    Places { unit: usize, value: u32 },
}

impl General {
    pub(super) fn new(geometry: Geometry) -> Self {
        let side = geometry.side();
        let units = geometry.units().flat_map(|unit| geometry.unit_cells(unit)).map(|c| c as u16).collect();
        let cell_units = geometry.units_of_cells().into_iter().map(|of| of.map(|unit| unit as u8)).collect();
        let peers: Vec<u16> = geometry.peers().into_iter().flatten().map(|c| c as u16).collect();
        let peer_count = peers.len() / geometry.cells();
        let all = ((1u64 << side) - 1) as u32;
        Self { geometry, all, units, cell_units, peers, peer_count, frames: Vec::new(), queue: Vec::new() }
    }

    pub(super) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(super) fn search(&mut self, cells: &[u8], run: &mut Run<'_>) {
        if self.frames.is_empty() {
            self.frames.push(Vec::new());
        }
        let all = self.all;
        let frame = &mut self.frames[0];
        frame.clear();
        frame.extend(cells.iter().map(|&v| if v == 0 { all } else { 1 << (v - 1) }));
        self.queue.clear();
        self.queue.extend((0..cells.len()).filter(|&c| cells[c] != 0).map(|c| c as u16));
        if !run.enter() {
            return;
        }
        let every_unit = (1 << (3 * self.geometry.side())) - 1;
        self.descend(0, every_unit, run);
    }

    /// Propagates the frame at `depth` and searches below it.
    fn descend(&mut self, depth: usize, dirty: Units, run: &mut Run<'_>) {
        if !self.propagate(depth, dirty, &mut run.tracer) {
            return;
        }
        let Some(branch) = self.choose(depth) else {
            let frame = &self.frames[depth];
            run.tracer.note(Action::Solution, depth, None, None, Why::Full);
            run.found(|| frame.iter().map(|c| c.trailing_zeros() as u8 + 1).collect());
            return;
        };
        run.work.guesses += 1;
        // The possibilities as (cell, value bit).
        let frame = &self.frames[depth];
        let mut options: Vec<(u16, u32)> = match branch {
            Branch::Cell(cell) => bits(frame[cell]).map(|bit| (cell as u16, bit)).collect(),
            Branch::Places { unit, value } => {
                let cells = self.unit(unit).iter().filter(|&&c| frame[usize::from(c)] & value != 0);
                cells.map(|&c| (c, value)).collect()
            }
        };
        if let Some(rng) = &mut run.rng {
            random::shuffle(*rng, &mut options);
        }
        if let Some(preference) = run.preference {
            let weight = |&(cell, bit): &(u16, u32)| preference(usize::from(cell), value(bit));
            options.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        }
        let why = match branch {
            Branch::Cell(_) => Why::OneOfValues(options.len()),
            Branch::Places { unit, .. } => Why::OneOfPlaces(self.name(unit), options.len()),
        };
        for (cell, bit) in options {
            if run.done() || !run.enter() {
                return;
            }
            if self.frames.len() == depth + 1 {
                self.frames.push(Vec::new());
            }
            let (above, below) = self.frames.split_at_mut(depth + 1);
            below[0].clone_from(&above[depth]);
            below[0][usize::from(cell)] = bit;
            self.queue.clear();
            self.queue.push(cell);
            let dirty = self.units_of(usize::from(cell));
            let (at, value) = (Some(usize::from(cell)), Some(value(bit)));
            run.tracer.note(Action::Guess, depth + 1, at, value, why);
            self.descend(depth + 1, dirty, run);
            if !run.done() {
                run.tracer.note(Action::Backtrack, depth + 1, at, value, Why::Searched);
            }
        }
    }

    fn unit(&self, unit: usize) -> &[u16] {
        let side = self.geometry.side();
        &self.units[unit * side..(unit + 1) * side]
    }

    /// The unit by its number in the order of [`Geometry::units`].
    const fn name(&self, unit: usize) -> Unit {
        let side = self.geometry.side();
        match unit / side {
            0 => Unit::Row(unit % side),
            1 => Unit::Column(unit % side),
            _ => Unit::Box(unit % side),
        }
    }

    fn units_of(&self, cell: usize) -> Units {
        let [a, b, c] = self.cell_units[cell];
        1 << a | 1 << b | 1 << c
    }

    /// Naked and hidden singles until nothing changes; false on a contradiction.
    fn propagate(&mut self, depth: usize, mut dirty: Units, tracer: &mut Tracer) -> bool {
        let mut frame = std::mem::take(&mut self.frames[depth]);
        let mut queue = std::mem::take(&mut self.queue);
        let consistent = self.settle(&mut frame, &mut queue, &mut dirty, depth, tracer);
        queue.clear();
        self.frames[depth] = frame;
        self.queue = queue;
        consistent
    }

    fn settle(
        &self,
        frame: &mut [u32],
        queue: &mut Vec<u16>,
        dirty: &mut Units,
        depth: usize,
        tracer: &mut Tracer,
    ) -> bool {
        loop {
            while let Some(cell) = queue.pop() {
                let cell = usize::from(cell);
                let bit = frame[cell];
                for &peer in &self.peers[cell * self.peer_count..(cell + 1) * self.peer_count] {
                    let slot = &mut frame[usize::from(peer)];
                    if *slot & bit == 0 {
                        continue;
                    }
                    *slot &= !bit;
                    let at = Some(usize::from(peer));
                    if *slot == 0 {
                        tracer.note(Action::Contradiction, depth, at, None, Why::NoValue);
                        return false;
                    }
                    if slot.is_power_of_two() {
                        tracer.note(Action::Place, depth, at, Some(value(*slot)), Why::OnlyValue);
                        queue.push(peer);
                    }
                    *dirty |= self.units_of(usize::from(peer));
                }
            }
            if *dirty == 0 {
                return true;
            }
            let unit = dirty.trailing_zeros() as usize;
            *dirty &= *dirty - 1;
            let (mut once, mut twice) = (0u32, 0u32);
            for &cell in self.unit(unit) {
                let candidates = frame[usize::from(cell)];
                twice |= once & candidates;
                once |= candidates;
            }
            if once != self.all {
                let missing = Some(value(self.all & !once));
                tracer.note(Action::Contradiction, depth, None, missing, Why::NoPlace(self.name(unit)));
                return false;
            }
            let hidden = once & !twice;
            if hidden == 0 {
                continue;
            }
            for &cell in self.unit(unit) {
                let slot = &mut frame[usize::from(cell)];
                let only = *slot & hidden;
                if only == 0 || slot.is_power_of_two() {
                    continue;
                }
                if !only.is_power_of_two() {
                    // Two values have this cell only; when one takes it, the other has none.
                    let homeless = Some(value(only));
                    tracer.note(Action::Contradiction, depth, None, homeless, Why::NoPlace(self.name(unit)));
                    return false;
                }
                *slot = only;
                let why = Why::OnlyPlace(self.name(unit));
                tracer.note(Action::Place, depth, Some(usize::from(cell)), Some(value(only)), why);
                queue.push(cell);
                *dirty |= self.units_of(usize::from(cell));
            }
        }
    }

    /// The branching point with the fewest possibilities; `None` if every cell is single.
    fn choose(&self, depth: usize) -> Option<Branch> {
        let frame = &self.frames[depth];
        let mut best = None;
        let mut fewest = u32::MAX;
        for (cell, candidates) in frame.iter().enumerate() {
            let count = candidates.count_ones();
            if count > 1 && count < fewest {
                fewest = count;
                best = Some(Branch::Cell(cell));
                if count == 2 {
                    return best;
                }
            }
        }
        if fewest == u32::MAX {
            return None;
        }
        // No cell has two values left: a value may still have two places in some unit.
        for unit in 0..3 * self.geometry.side() {
            let (mut once, mut twice, mut thrice) = (0u32, 0u32, 0u32);
            for &cell in self.unit(unit) {
                let candidates = frame[usize::from(cell)];
                thrice |= twice & candidates;
                twice |= once & candidates;
                once |= candidates;
            }
            let two_places = twice & !thrice;
            if two_places != 0 {
                return Some(Branch::Places { unit, value: two_places & two_places.wrapping_neg() });
            }
        }
        best
    }
}

/// The value of the lowest bit of a mask.
const fn value(mask: u32) -> u8 {
    mask.trailing_zeros() as u8 + 1
}

/// The single bits of a mask, lowest first.
fn bits(mut mask: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = mask & mask.wrapping_neg();
        mask ^= bit;
        (bit != 0).then_some(bit)
    })
}
