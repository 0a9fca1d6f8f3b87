//! The engine for 9x9: a bit board of 27 bits per digit and band.
//!
//! A candidate grid is, for each digit, three words of 27 bits: the cells of a band (three rows of nine) where the digit
//! may still stand. Within a band a digit takes three *minirows* (three cells of one row in one box), one in each row and
//! one in each box: a permutation of three. Which minirows are part of some permutation that the candidates still allow
//! is one look-up in a table of 512 entries, and covers locked candidates and hidden singles of rows and boxes at once.
//! The same table, indexed by which columns of a stack each band still offers, does the same for columns. What is
//! left for other means are naked singles (a bit-sliced count over the nine digits) and the search.

use super::Run;

/// All cells of a band.
const BAND: u32 = (1 << 27) - 1;

/// The first column of a band; shifted left, any other.
const COLUMNS: u32 = 1 | 1 << 9 | 1 << 18;

/// For a 3x3 matrix of bits (3 bits per line): the entries that are part of a permutation inside of it; 0 if none is.
const PERMUTATIONS: [u16; 512] = permutations();

/// [`PERMUTATIONS`] with each entry, a minirow, spread to its three cells.
const MINIROWS: [u32; 512] = minirows();

/// Which of a row's three minirows have a candidate.
const SHRINK: [u8; 512] = shrink();

/// For each cell of a band: the cells of the band that a digit may take if it stands there.
const KEEP: [u32; 27] = keep();

const fn permutations() -> [u16; 512] {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut table = [0u16; 512];
    let mut index = 0;
    while index < 512 {
        let mut i = 0;
        while i < 6 {
            let order = orders[i];
            let mask = 1 << order[0] | 1 << (3 + order[1]) | 1 << (6 + order[2]);
            if index as u16 & mask == mask {
                table[index] |= mask;
            }
            i += 1;
        }
        index += 1;
    }
    table
}

const fn minirows() -> [u32; 512] {
    let mut table = [0u32; 512];
    let mut index = 0;
    while index < 512 {
        let mut i = 0;
        while i < 9 {
            if PERMUTATIONS[index] & 1 << i != 0 {
                table[index] |= 0b111 << (3 * i);
            }
            i += 1;
        }
        index += 1;
    }
    table
}

const fn shrink() -> [u8; 512] {
    let mut table = [0u8; 512];
    let mut row = 0;
    while row < 512 {
        let mut i = 0;
        while i < 3 {
            if row >> (3 * i) & 7 != 0 {
                table[row] |= 1 << i;
            }
            i += 1;
        }
        row += 1;
    }
    table
}

const fn keep() -> [u32; 27] {
    let mut table = [0u32; 27];
    let mut cell = 0;
    while cell < 27 {
        let mut other = 0;
        while other < 27 {
            let same_row = cell / 9 == other / 9;
            let same_box = cell % 9 / 3 == other % 9 / 3;
            if cell == other || !(same_row || same_box) {
                table[cell] |= 1 << other;
            }
            other += 1;
        }
        cell += 1;
    }
    table
}

#[derive(Clone, Copy)]
struct State {
    /// Candidates by digit and band.
    cand: [[u32; 3]; 9],
    /// The candidates that the last propagation left; words that differ are to be looked at.
    seen: [[u32; 3]; 9],
    /// Cells whose digit has not been taken from their peers yet.
    open: [u32; 3],
}

pub(super) fn search(cells: &[u8], run: &mut Run<'_>) {
    let mut state = State { cand: [[BAND; 3]; 9], seen: [[0; 3]; 9], open: [BAND; 3] };
    for (cell, &value) in cells.iter().enumerate() {
        if value != 0 {
            state.place(usize::from(value - 1), cell / 27, cell % 27);
        }
    }
    if run.enter() {
        descend(&mut state, run);
    }
}

fn descend(state: &mut State, run: &mut Run<'_>) {
    loop {
        if !state.propagate() {
            return;
        }
        let Some((digit, band, cell)) = state.choose() else {
            run.found(|| state.solution());
            return;
        };
        run.work.guesses += 1;
        if !run.enter() {
            return;
        }
        let mut guess = *state;
        guess.place(digit, band, cell);
        descend(&mut guess, run);
        if run.done() || !run.enter() {
            return;
        }
        // The other side of the guess: the digit does not stand there.
        state.cand[digit][band] &= !(1 << cell);
    }
}

impl State {
    #[inline]
    fn place(&mut self, digit: usize, band: usize, cell: usize) {
        self.cand[digit][band] &= KEEP[cell];
    }

    /// Locked candidates and singles until nothing changes; false on a contradiction.
    fn propagate(&mut self) -> bool {
        loop {
            let mut changed = false;
            for digit in 0..9 {
                // A digit is settled before the next is looked at: most of its changes feed its own bands.
                while self.cand[digit] != self.seen[digit] {
                    changed = true;
                    if !self.settle_digit(digit) {
                        return false;
                    }
                }
            }
            if changed {
                continue;
            }
            match self.naked_singles() {
                None => return false,
                Some(false) => return true,
                Some(true) => {}
            }
        }
    }

