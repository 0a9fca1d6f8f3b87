//! Symmetries as they act on tokens.

use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::Beliefs;
use crate::grid::Dihedral;

/// A symmetry as it acts on tokens: cells change places, and tokens change names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSymmetry {
    sources: Vec<u32>,
    tokens: Option<Box<[u8; 256]>>,
}

/// Why there is no such symmetry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SymmetryError {
    /// The places are no permutation.
    #[error("expected a permutation of {cells} cells, but cell {cell} is no cell or stands twice")]
    Places {
        /// Number of cells.
        cells: usize,
        /// The entry at fault.
        cell: u32,
    },
    /// The tokens are no permutation that keeps padding.
    #[error("expected a permutation of {tokens} tokens that keeps 0, got {got:?}")]
    Tokens {
        /// Number of tokens.
        tokens: usize,
        /// The images.
        got: Vec<u8>,
    },
}

impl TokenSymmetry {
    /// The symmetry that changes nothing.
    pub fn identity(cells: usize) -> Self {
        Self { sources: (0..cells as u32).collect(), tokens: None }
    }

    /// A random symmetry of a grid of `rows` x `cols`: turned and mirrored.
    pub fn dihedral(rows: usize, cols: usize, rng: &mut ChaCha8Rng) -> Self {
        Self::of_dihedral(rows, cols, Dihedral::random(rows, cols, rng))
    }

    /// A symmetry of the square on a grid of `rows` x `cols`.
    pub fn of_dihedral(rows: usize, cols: usize, symmetry: Dihedral) -> Self {
        let cells: Vec<u32> = (0..rows.saturating_mul(cols) as u32).collect();
        let mut sources = vec![0; cells.len()];
        symmetry.apply_cells((rows, cols), &cells, &mut sources, |cell| cell);
        Self { sources, tokens: None }
    }

    /// A symmetry from the cell that each cell of the image comes from, and the image of each token (all others stay).
    ///
    /// # Errors
    /// [`SymmetryError`] if one of the two is no permutation, or padding does not stay.
    pub fn new(sources: Vec<u32>, tokens: &[u8]) -> Result<Self, SymmetryError> {
        let cells = sources.len();
        let mut seen = vec![false; cells];
        for &cell in &sources {
            match seen.get_mut(cell as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(SymmetryError::Places { cells, cell }),
            }
        }
        let mut sorted = tokens.to_vec();
        sorted.sort_unstable();
        if tokens.first().is_some_and(|&t| t != 0)
            || sorted.iter().enumerate().any(|(i, &t)| i != usize::from(t))
        {
            return Err(SymmetryError::Tokens { tokens: tokens.len(), got: tokens.to_vec() });
        }
        if tokens.iter().enumerate().all(|(token, &image)| token == usize::from(image)) {
            return Ok(Self { sources, tokens: None });
        }
        let mut images = Box::new([0; 256]);
        for (token, image) in images.iter_mut().enumerate() {
            *image = tokens.get(token).copied().unwrap_or(token as u8);
        }
        Ok(Self { sources, tokens: Some(images) })
    }

    /// The image of a row of tokens; a row of another length stays as it is.
    pub fn apply(&self, row: &[u8]) -> Vec<u8> {
        if row.len() != self.sources.len() {
            return row.to_vec();
        }
        let token = |&source: &u32| row[source as usize];
        match &self.tokens {
            None => self.sources.iter().map(token).collect(),
            Some(images) => self.sources.iter().map(|s| images[usize::from(token(s))]).collect(),
        }
    }

    /// The symmetry that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let mut sources = vec![0; self.sources.len()];
        for (target, &source) in self.sources.iter().enumerate() {
            sources[source as usize] = target as u32;
        }
        let tokens = self.tokens.as_ref().map(|images| {
            let mut inverse = Box::new([0; 256]);
            for (token, &image) in images.iter().enumerate() {
                inverse[usize::from(image)] = token as u8;
            }
            inverse
        });
        Self { sources, tokens }
    }

    /// The image of beliefs; those about a sequence of another length stay as they are.
    pub fn apply_beliefs(&self, beliefs: &Beliefs) -> Beliefs {
        let vocab_size = beliefs.vocab_size;
        if beliefs.weights.len() != self.sources.len() * vocab_size {
            return beliefs.clone();
        }
        let image = |token: usize| self.tokens.as_ref().map_or(token, |images| usize::from(images[token]));
        let mut weights = vec![0.0; beliefs.weights.len()];
        for (target, &source) in self.sources.iter().enumerate() {
            for token in 0..vocab_size {
                weights[target * vocab_size + image(token)] =
                    beliefs.weights[source as usize * vocab_size + token];
            }
        }
        Beliefs { vocab_size, weights }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symmetries_are_checked() {
        let symmetry = TokenSymmetry::new(vec![2, 0, 1], &[0, 2, 1]).unwrap();
        assert_eq!(symmetry.apply(&[0, 1, 5]), [5, 0, 2]);
        assert_eq!(symmetry.apply(&[1]), [1]);
        assert_eq!(symmetry.inverse().apply(&[5, 0, 2]), [0, 1, 5]);
        // What is believed of a cell and a token is believed of their images.
        let beliefs = Beliefs::new(3, vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]);
        let image = symmetry.apply_beliefs(&beliefs);
        assert_eq!((image.weight(0, 2), image.weight(0, 1), image.weight(1, 0)), (0.8, 0.9, 0.1));
        assert_eq!(symmetry.inverse().apply_beliefs(&image), beliefs);
        assert_eq!((beliefs.weight(0, 3), beliefs.weight(3, 0)), (0.0, 0.0));
        assert_eq!(TokenSymmetry::identity(2).apply(&[7, 8]), [7, 8]);
        assert!(TokenSymmetry::new(vec![0, 0], &[]).is_err());
        assert!(TokenSymmetry::new(vec![0, 2], &[]).is_err());
        assert!(TokenSymmetry::new(vec![0], &[1, 0]).is_err());
        assert!(TokenSymmetry::new(vec![0], &[0, 1, 1]).is_err());
    }
}
