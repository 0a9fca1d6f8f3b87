//! What solved boards share that are images of each other, at a thousandth of the price of a canonical form.

use super::board::Board;
use super::canonical::mix;

/// A number that is the same for all images of a solved board under the symmetries of Sudoku, and as good as never the same
/// for boards that are no images of each other.
///
/// Two rows are a permutation of the values: what stands above goes to what stands below. Relabelling and exchanging columns
/// leave the lengths of its cycles as they are. The number hashes these for all pairs of rows (apart: pairs of one band) and of
/// columns, whatever their order.
pub(super) fn of_grid(grid: &Board) -> u64 {
    let (side, geometry) = (grid.side(), grid.geometry());
    let value = |row: usize, col: usize| usize::from(grid.cells()[row * side + col]);
    let rows = pairs(side, geometry.box_rows(), value);
    let cols = pairs(side, geometry.box_cols(), |col, row| value(row, col));
    // A transposed board has the same number.
    mix(rows).wrapping_add(mix(cols))
}

fn pairs(side: usize, band: usize, value: impl Fn(usize, usize) -> usize) -> u64 {
    let mut hash = 0u64;
    let mut image = vec![0; side + 1];
    for one in 0..side {
        for other in one + 1..side {
            (0..side).for_each(|place| image[value(one, place)] = value(other, place));
            let mut seen = vec![false; side + 1];
            let mut cycles = 0u64;
            for start in 1..=side {
                let (mut at, mut length) = (start, 0u64);
                while !std::mem::replace(&mut seen[at], true) {
                    at = image[at];
                    length += 1;
                }
                cycles = cycles.wrapping_add(mix(length));
            }
            hash = hash.wrapping_add(mix(cycles ^ u64::from(one / band == other / band)));
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::puzzles::sudoku::{Geometry, Symmetry, generator::full_grid};
    use crate::random::{Purpose, stream};

    #[test]
    fn images_share_it_and_others_do_not() {
        for geometry in [Geometry::S9, Geometry::S16, Geometry::new(3, 4).unwrap()] {
            let number = if geometry.side() == 9 { 200 } else { 5 };
            let mut found = HashSet::new();
            for seed in 0..number {
                let grid = full_grid(geometry, seed);
                let mut rng = stream(1, Purpose::Other, seed, 0);
                let image = Symmetry::random(geometry, &mut rng).apply(&grid);
                assert_ne!(image, grid);
                assert_eq!(of_grid(&image), of_grid(&grid), "{geometry}");
                found.insert(of_grid(&grid));
            }
            assert_eq!(found.len() as u64, number, "{geometry}: different boards");
        }
    }
}
