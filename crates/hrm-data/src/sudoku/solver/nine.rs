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

/// The first box of a band; shifted left by three or six, another.
const BOX: u32 = 0b111 | 0b111 << 9 | 0b111 << 18;

/// For a 3x3 matrix of bits (3 bits per line): the entries that are part of a permutation inside of it; 0 if none is.
const PERMUTATIONS: [u16; 512] = permutations();

/// [`PERMUTATIONS`] with each entry, a minirow, spread to its three cells.
const MINIROWS: [u32; 512] = minirows();

/// Which of a row's three minirows have a candidate.
const SHRINK: [u8; 512] = shrink();

/// The entries of [`PERMUTATIONS`] that are part of every permutation.
const CERTAIN: [u16; 512] = certain();

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

const fn certain() -> [u16; 512] {
    let mut table = [0u16; 512];
    let mut index = 0;
    while index < 512 {
        let allowed = PERMUTATIONS[index];
        let mut line = 0;
        while line < 3 {
            let entries = allowed & 7 << (3 * line);
            if entries & entries.wrapping_sub(1) == 0 {
                table[index] |= entries;
            }
            line += 1;
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
    /// For each digit the minirows and minicolumns where it may stand, see [`Minis`].
    possible: [Minis; 9],
    /// Those where it must stand.
    certain: [Minis; 9],
}

/// A set of minirows and minicolumns (three cells of one row or column in one box): bit `9 * band + 3 * row + stack` for
/// the minirow in row `row` of the band, bit `32 + 9 * stack + 3 * band + column` for the minicolumn in column `column` of
/// the stack.
type Minis = u64;

/// All minirows and minicolumns.
const MINIS: Minis = BAND as u64 | (BAND as u64) << 32;

/// Stack, band and column in the stack of a minicolumn.
const fn minicolumn(mini: usize) -> (usize, usize, usize) {
    let n = mini - 32;
    (n / 9, n % 9 / 3, n % 3)
}

/// Searches a board of 81 cells.
pub(super) fn search(cells: &[u8], run: &mut Run<'_>) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("popcnt")
    {
        // SAFETY: the machine has the features that the function is compiled for.
        return unsafe { search_x86(cells, run) };
    }
    search_anywhere(cells, run);
}

/// The same code as elsewhere, compiled for machines that count bits in one instruction: a third faster.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn search_x86(cells: &[u8], run: &mut Run<'_>) {
    search_anywhere(cells, run);
}

#[inline(always)]
fn search_anywhere(cells: &[u8], run: &mut Run<'_>) {
    let mut state = State {
        cand: [[BAND; 3]; 9],
        seen: [[0; 3]; 9],
        open: [BAND; 3],
        possible: [MINIS; 9],
        certain: [0; 9],
    };
    for (cell, &value) in cells.iter().enumerate() {
        if value != 0 {
            state.place(usize::from(value - 1), cell / 27, cell % 27);
        }
    }
    if !run.enter() {
        return;
    }
    // What is still to be tried: the other sides of the guesses.
    let mut waiting: Vec<State> = Vec::new();
    loop {
        if state.propagate() {
            match state.choose() {
                None => run.found(|| state.solution()),
                Some((digit, band, cell)) => {
                    run.work.guesses += 1;
                    if !run.enter() {
                        return;
                    }
                    waiting.push(state);
                    if let Some(other) = waiting.last_mut() {
                        other.cand[digit][band] &= !(1 << cell);
                    }
                    state.place(digit, band, cell);
                    continue;
                }
            }
        }
        if run.done() {
            return;
        }
        let Some(next) = waiting.pop() else { return };
        state = next;
        if !run.enter() {
            return;
        }
    }
}

/// How many cells of a set, by band, are peers of a cell.
#[inline(always)]
fn peers_in(cells: &[u32; 3], band: usize, cell: usize) -> u32 {
    // One population count for all three bands: two words side by side, and three single bits.
    let near = u64::from(cells[band] & !KEEP[cell]);
    let far = u64::from(cells[(band + 1) % 3] & COLUMNS << (cell % 9)) << 27;
    let rest = cells[(band + 2) % 3] >> (cell % 9);
    (near | far).count_ones() + (rest & 1) + (rest >> 9 & 1) + (rest >> 18 & 1)
}

impl State {
    #[inline(always)]
    fn place(&mut self, digit: usize, band: usize, cell: usize) {
        self.cand[digit][band] &= KEEP[cell];
    }

    /// Locked candidates and singles until nothing changes; false on a contradiction.
    #[inline(always)]
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
                Some(true) => continue,
                Some(false) => {}
            }
            match self.full_minis() {
                None => return false,
                Some(true) => {}
                Some(false) => return true,
            }
        }
    }

    #[inline(always)]
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
                let shift = 9 * band;
                self.possible[digit] &= !(511 << shift) | u64::from(PERMUTATIONS[index]) << shift;
                self.certain[digit] |= u64::from(CERTAIN[index]) << shift;
            }
            *columns = (word | word >> 9 | word >> 18) & 511;
        }
        // Columns: in each stack the three bands take the three columns in some order.
        let mut keep = [0u32; 3];
        let (mut possible, mut certain) = (0u64, 0u64);
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
            possible |= u64::from(allowed) << (9 * stack);
            certain |= u64::from(CERTAIN[index as usize]) << (9 * stack);
        }
        self.possible[digit] &= possible << 32 | u64::from(BAND);
        self.certain[digit] |= certain << 32;
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
    #[inline(always)]
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

    /// Three digits for three cells: where only three digits may stand in a minirow or minicolumn, they must; where three
    /// must, no other may. `None` on a contradiction, `Some(true)` if candidates were taken.
    #[inline(always)]
    fn full_minis(&mut self) -> Option<bool> {
        // The n-th of `may` and `must`: where at least n + 1 digits may or must stand.
        let (mut may, mut must) = ([0 as Minis; 4], [0 as Minis; 4]);
        for (&possible, &certain) in self.possible.iter().zip(&self.certain) {
            for (counts, new) in [(&mut may, possible), (&mut must, certain)] {
                counts[3] |= counts[2] & new;
                counts[2] |= counts[1] & new;
                counts[1] |= counts[0] & new;
                counts[0] |= new;
            }
        }
        if may[2] != MINIS || must[3] != 0 {
            return None;
        }
        let (exactly, full) = (!may[3] & MINIS & !must[2], must[2]);
        let mut any = false;
        for digit in 0..9 {
            let unsure = self.possible[digit] & !self.certain[digit];
            let (mut enter, mut leave) = (unsure & exactly, unsure & full);
            any |= enter | leave != 0;
            while leave != 0 {
                let mini = leave.trailing_zeros() as usize;
                leave &= leave - 1;
                if mini < 32 {
                    self.cand[digit][mini / 9] &= !(0b111 << (3 * (mini % 9)));
                } else {
                    let (stack, band, column) = minicolumn(mini);
                    self.cand[digit][band] &= !(COLUMNS << (3 * stack + column));
                }
            }
            while enter != 0 {
                let mini = enter.trailing_zeros() as usize;
                enter &= enter - 1;
                if mini < 32 {
                    self.cand[digit][mini / 9] &= KEEP[3 * (mini % 9)] | 0b111 << (3 * (mini % 9));
                } else {
                    let (stack, band, column) = minicolumn(mini);
                    let column = COLUMNS << (3 * stack + column);
                    for other in 0..3 {
                        let kept = if other == band { !(BOX << (3 * stack)) | column } else { !column };
                        self.cand[digit][other] &= kept;
                    }
                }
            }
        }
        Some(any)
    }

    /// Where to guess, as (digit, band, cell): a cell with two candidates if there is one, else a digit with two
    /// places in a row, else the first candidate of the first open cell. `None` if the board is solved.
    #[inline(always)]
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

    /// Of the cells with two candidates, the one whose digits can stand in the most other cells among its peers, those with
    /// two candidates counted three times: whichever way the guess goes, they lose a candidate. The score is the product
    /// over both digits, so that neither way is left weak.
    #[inline(always)]
    fn best_pair(&self, pairs: [u32; 3]) -> Option<(usize, usize, usize)> {
        let mut scores = [[1u32; 27]; 3];
        let mut best = None;
        let mut best_score = 0;
        for (digit, words) in self.cand.iter().enumerate() {
            let hits = [words[0] & pairs[0], words[1] & pairs[1], words[2] & pairs[2]];
            for band in 0..3 {
                let mut cells = hits[band];
                while cells != 0 {
                    let cell = cells.trailing_zeros() as usize;
                    cells &= cells - 1;
                    let weight = 2 * peers_in(&hits, band, cell) + peers_in(words, band, cell);
                    let score = &mut scores[band][cell];
                    *score *= 2 * weight + 1;
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