    #[inline]
    fn settle_digit(&mut self, digit: usize) -> bool {
        let mut columns = [0u32; 3];
        for (band, columns) in columns.iter_mut().enumerate() {
            let mut word = self.cand[digit][band];
            if word != self.seen[digit][band] {
                let rows = [word & 511, word >> 9 & 511, word >> 18];
                let index = usize::from(SHRINK[rows[0] as usize])
                    | usize::from(SHRINK[rows[1] as usize]) << 3
                    | usize::from(SHRINK[rows[2] as usize]) << 6;
                word &= MINIROWS[index];
                if word == 0 {
                    return false;
                }
                self.cand[digit][band] = word;
            }
            *columns = (word | word >> 9 | word >> 18) & 511;
        }
        // Columns: in each stack the three bands take the three columns in some order.
        let mut keep = [0u32; 3];
        for stack in 0..3 {
            let shift = 3 * stack;
            let index =
                columns[0] >> shift & 7 | (columns[1] >> shift & 7) << 3 | (columns[2] >> shift & 7) << 6;
            let allowed = u32::from(PERMUTATIONS[index as usize]);
            if allowed == 0 {
                return false;
            }
            keep[0] |= (allowed & 7) << shift;
            keep[1] |= (allowed >> 3 & 7) << shift;
            keep[2] |= (allowed >> 6) << shift;
        }
        for band in 0..3 {
            let before = self.cand[digit][band];
            let word = before & (keep[band] * COLUMNS);
            self.cand[digit][band] = word;
            if word == self.seen[digit][band] {
                continue;
            }
            // If the columns took something, the rows must be looked at again.
            self.seen[digit][band] = if word == before { word } else { 0 };
            // Rows with one candidate: the digit stands there, and no other digit does.
            let mut placed = 0;
            for shift in [0, 9, 18] {
                let row = word & 511 << shift;
                if row & row.wrapping_sub(1) == 0 {
                    placed |= row;
                }
            }
            placed &= self.open[band];
            if placed != 0 {
                self.open[band] ^= placed;
                for (other, words) in self.cand.iter_mut().enumerate() {
                    if other != digit {
                        words[band] &= !placed;
                    }
                }
            }
        }
        true
    }

    /// Places digits in cells that have one candidate. `None` if a cell has none, `Some(true)` if any was placed.
    fn naked_singles(&mut self) -> Option<bool> {
        let mut any = false;
        for band in 0..3 {
            let (mut once, mut twice) = (0u32, 0u32);
            for words in &self.cand {
                twice |= once & words[band];
                once |= words[band];
            }
            if once != BAND {
                return None;
            }
            let mut singles = once & !twice & self.open[band];
            while singles != 0 {
                let cell = singles.trailing_zeros() as usize;
                singles &= singles - 1;
                any = true;
                let digit = (0..9).find(|&d| self.cand[d][band] & 1 << cell != 0)?;
                self.place(digit, band, cell);
            }
        }
        Some(any)
    }

    /// Where to guess, as (digit, band, cell): a cell with two candidates if there is one, else a digit with two
    /// places in a row, else the first candidate of the first open cell. `None` if the board is solved.
    fn choose(&self) -> Option<(usize, usize, usize)> {
        if self.open == [0; 3] {
            return None;
        }
        let mut fallback = None;
        let mut pairs = [0u32; 3];
        for band in 0..3 {
            let (mut once, mut twice, mut thrice) = (0u32, 0u32, 0u32);
            for words in &self.cand {
                thrice |= twice & words[band];
                twice |= once & words[band];
                once |= words[band];
            }
            pairs[band] = twice & !thrice & self.open[band];
            if fallback.is_none() && self.open[band] != 0 {
                let cell = self.open[band].trailing_zeros() as usize;
                fallback = (0..9).find(|&d| self.cand[d][band] & 1 << cell != 0).map(|d| (d, band, cell));
            }
        }
        if let Some(best) = self.best_pair(pairs) {
            return Some(best);
        }
        for (digit, words) in self.cand.iter().enumerate() {
            for (band, &word) in words.iter().enumerate() {
                for shift in [0, 9, 18] {
                    let row = word & 511 << shift & self.open[band];
                    if row.count_ones() == 2 {
                        return Some((digit, band, row.trailing_zeros() as usize));
                    }
                }
            }
        }
        fallback
    }

    /// Of the cells with two candidates, the one whose digits meet the most other such cells among its peers: whichever
    /// way the guess goes, those become singles. The score is (hits of one digit + 1) x (hits of the other + 1).
    fn best_pair(&self, pairs: [u32; 3]) -> Option<(usize, usize, usize)> {
        let mut scores = [[1u16; 27]; 3];
        let mut best = None;
        let mut best_score = 0;
        for (digit, words) in self.cand.iter().enumerate() {
            let hits = [words[0] & pairs[0], words[1] & pairs[1], words[2] & pairs[2]];
            for band in 0..3 {
                let mut cells = hits[band];
                while cells != 0 {
                    let cell = cells.trailing_zeros() as usize;
                    cells &= cells - 1;
                    // One population count for all three bands: two words side by side, and three single bits.
                    let near = u64::from(hits[band] & !KEEP[cell]);
                    let column = COLUMNS << (cell % 9);
                    let far = u64::from(hits[(band + 1) % 3] & column) << 27;
                    let rest = hits[(band + 2) % 3] >> (cell % 9);
                    let count = (near | far).count_ones() + (rest & 1) + (rest >> 9 & 1) + (rest >> 18 & 1);
                    let score = &mut scores[band][cell];
                    *score *= count as u16 + 1;
                    if *score > best_score {
                        best_score = *score;
                        best = Some((digit, band, cell));
                    }
                }
            }
        }
        best
    }

    fn solution(&self) -> Vec<u8> {
        let mut cells = vec![0; 81];
        for (digit, words) in self.cand.iter().enumerate() {
            for (band, &word) in words.iter().enumerate() {
                let mut word = word;
                while word != 0 {
                    cells[27 * band + word.trailing_zeros() as usize] = digit as u8 + 1;
                    word &= word - 1;
                }
            }
        }
        cells
    }
}
