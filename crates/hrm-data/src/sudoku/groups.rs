//! The groups of cells of a Sudoku.

use super::Geometry;
use crate::groups::Kind;

/// Rows, columns, boxes, and the parts that a box shares with a row and with a column. Whether all places of a digit in a box lie in one
/// row can be told from the parts alone.
pub fn group_kinds(geometry: Geometry) -> Vec<Kind> {
    let (side, high, wide) = (geometry.side(), geometry.box_rows(), geometry.box_cols());
    let by = |name, number: &dyn Fn(usize, usize) -> usize| Kind::by(name, (side, side), number);
    vec![
        by("row", &|r, _| r),
        by("column", &|_, c| c),
        by("box", &|r, c| r / high * side + c / wide),
        by("box and row", &|r, c| r * side + c / wide),
        by("box and column", &|r, c| c * side + r / high),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_in_one_group_of_each_kind() {
        for (high, wide) in [(2, 2), (2, 3), (3, 3), (4, 4), (5, 5)] {
            let geometry = Geometry::new(high, wide).unwrap();
            let side = geometry.side();
            let sizes = [side, side, side, wide, high];
            for (kind, size) in group_kinds(geometry).into_iter().zip(sizes) {
                let mut cells = kind.groups.concat();
                cells.sort_unstable();
                assert!(cells.iter().copied().eq(0..(side * side) as u32), "{} of {high}x{wide}", kind.name);
                assert!(
                    kind.groups.iter().all(|group| group.len() == size),
                    "{} of {high}x{wide}",
                    kind.name
                );
            }
        }
        let parts = &group_kinds(Geometry::S9)[3].groups;
        assert_eq!((parts.len(), &parts[4]), (27, &vec![12, 13, 14]));
    }
}
