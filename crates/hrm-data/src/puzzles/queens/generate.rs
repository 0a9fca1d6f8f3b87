//! Making boards of queens with one completion.

use super::{Placement, Queens, safe};
use crate::random::{self, Purpose, stream};

impl Queens {
    /// A puzzle with exactly one completion, from which no queen can be taken away, and its solution: a pure function of seed
    /// and number.
    pub fn make(&self, seed: u64, index: u64) -> (Placement, Placement) {
        let mut rng = stream(seed, Purpose::Generate, index, 3);
        let mut solution = vec![None; self.side];
        // A random order of columns in each row, until a board is found within a budget of nodes.
        loop {
            let orders: Vec<Vec<u32>> =
                (0..self.side).map(|_| random::permutation(&mut rng, self.side)).collect();
            solution.fill(None);
            if place(&mut solution, 0, &orders, &mut 10_000) {
                break;
            }
        }
        let mut puzzle = solution.clone();
        for row in random::permutation(&mut rng, self.side) {
            let queen = puzzle[row as usize].take();
            if self.completions(&puzzle, 2) != 1 {
                puzzle[row as usize] = queen;
            }
        }
        (puzzle, solution)
    }
}

fn place(board: &mut Placement, row: usize, orders: &[Vec<u32>], budget: &mut u32) -> bool {
    let Some(order) = orders.get(row) else { return true };
    for &col in order {
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        if safe(board, row, col as u8) {
            board[row] = Some(col as u8);
            if place(board, row + 1, orders, budget) {
                return true;
            }
            board[row] = None;
        }
    }
    false
}
