//! Killer Sudoku as text.

use std::fmt::{self, Write};
use std::str::FromStr;

use super::{Cage, Killer, KillerError, regions, touch};
use crate::puzzles::sudoku::Geometry;

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";

impl Killer {
    /// The text form on one line: the letters, a semicolon, the sums.
    pub fn to_line(&self) -> String {
        let mut line = String::new();
        // Writing to a String cannot fail.
        let _ = write(self, &mut line, "");
        line
    }

    /// A small number for each cage, so that cages that touch have different ones. `[cages]`
    pub(crate) fn colours(&self) -> Vec<u8> {
        let mut colours: Vec<u8> = Vec::with_capacity(self.cages.len());
        for (index, cage) in self.cages.iter().enumerate() {
            let touches = |other: &Cage| {
                other.cells.iter().any(|&a| cage.cells.iter().any(|&b| touch(self.geometry.side(), a, b)))
            };
            let taken: Vec<u8> =
                (0..index).filter(|&other| touches(&self.cages[other])).map(|i| colours[i]).collect();
            colours.push((0..=u8::MAX).find(|colour| !taken.contains(colour)).unwrap_or(0));
        }
        colours
    }
}

/// The letters, `row_end` after each row, a semicolon if that is nothing, and the sums.
pub(super) fn write(killer: &Killer, out: &mut impl Write, row_end: &str) -> fmt::Result {
    let colours = killer.colours();
    for (cell, &cage) in killer.cage_of.iter().enumerate() {
        if cell > 0 && cell.is_multiple_of(killer.geometry.side()) {
            out.write_str(row_end)?;
        }
        let letter = LETTERS.get(usize::from(colours[usize::from(cage)])).copied().unwrap_or(b'Z');
        out.write_char(char::from(letter))?;
    }
    out.write_str(if row_end.is_empty() { ";" } else { row_end })?;
    for (index, cage) in killer.cages.iter().enumerate() {
        write!(out, "{}{}", if index > 0 { " " } else { "" }, cage.sum)?;
    }
    Ok(())
}

impl FromStr for Killer {
    type Err = KillerError;

    fn from_str(text: &str) -> Result<Self, KillerError> {
        let mut letters = Vec::new();
        let mut sums: Vec<u32> = Vec::new();
        // Whether the last character was a digit: the next one belongs to the same sum.
        let mut in_sum;
        for (line, characters) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            in_sum = false;
            for (column, character) in characters.chars().enumerate() {
                let fail = |expected| {
                    let (line, column) = (line + 1, column + 1);
                    Err(KillerError::Character { line, column, expected, got: character.to_string() })
                };
                match character {
                    'a'..='z' | 'A'..='Z' if !sums.is_empty() => {
                        return fail("only sums after the first sum");
                    }
                    'a'..='z' | 'A'..='Z' => letters.push(character),
                    '0'..='9' => {
                        let digit = u32::from(character) - u32::from('0');
                        match sums.last_mut().filter(|_| in_sum) {
                            // More digits than any sum has: it stays too large, and is refused below.
                            Some(sum) => *sum = sum.saturating_mul(10).saturating_add(digit),
                            None => sums.push(digit),
                        }
                        in_sum = true;
                        continue;
                    }
                    c if c.is_whitespace() || matches!(c, ',' | ';') => {}
                    _ => return fail("a letter for a cell, digits of a sum, or a separator (space , ;)"),
                }
                in_sum = false;
            }
        }
        let geometry = Geometry::from_cells(letters.len())
            .filter(|geometry| geometry.side() <= super::MAX_SIDE)
            .ok_or(KillerError::Cells { got: letters.len() })?;
        let cells: Vec<usize> = (0..letters.len()).collect();
        let regions = regions(geometry.side(), &cells, |a, b| letters[a] == letters[b]);
        if regions.len() != sums.len() {
            return Err(KillerError::Sums { expected: regions.len(), got: sums.len() });
        }
        let cages = regions.into_iter().zip(sums).map(|(cells, sum)| Cage { cells, sum }).collect();
        Self::new(geometry, cages)
    }
}
