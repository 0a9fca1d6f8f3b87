//! Rectangular grids of small tokens, and the eight symmetries of the square that act on them.

mod dihedral;

use thiserror::Error;

pub use dihedral::Dihedral;

/// A rectangle of tokens, row by row. It may be empty (no rows and no columns).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grid {
    rows: usize,
    cols: usize,
    cells: Vec<u8>,
}

/// Why there is no such grid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GridError {
    /// The number of cells is not rows x columns.
    #[error("expected {rows} x {cols} cells, got {got}")]
    Length {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Cells given.
        got: usize,
    },
    /// Rows of different lengths.
    #[error("row {row}: expected {expected} cells as in row 1, got {got}")]
    Ragged {
        /// The row at fault, 1-based.
        row: usize,
        /// Cells of the first row.
        expected: usize,
        /// Cells of this one.
        got: usize,
    },
    /// A cell outside of the grid.
    #[error("expected a cell within {rows} x {cols}, got row {row}, column {col} (0-based)")]
    Outside {
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid.
        cols: usize,
        /// The row, 0-based.
        row: usize,
        /// The column, 0-based.
        col: usize,
    },
}

impl Grid {
    /// A grid from its cells, row by row. `[rows * cols]`
    ///
    /// # Errors
    /// [`GridError::Length`] if the number of cells is not `rows * cols`.
    pub fn new(rows: usize, cols: usize, cells: Vec<u8>) -> Result<Self, GridError> {
        match rows.checked_mul(cols) {
            Some(n) if n == cells.len() => Ok(Self { rows, cols, cells }),
            _ => Err(GridError::Length { rows, cols, got: cells.len() }),
        }
    }

    /// A grid from its rows.
    ///
    /// # Errors
    /// [`GridError::Ragged`] if the rows differ in length.
    pub fn from_rows<R: AsRef<[u8]>>(rows: &[R]) -> Result<Self, GridError> {
        let cols = rows.first().map_or(0, |row| row.as_ref().len());
        let mut cells = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let got = row.as_ref().len();
            if got != cols {
                return Err(GridError::Ragged { row: index + 1, expected: cols, got });
            }
            cells.extend_from_slice(row.as_ref());
        }
        Ok(Self { rows: rows.len(), cols, cells })
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

    /// Replaces the token of a cell.
    ///
    /// # Errors
    /// [`GridError::Outside`] if there is no such cell.
    pub fn set(&mut self, row: usize, col: usize, token: u8) -> Result<(), GridError> {
        if row >= self.rows || col >= self.cols {
            return Err(GridError::Outside { rows: self.rows, cols: self.cols, row, col });
        }
        self.cells[row * self.cols + col] = token;
        Ok(())
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
        let grid = Grid::from_rows(&[[1, 2, 3], [4, 5, 6]]).unwrap();
        assert_eq!((grid.rows(), grid.cols(), grid.get(1, 2), grid.get(2, 0)), (2, 3, Some(6), None));
        assert_eq!(Grid::new(2, 3, vec![1, 2, 3, 4, 5, 6]).unwrap(), grid);
        assert_eq!(Grid::new(2, 2, vec![1]).unwrap_err().to_string(), "expected 2 x 2 cells, got 1");
        assert!(Grid::new(usize::MAX, 2, vec![]).is_err());
        let ragged = Grid::from_rows(&[vec![1, 2], vec![3]]).unwrap_err();
        assert_eq!(ragged.to_string(), "row 2: expected 2 cells as in row 1, got 1");
        assert_eq!(grid.map(|t| t + 1).iter_rows().last(), Some([5, 6, 7].as_slice()));
        let mut grid = grid;
        grid.set(0, 1, 9).unwrap();
        assert_eq!(grid.cells(), [1, 9, 3, 4, 5, 6]);
        assert!(grid.set(0, 3, 9).is_err());
        assert!(Grid::from_rows::<[u8; 0]>(&[]).unwrap().is_empty());
    }
}
