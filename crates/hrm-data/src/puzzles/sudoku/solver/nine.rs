//! The engine for 9x9: a bit board of 27 bits per digit and band.
//!
//! A candidate grid is, for each digit, three words of 27 bits: the cells of a band (three rows of nine) where the digit
//! may still stand. Within a band a digit takes three *minirows* (three cells of one row in one box), one in each row and
//! one in each box: a permutation of three. Which minirows are part of some permutation that the candidates still allow
//! is one look-up in a table of 512 entries, and covers locked candidates and hidden singles of rows and boxes at once.
//! The same table, indexed by which columns of a stack each band still offers, does the same for columns. Bit-sliced counts
//! over the nine digits find naked singles, and minirows and minicolumns where three digits must or may stand. The band
//! representation is that of the solvers of the players' forum (JCZSolve); the three digits of a minirow are tdoku's triads.

use super::Run;

/// A set of cells: 27 bits for each band. The fourth word is always 0; with it a set is one vector register.
type Cells = [u32; 4];

/// All cells of a band.
const BAND: u32 = (1 << 27) - 1;

/// All cells.
const ALL: Cells = [BAND, BAND, BAND, 0];

/// The first column of a band; shifted left, any other.
const COLUMNS: u32 = 1 | 1 << 9 | 1 << 18;

/// The first box of a band; shifted left by three or six, another.
const BOX: u32 = 0b111 | 0b111 << 9 | 0b111 << 18;

/// What a 3x3 matrix of bits (3 bits a line) says about the permutations inside of it; all 0 if there is none.
#[derive(Clone, Copy)]
struct Matrix {
    /// Entries that are part of a permutation.
    possible: u16,
    /// Entries that are part of every permutation.
    certain: u16,
    /// `possible` with each entry, a minirow, spread to its three cells.
    minirows: u32,
}

/// By the bits of the matrix.
const MATRICES: [Matrix; 512] = matrices();

/// `possible` and `certain` of [`MATRICES`] with line `n` moved to bit `9 * n`.
const LINES: [[u32; 2]; 512] = lines();

/// For each cell of a band: the cells of the band that a digit may take if it stands there.
const KEEP: [u32; 27] = keep();

const fn matrices() -> [Matrix; 512] {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut table = [Matrix { possible: 0, certain: 0, minirows: 0 }; 512];
    let mut index = 0;
    while index < 512 {
        let (mut possible, mut certain) = (0u16, 511u16);
        let mut i = 0;
        while i < 6 {
            let order = orders[i];
            let permutation = 1 << order[0] | 1 << (3 + order[1]) | 1 << (6 + order[2]);
            if index as u16 & permutation == permutation {
                possible |= permutation;
                certain &= permutation;
            }
            i += 1;
        }
        let mut minirows = 0;
        let mut entry = 0;
        while entry < 9 {
            minirows |= ((possible as u32 >> entry & 1) * 0b111) << (3 * entry);
            entry += 1;
        }
        table[index] = Matrix { possible, certain: certain & possible, minirows };
        index += 1;
    }
    table
}

const fn lines() -> [[u32; 2]; 512] {
    let mut table = [[0; 2]; 512];
    let mut index = 0;
    while index < 512 {
        let Matrix { possible, certain, .. } = MATRICES[index];
        table[index] = [spread(possible as u32), spread(certain as u32)];
        index += 1;
    }
    table
}

const fn spread(matrix: u32) -> u32 {
    matrix & 7 | (matrix & 7 << 3) << 6 | (matrix & 7 << 6) << 12
}

/// The opposite of [`spread`], other bits left out.
const fn gather(lines: u32) -> usize {
    let lines = lines & BOX;
    ((lines | lines >> 6 | lines >> 12) & 511) as usize
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
    /// Candidates by digit.
    cand: [Cells; 9],
    /// The candidates that the last propagation left; digits that differ are to be looked at.
    seen: [Cells; 9],
    /// Cells whose digit has not been taken from their peers yet.
    open: Cells,
    /// For each digit the minirows and minicolumns where it may stand, see [`Minis`].
    possible: [Minis; 9],
    /// Those where it must stand.
    certain: [Minis; 9],
}

/// A set of minirows and minicolumns (three cells of one row or column in one box): bit `9 * band + 3 * row + stack` for
/// the minirow in row `row` of the band, bit `32 + 9 * band + column` for the minicolumn in that column.
type Minis = u64;

/// All minirows and minicolumns.
const MINIS: Minis = BAND as u64 | (BAND as u64) << 32;

