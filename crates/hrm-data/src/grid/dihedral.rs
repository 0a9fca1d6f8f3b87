//! The dihedral group of the square, numbered as in the reference (`dihedral_transform`).

use rand::Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Grid;
use crate::random;

/// One of the eight symmetries of the square.
///
/// | id | image | inverse |
/// |---|---|---|
/// | 0 | the grid itself | 0 |
/// | 1 | turned 90 degrees counter-clockwise | 3 |
/// | 2 | turned 180 degrees | 2 |
/// | 3 | turned 270 degrees counter-clockwise | 1 |
/// | 4 | mirrored left to right | 4 |
/// | 5 | mirrored top to bottom | 5 |
/// | 6 | transposed | 6 |
/// | 7 | transposed along the other diagonal | 7 |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Dihedral(u8);

/// A number that names no symmetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a symmetry of the square from 0 to 7, got {got}")]
pub struct NoSuchSymmetry {
    /// The number.
    pub got: u8,
}

/// Where a cell of the image comes from: (rows and columns swapped, row mirrored, column mirrored).
const PARTS: [(bool, bool, bool); 8] = [
    (false, false, false),
    (true, false, true),
    (false, true, true),
    (true, true, false),
    (false, false, true),
    (false, true, false),
    (true, false, false),
    (true, true, true),
];

impl TryFrom<u8> for Dihedral {
    type Error = NoSuchSymmetry;

    fn try_from(got: u8) -> Result<Self, NoSuchSymmetry> {
        if got < 8 { Ok(Self(got)) } else { Err(NoSuchSymmetry { got }) }
    }
}

impl From<Dihedral> for u8 {
    fn from(symmetry: Dihedral) -> u8 {
        symmetry.0
    }
}

impl Dihedral {
    /// The symmetry that changes nothing.
    pub const IDENTITY: Self = Self(0);

    /// All eight, in the order of their numbers.
    pub const ALL: [Self; 8] = [Self(0), Self(1), Self(2), Self(3), Self(4), Self(5), Self(6), Self(7)];

    /// Those that map every rectangle onto itself: the identity, the half turn and the two mirrors.
    pub const OF_RECTANGLE: [Self; 4] = [Self(0), Self(2), Self(4), Self(5)];

    /// The number of this symmetry.
    pub const fn id(self) -> u8 {
        self.0
    }

    /// Whether rows and columns change places.
    pub const fn transposes(self) -> bool {
        PARTS[self.0 as usize].0
    }

    /// A random symmetry of a grid that maps it onto a grid of the same shape: one of eight for a square, of four for
    /// other rectangles.
    pub fn random<R: Rng + ?Sized>(rows: usize, cols: usize, rng: &mut R) -> Self {
        match rows == cols {
            true => Self::ALL[random::below(rng, 8) as usize],
            false => Self::OF_RECTANGLE[random::below(rng, 4) as usize],
        }
    }

    /// The symmetry that undoes this one.
    #[must_use]
    pub const fn inverse(self) -> Self {
        match self.0 {
            1 => Self(3),
            3 => Self(1),
            _ => self,
        }
    }

    /// Rows and columns of the image of a grid of `rows` x `cols`.
    pub const fn shape(self, rows: usize, cols: usize) -> (usize, usize) {
        if self.transposes() { (cols, rows) } else { (rows, cols) }
    }

    /// The cell of a grid of `rows` x `cols` that comes to stand at (`row`, `col`) of the image.
    #[inline]
    const fn source(self, (rows, cols): (usize, usize), row: usize, col: usize) -> (usize, usize) {
        let (swap, mirror_row, mirror_col) = PARTS[self.0 as usize];
        let (r, c) = if swap { (col, row) } else { (row, col) };
        (if mirror_row { rows - 1 - r } else { r }, if mirror_col { cols - 1 - c } else { c })
    }

    /// The image of a grid.
    #[must_use]
    pub fn apply(self, grid: &Grid) -> Grid {
        let (rows, cols) = self.shape(grid.rows(), grid.cols());
        let mut cells = vec![0; grid.cells().len()];
        self.apply_cells((grid.rows(), grid.cols()), grid.cells(), &mut cells, |t| t);
        Grid { rows, cols, cells }
    }

    /// Writes the image of `cells`, a grid of `shape` = (rows, columns), each token through `token`. Nothing is written if
    /// a length does not fit the shape.
    pub fn apply_cells<T: Copy, U>(
        self,
        shape: (usize, usize),
        cells: &[T],
        out: &mut [U],
        token: impl Fn(T) -> U,
    ) {
        let (rows, cols) = self.shape(shape.0, shape.1);
        if shape.0.checked_mul(shape.1) != Some(cells.len()) || out.len() != cells.len() || cells.is_empty() {
            return;
        }
        for (row, line) in out.chunks_exact_mut(cols).enumerate().take(rows) {
            for (col, slot) in line.iter_mut().enumerate() {
                let (r, c) = self.source(shape, row, col);
                *slot = token(cells[r * shape.1 + c]);
            }
        }
    }

    /// The place to which a cell of a grid of `rows` x `cols` goes.
    pub const fn destination(self, rows: usize, cols: usize, row: usize, col: usize) -> (usize, usize) {
        self.inverse().source(self.shape(rows, cols), row, col)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdata::{flat, parity_json};

    fn sample() -> Grid {
        Grid::new(3, 4, (0..12).collect()).unwrap()
    }

    #[test]
    fn group_laws() {
        let grid = sample();
        for a in Dihedral::ALL {
            assert_eq!(a.inverse().apply(&a.apply(&grid)), grid);
            assert_eq!(Dihedral::try_from(a.id()), Ok(a));
            assert_eq!((a.apply(&grid).rows(), a.apply(&grid).cols()), a.shape(3, 4));
            for b in Dihedral::ALL {
                let both = b.apply(&a.apply(&grid));
                assert!(Dihedral::ALL.iter().any(|c| c.apply(&grid) == both), "{a:?} then {b:?}");
            }
            for (cell, &token) in grid.cells().iter().enumerate() {
                let (row, col) = a.destination(3, 4, cell / 4, cell % 4);
                assert_eq!(a.apply(&grid).get(row, col), Some(token));
            }
        }
        assert!(Dihedral::try_from(8).is_err());
        assert!(Dihedral::OF_RECTANGLE.iter().all(|d| !d.transposes()));
        assert_eq!(Dihedral::ALL[5].apply(&Grid::default()), Grid::default());
    }

    #[test]
    fn numbers_are_those_of_the_reference() {
        let Some(vectors) = parity_json() else { return };
        let cases = vectors["dihedral_3x4"].as_array().unwrap();
        assert_eq!(cases.len(), 8);
        for case in cases {
            let id = |field: &str| Dihedral::try_from(case[field].as_u64().unwrap() as u8).unwrap();
            let (symmetry, inverse) = (id("tid"), id("inverse_tid"));
            assert_eq!(symmetry.inverse(), inverse);
            assert_eq!(symmetry.apply(&sample()).cells(), flat::<u8>(&case["out"]));
            assert_eq!(inverse.apply(&sample()).cells(), flat::<u8>(&case["inverse_transform_of_grid"]));
        }
    }
}
