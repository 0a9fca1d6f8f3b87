//! The groups of cells of a Sudoku.

use super::Geometry;
use crate::groups::{Kind, by_number};

/// Lines (rows and columns), boxes, and the parts that a box shares with a line. Rows and columns are of one kind, so that transposition is a
/// symmetry of a model that mixes by them. Whether all places of a digit in a box lie in one line can be told from the parts alone.
pub fn group_kinds(geometry: Geometry) -> Vec<Kind> {
    let (side, high, wide) = (geometry.side(), geometry.box_rows(), geometry.box_cols());
    let by = |number: &dyn Fn(usize, usize) -> usize| by_number((side, side), number);
    let kind = |name, groups: &[Vec<Vec<u32>>]| Kind { name, groups: groups.concat(), own: false };
    vec![
        kind("line", &[by(&|r, _| r), by(&|_, c| c)]),
        kind("box", &[by(&|r, c| r / high * side + c / wide)]),
        kind("part", &[by(&|r, c| r * side + c / wide), by(&|r, c| c * side + r / high)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_the_board() {
        for (high, wide) in [(2, 2), (2, 3), (3, 3), (4, 4), (5, 5)] {
            let geometry = Geometry::new(high, wide).unwrap();
            let side = geometry.side();
            let [lines, boxes, parts] = group_kinds(geometry).try_into().unwrap();
            for (kind, times) in [(&lines, 2), (&boxes, 1), (&parts, 2)] {
                let mut counts = vec![0; side * side];
                kind.groups.concat().into_iter().for_each(|cell| counts[cell as usize] += 1);
                assert!(counts.iter().all(|&count| count == times), "{} of {high}x{wide}", kind.name);
            }
            assert!(lines.groups.iter().chain(&boxes.groups).all(|group| group.len() == side));
            let (of_rows, of_columns) = parts.groups.split_at(side * high);
            assert!(
                of_rows.iter().all(|part| part.len() == wide)
                    && of_columns.iter().all(|part| part.len() == high)
            );
        }
        let [_, _, parts] = group_kinds(Geometry::S9).try_into().unwrap();
        assert_eq!((&parts.groups[4], &parts.groups[27]), (&vec![12, 13, 14], &vec![0, 9, 18]));
    }
}
