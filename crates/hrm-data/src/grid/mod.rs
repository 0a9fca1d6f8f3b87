//! Rectangular grids of small tokens, and the eight symmetries of the square that act on them.

mod dihedral;

pub use dihedral::Dihedral;

/// A rectangle of tokens, row by row. It may be empty (no rows and no columns).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grid {
    rows: usize,
    cols: usize,
    cells: Vec<u8>,
}

impl Grid {
    /// A grid from its cells, row by row; none if their number is not `rows * cols`. `[rows * cols]`
    pub fn new(rows: usize, cols: usize, cells: Vec<u8>) -> Option<Self> {
        (rows.checked_mul(cols) == Some(cells.len())).then_some(Self { rows, cols, cells })
    }

    /// Number of rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The cells, row by row. `[rows * cols]`
    pub fn cells(&self) -> &[u8] {
        &self.cells
    }

    /// Whether there are no cells.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The token of a cell; `None` outside of the grid.
    pub fn get(&self, row: usize, col: usize) -> Option<u8> {
        (row < self.rows && col < self.cols).then(|| self.cells[row * self.cols + col])
    }

    /// The rows, top to bottom.
    pub fn iter_rows(&self) -> impl Iterator<Item = &[u8]> {
        self.cells.chunks_exact(self.cols.max(1))
    }

    /// The grid with every token replaced by its image.
    #[must_use]
    pub fn map(&self, image: impl FnMut(u8) -> u8) -> Self {
        Self { rows: self.rows, cols: self.cols, cells: self.cells.iter().copied().map(image).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn construction_is_checked() {
        let grid = Grid::new(2, 3, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!((grid.rows(), grid.cols(), grid.get(1, 2), grid.get(2, 0)), (2, 3, Some(6), None));
        assert_eq!(Grid::new(2, 2, vec![1]), None);
        assert_eq!(Grid::new(usize::MAX, 2, vec![]), None);
        assert_eq!(grid.map(|t| t + 1).iter_rows().last(), Some([5, 6, 7].as_slice()));
        assert!(Grid::new(0, 0, vec![]).unwrap().is_empty());
    }
}