/// Searches a board of 81 cells; `except` names a cell and the value that it must not have.
pub(super) fn search(cells: &[u8], except: Option<(usize, u8)>, run: &mut Run<'_>) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("popcnt")
    {
        // SAFETY: the machine has the features that the function is compiled for.
        return unsafe { search_x86(cells, except, run) };
    }
    search_anywhere(cells, except, run);
}

/// The same code as elsewhere, compiled for machines that count bits in one instruction: a third faster.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn search_x86(cells: &[u8], except: Option<(usize, u8)>, run: &mut Run<'_>) {
    search_anywhere(cells, except, run);
}

#[inline(always)]
fn search_anywhere(cells: &[u8], except: Option<(usize, u8)>, run: &mut Run<'_>) {
    let mut state =
        State { cand: [ALL; 9], seen: [[0; 4]; 9], open: ALL, possible: [MINIS; 9], certain: [0; 9] };
    for (cell, &value) in cells.iter().enumerate() {
        if value != 0 {
            state.place(usize::from(value - 1), cell / 27, cell % 27);
        }
    }
    if let Some((cell, value)) = except {
        state.cand[usize::from(value - 1)][cell / 27] &= !(1 << (cell % 27));
    }
    if !run.enter() {
        return;
    }
    // What is still to be tried: the other sides of the guesses.
    let mut waiting: Vec<State> = Vec::new();
    loop {
        if let Some(pairs) = state.propagate() {
            match state.choose(pairs) {
                None => run.found(|| state.solution()),
                Some(guess) => {
                    let (digit, band, cell) = match run.preference {
                        None => guess,
                        Some(preference) => state.preferred(guess, preference),
                    };
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
fn peers_in(cells: &Cells, band: usize, cell: usize) -> u32 {
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

    /// Locked candidates, singles and full minirows until nothing changes. The open cells with two candidates, or `None` on a
    /// contradiction.
    #[inline(always)]
    fn propagate(&mut self) -> Option<Cells> {
        loop {
            let mut changed = false;
            for digit in 0..9 {
                while self.cand[digit] != self.seen[digit] {
                    changed = true;
                    if !self.settle_digit(digit) {
                        return None;
                    }
                }
            }
            if changed {
                continue;
            }
            let (placed, pairs) = self.naked_singles()?;
            if !placed && !self.full_minis()? {
                return Some(pairs);
            }
        }
    }

    #[inline(always)]
    fn settle_digit(&mut self, digit: usize) -> bool {
        let mut words = self.cand[digit];
        let (mut possible, mut certain);
        loop {
            // Rows and boxes: in each band the three rows take the three boxes in some order. Bit 9 * row + box of `any`: the
            // minirow has a candidate.
            let any = words.map(|word| {
                let any = word | word >> 1 | word >> 2;
                any & COLUMNS | any >> 2 & COLUMNS << 1 | any >> 4 & COLUMNS << 2
            });
            (possible, certain) = (0u64, 0u64);
            for band in 0..3 {
                let matrix = MATRICES[gather(any[band])];
                words[band] &= matrix.minirows;
                possible |= u64::from(matrix.possible) << (9 * band);
                certain |= u64::from(matrix.certain) << (9 * band);
            }
            if words[0] == 0 || words[1] == 0 || words[2] == 0 {
                return false;
            }
            // Columns: in each stack the three bands take the three columns in some order.
            let columns = words.map(|word| (word | word >> 9 | word >> 18) & 511);
            let columns = columns[0] | columns[1] << 9 | columns[2] << 18;
            let (mut keep, mut sure) = (0, 0);
            for shift in [0, 3, 6] {
                let [allowed, must] = LINES[gather(columns >> shift)];
                if allowed == 0 {
                    return false;
                }
                keep |= allowed << shift;
                sure |= must << shift;
            }
            possible |= u64::from(keep) << 32;
            certain |= u64::from(sure) << 32;
            if keep == columns {
                break;
            }
            // The columns took something: the rows must be looked at again.
            for (band, word) in words[..3].iter_mut().enumerate() {
                *word &= (keep >> (9 * band) & 511) * COLUMNS;
            }
        }
        self.possible[digit] = possible;
        self.certain[digit] = certain;
        self.seen[digit] = words;
        // Rows with one candidate: the digit stands there, and no other digit does.
        let mut placed = [0; 4];
        for shift in [0, 9, 18] {
            for (placed, word) in placed.iter_mut().zip(words) {
                let row = word & 511 << shift;
                *placed |= if row & row.wrapping_sub(1) == 0 { row } else { 0 };
            }
        }
        for (placed, open) in placed.iter_mut().zip(&mut self.open) {
            *placed &= *open;
            *open ^= *placed;
        }
        if placed != [0; 4] {
            for other in &mut self.cand {
                for (word, placed) in other.iter_mut().zip(placed) {
                    *word &= !placed;
                }
            }
        }
        self.cand[digit] = words;
        true
    }

    /// Places digits in cells that have one candidate: whether there were any, and the open cells with two. `None` if a cell has
    /// none.
    #[inline(always)]
    fn naked_singles(&mut self) -> Option<(bool, Cells)> {
        let (mut once, mut twice, mut thrice) = ([0; 4], [0; 4], [0; 4]);
        for words in &self.cand {
            for band in 0..4 {
                thrice[band] |= twice[band] & words[band];
                twice[band] |= once[band] & words[band];
                once[band] |= words[band];
            }
        }
        if once != ALL {
            return None;
        }
        let mut any = false;
        for band in 0..3 {
            let mut singles = once[band] & !twice[band] & self.open[band];
            while singles != 0 {
                let cell = singles.trailing_zeros() as usize;
                singles &= singles - 1;
                any = true;
                let digit = (0..9).find(|&d| self.cand[d][band] & 1 << cell != 0)?;
                self.place(digit, band, cell);
            }
        }
        Some((any, std::array::from_fn(|band| twice[band] & !thrice[band] & self.open[band])))
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
                    let (band, column) = ((mini - 32) / 9, (mini - 32) % 9);
                    self.cand[digit][band] &= !(COLUMNS << column);
                }
            }
            while enter != 0 {
                let mini = enter.trailing_zeros() as usize;
                enter &= enter - 1;
                if mini < 32 {
                    self.cand[digit][mini / 9] &= KEEP[3 * (mini % 9)] | 0b111 << (3 * (mini % 9));
                } else {
                    let (band, column) = ((mini - 32) / 9, (mini - 32) % 9);
                    let (cells, in_box) = (COLUMNS << column, BOX << (column / 3 * 3));
                    for other in 0..3 {
                        let kept = if other == band { !in_box | cells } else { !cells };
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
    fn choose(&self, pairs: Cells) -> Option<(usize, usize, usize)> {
        if self.open == [0; 4] {
            return None;
        }
        if let Some(best) = self.best_pair(pairs) {
            return Some(best);
        }
        for (digit, words) in self.cand.iter().enumerate() {
            for (band, &word) in words[..3].iter().enumerate() {
                for shift in [0, 9, 18] {
                    let row = word & 511 << shift & self.open[band];
                    if row.count_ones() == 2 {
                        return Some((digit, band, row.trailing_zeros() as usize));
                    }
                }
            }
        }
        // Neither a cell nor a row with two possibilities: the first open cell.
        let band = (0..3).find(|&band| self.open[band] != 0)?;
        let cell = self.open[band].trailing_zeros() as usize;
        (0..9).find(|&d| self.cand[d][band] & 1 << cell != 0).map(|d| (d, band, cell))
    }

    /// Of the possibilities that a guess is between, the most preferred: another digit for the cell, or another place in the
    /// row where the cell has more than two candidates but the digit has two places.
    fn preferred(
        &self,
        (digit, band, cell): (usize, usize, usize),
        preference: &dyn Fn(usize, u8) -> f32,
    ) -> (usize, usize, usize) {
        let weight =
            |&(digit, band, cell): &(usize, usize, usize)| preference(27 * band + cell, digit as u8 + 1);
        let row = self.cand[digit][band] & 511 << (cell / 9 * 9) & self.open[band];
        let candidates = (0..9).filter(|&d| self.cand[d][band] & 1 << cell != 0);
        let mut options: Vec<(usize, usize, usize)> = match (candidates.clone().count(), row.count_ones()) {
            (3.., 2) => (0..27).filter(|c| row & 1 << c != 0).map(|c| (digit, band, c)).collect(),
            _ => candidates.map(|d| (d, band, cell)).collect(),
        };
        // A stable order: of equal ones the first, so that the result does not depend on how sorting is done.
        options.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        options.first().copied().unwrap_or((digit, band, cell))
    }

    /// Of the cells with two candidates, the one whose digits can stand in the most other cells among its peers, those with
    /// two candidates counted three times: whichever way the guess goes, they lose a candidate. The score is the product
    /// over both digits, so that neither way is left weak.
    #[inline(always)]
    fn best_pair(&self, pairs: Cells) -> Option<(usize, usize, usize)> {
        let mut scores = [[1u32; 27]; 3];
        let mut best = None;
        let mut best_score = 0;
        for (digit, words) in self.cand.iter().enumerate() {
            let hits: Cells = std::array::from_fn(|band| words[band] & pairs[band]);
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
