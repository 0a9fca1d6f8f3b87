//! Grids on the square canvas of a model, 30 x 30 in the original: colours become tokens 2 to 11, a line of end tokens stands
//! right and below. A row of tokens tells its canvas by its length.

use crate::grid::Grid;

/// Rows and columns of the original's canvas, and of the largest grids.
pub const CANVAS: usize = 30;

/// Tokens of an example on the original's canvas.
pub const SEQ_LEN: usize = CANVAS * CANVAS;

/// Number of tokens: padding 0, end 1, colours 2 to 11.
pub const VOCAB_SIZE: usize = 12;

const END: u8 = 1;
const FIRST_COLOUR: u8 = 2;

/// The rows and columns of the canvas with this many tokens; `None` if there is none.
pub const fn side_of(tokens: usize) -> Option<usize> {
    let side = tokens.isqrt();
    if side > 0 && side <= CANVAS && side * side == tokens { Some(side) } else { None }
}

/// Writes a grid of colours onto a canvas with its corner at `offset` = (row, column). `out` is `[canvas * canvas]`; what does
/// not fit the canvas is cut off.
pub fn encode<T: From<u8>>(grid: &Grid, offset: (usize, usize), out: &mut [T]) {
    let (bottom, right) = (offset.0.saturating_add(grid.rows()), offset.1.saturating_add(grid.cols()));
    let canvas = side_of(out.len()).unwrap_or(CANVAS);
    for (row, line) in out.chunks_exact_mut(canvas).enumerate() {
        for (col, slot) in line.iter_mut().enumerate() {
            let inside = (offset.0..bottom).contains(&row) && (offset.1..right).contains(&col);
            let token = if inside {
                FIRST_COLOUR + grid.get(row - offset.0, col - offset.1).unwrap_or(0)
            } else if (row == bottom && (offset.1..right).contains(&col))
                || (col == right && (offset.0..bottom).contains(&row))
            {
                END
            } else {
                0
            };
            *slot = T::from(token);
        }
    }
}

/// The reference's reading of a canvas: the largest rectangle from the first cell that holds colours only, as colours. Of
/// rectangles of the same area the one with the fewest rows. Empty if the first cell is no colour, or `tokens` is no canvas.
pub fn crop<T: Copy + Into<i64>>(tokens: &[T]) -> Grid {
    let Some(canvas) = side_of(tokens.len()) else { return Grid::default() };
    let colour = |row: usize, col: usize| {
        let token: i64 = tokens[row * canvas + col].into();
        (2..=11).contains(&token).then(|| token as u8 - FIRST_COLOUR)
    };
    let mut width = canvas;
    let (mut rows, mut cols) = (0, 0);
    for row in 0..canvas {
        width = (0..width).find(|&col| colour(row, col).is_none()).unwrap_or(width);
        if (row + 1) * width > rows * cols {
            (rows, cols) = (row + 1, width);
        }
    }
    let cells = (0..rows).flat_map(|row| (0..cols).map(move |col| colour(row, col).unwrap_or(0))).collect();
    Grid::new(rows, cols, cells).unwrap_or_default()
}

/// The grid of an encoded example wherever it stands on the canvas, and its offset; `None` if there is no colour. For
/// display: predictions are read with [`crop`].
pub fn decode<T: Copy + Into<i64>>(tokens: &[T]) -> Option<(Grid, (usize, usize))> {
    let canvas = side_of(tokens.len())?;
    let colour = |row: usize, col: usize| {
        let token: i64 = tokens[row * canvas + col].into();
        (row < canvas && col < canvas && (2..=11).contains(&token)).then(|| token as u8 - FIRST_COLOUR)
    };
    let first = (0..tokens.len()).find(|&i| colour(i / canvas, i % canvas).is_some())?;
    let (top, left) = (first / canvas, first % canvas);
    let cols = (left..canvas).take_while(|&col| colour(top, col).is_some()).count();
    let full = |row: usize| (left..left + cols).all(|col| colour(row, col).is_some());
    let rows = (top..canvas).take_while(|&row| full(row)).count();
    let cell = |row: usize| (left..left + cols).map(move |col| colour(row, col).unwrap_or(0));
    let cells = (top..top + rows).flat_map(cell).collect();
    Some((Grid::new(rows, cols, cells)?, (top, left)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdata::{flat, parity_json};
    use proptest::prelude::*;

    pub(crate) fn grid(value: &serde_json::Value) -> Grid {
        let rows: Vec<Vec<u8>> = value.as_array().unwrap().iter().map(flat).collect();
        Grid::new(rows.len(), rows[0].len(), rows.concat()).unwrap()
    }

    #[test]
    fn encoding_is_that_of_the_reference() {
        let Some(vectors) = parity_json() else { return };
        let cases = vectors["arc_encoding"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let pad: Vec<usize> = flat(&case["pad"]);
            let offset = if pad.is_empty() { (0, 0) } else { (pad[0], pad[1]) };
            for (side, tokens) in [("input", "seq_input"), ("output", "seq_output")] {
                let grid = grid(&case[side]);
                let mut out = vec![99u8; SEQ_LEN];
                encode(&grid, offset, &mut out);
                assert_eq!(out, flat::<u8>(&case[tokens]));
                assert_eq!(decode(&out), Some((grid.clone(), offset)));
                if offset == (0, 0) {
                    assert_eq!(crop(&out), grid);
                }
            }
        }
    }

    #[test]
    fn cropping_is_that_of_the_reference() {
        let Some(vectors) = parity_json() else { return };
        let cases = vectors["crop"].as_array().unwrap();
        assert_eq!(cases.len(), 13);
        for case in cases {
            let cropped = crop(&flat::<i64>(&case["seq"]));
            let shape: Vec<usize> = flat(&case["out_shape"]);
            assert_eq!([cropped.rows(), cropped.cols()], shape[..], "{}", case["name"]);
            assert_eq!(cropped.cells(), flat::<u8>(&case["out"]), "{}", case["name"]);
        }
        assert!(crop(&[2u8; 5]).is_empty());
        assert_eq!(crop(&[2u8; 4]).rows(), 2);
    }

    proptest! {
        #[test]
        fn any_canvas_is_read(seed in any::<u64>(), colours in 1u32..13) {
            let mut rng = crate::random::stream(seed, crate::random::Purpose::Other, 0, 0);
            let tokens: Vec<u8> = (0..SEQ_LEN).map(|_| crate::random::below(&mut rng, colours) as u8).collect();
            let _ = (crop(&tokens), decode(&tokens));
        }
    }
}
