//! Reading boards in the usual text notations.

use super::board::{Board, BoardError, Geometry, MAX_SIDE};

/// How values are written. Separators (`|`, `+`, `,`, `;`, spaces, line ends, box-drawing characters and lines made
/// only of `-`, `=`, `+` and `|`) may stand anywhere; `.`, `_`, `*` and `-` are blanks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notation {
    /// Finds out: [`Notation::Decimal`] if the text is separated numbers, some of two digits; [`Notation::HexFromZero`]
    /// if a 16x16 board uses `0` beside another blank and no `G`; otherwise [`Notation::Letters`].
    #[default]
    Auto,
    /// One character a cell: `1`-`9`, then `A` = 10, `B` = 11, ... `G` = 16, ... `P` = 25, in either case; `0` is blank.
    Letters,
    /// One character a cell: `0`-`9`, `A`-`F` stand for 1 to 16. `0` is a value, not a blank.
    HexFromZero,
    /// Decimal numbers with separators between them; 0 is blank.
    Decimal,
}

/// One cell's text and where it stood.
struct Piece<'a> {
    text: &'a str,
    line: usize,
    column: usize,
}

impl Piece<'_> {
    fn first(&self) -> char {
        self.text.chars().next().unwrap_or(' ')
    }

    fn unexpected(&self, expected: String) -> BoardError {
        BoardError::Character { character: self.first(), line: self.line, column: self.column, expected }
    }
}

pub(super) fn parse(text: &str, notation: Notation, geometry: Option<Geometry>) -> Result<Board, BoardError> {
    let text = text.trim_start_matches('\u{feff}');
    let fits = |count: usize| match geometry {
        Some(g) => (g.cells() == count).then_some(g),
        None => Geometry::from_cells(count),
    };
    if matches!(notation, Notation::Auto | Notation::Decimal) {
        let tokens = tokens(text);
        let decimal = notation == Notation::Decimal || looks_decimal(&tokens);
        if decimal {
            if let Some(g) = fits(tokens.len()) {
                return from_numbers(&tokens, g);
            }
            if notation == Notation::Decimal || tokens.len() > 16 {
                return Err(wrong_length(tokens.len(), geometry));
            }
        }
    }
    let dashes_separate = characters(text, true)?;
    let pieces = match fits(dashes_separate.len()) {
        Some(_) => dashes_separate,
        None => {
            // A row of blanks may be written `---------`: take such lines for rows if that gives a legal size.
            let dashes_blank = characters(text, false)?;
            if fits(dashes_blank.len()).is_some() { dashes_blank } else { dashes_separate }
        }
    };
    match fits(pieces.len()) {
        Some(g) => from_characters(&pieces, g, notation),
        None => Err(wrong_length(pieces.len(), geometry)),
    }
}

fn wrong_length(got: usize, geometry: Option<Geometry>) -> BoardError {
    let expected = match geometry {
        Some(g) => format!("{} ({g})", g.cells()),
        None => match Geometry::from_side(got.isqrt().max(1)) {
            // Close to a legal size: most likely that size with a few cells missing or too many.
            Ok(g) if got.abs_diff(g.cells()) <= g.side() => {
                format!("{} ({g}) or another legal size (16, 36, 81, 256, 625, ...)", g.cells())
            }
            _ => match Geometry::from_side(got.isqrt() + 1) {
                Ok(g) if got.abs_diff(g.cells()) <= g.side() => {
                    format!("{} ({g}) or another legal size (16, 36, 81, 256, 625, ...)", g.cells())
                }
                _ => "a legal number of (16 for 4x4, 36 for 6x6, 81 for 9x9, 256 for 16x16, 625 for 25x25, ...)".to_owned(),
            },
        },
    };
    let hint = if got == 0 { ": the text holds no cell" } else { "" };
    BoardError::Length { expected, got, hint }
}

const fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '|' | '+' | ',' | ';' | '=' | '!' | '\u{2500}'..='\u{257f}')
}

/// Lines that draw a border whatever the reading: nothing but line characters, and at least one that is not a dash.
fn is_border(line: &str) -> bool {
    line.chars().all(|c| c == '-' || is_separator(c)) && line.chars().any(|c| matches!(c, '+' | '='))
}

/// Lines of dashes (and `|`): a border or a row of blanks.
fn is_dashes(line: &str) -> bool {
    line.contains('-') && line.chars().all(|c| c == '-' || is_separator(c))
}

/// The cells of a text with one character a cell.
fn characters(text: &str, dashes_separate: bool) -> Result<Vec<Piece<'_>>, BoardError> {
    let mut pieces = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if is_border(line) || (dashes_separate && is_dashes(line)) {
            continue;
        }
        for (column, (at, c)) in line.char_indices().enumerate() {
            if is_separator(c) {
                continue;
            }
            let piece = Piece { text: &line[at..at + c.len_utf8()], line: number + 1, column: column + 1 };
            if !c.is_ascii_alphanumeric() && !is_blank(c) {
                return Err(piece.unexpected(
                    "a digit, a letter, a blank (`.`, `0`, `_`, `*`, `-`) or a separator".to_owned(),
                ));
            }
            pieces.push(piece);
        }
    }
    Ok(pieces)
}

const fn is_blank(c: char) -> bool {
    matches!(c, '.' | '_' | '*' | '-')
}

fn from_characters(
    pieces: &[Piece<'_>],
    geometry: Geometry,
    notation: Notation,
) -> Result<Board, BoardError> {
    let side = geometry.side();
    let any = |wanted: fn(char) -> bool| pieces.iter().any(|p| wanted(p.first()));
    let from_zero = match notation {
        Notation::HexFromZero => true,
        Notation::Auto => {
            side == 16 && any(|c| c == '0') && any(is_blank) && !any(|c| matches!(c, 'g' | 'G'))
        }
        Notation::Letters | Notation::Decimal => false,
    };
    let mut cells = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let c = piece.first();
        let value = match c {
            c if is_blank(c) => 0,
            '0'..='9' => c as usize - '0' as usize + usize::from(from_zero),
            'a'..='z' => c as usize - 'a' as usize + 10 + usize::from(from_zero),
            'A'..='Z' => c as usize - 'A' as usize + 10 + usize::from(from_zero),
            _ => usize::MAX,
        };
        if value > side {
            return Err(piece.unexpected(legend(side, from_zero)));
        }
        cells.push(value as u8);
    }
    Board::from_cells(geometry, cells)
}

/// What may stand in a cell, for error messages.
fn legend(side: usize, from_zero: bool) -> String {
    let last = |value: usize| super::board::symbol(value as u8);
    match (from_zero, side) {
        (true, ..=10) => format!("`0` to `{}` or a blank (`.`)", last(side - 1)),
        (true, _) => format!("`0` to `9`, `A` to `{}` or a blank (`.`)", last(side - 1)),
        (false, ..=9) => {
            format!("`1` to `{}` or a blank (`.`, `0`, `_`, `*`) on a {side}x{side} board", last(side))
        }
        (false, _) => format!(
            "`1` to `9`, `A` to `{}` or a blank (`.`, `0`, `_`, `*`) on a {side}x{side} board",
            last(side)
        ),
    }
}

/// The cells of a text with separated numbers.
fn tokens(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if is_border(line) || (is_dashes(line) && line.contains("--")) {
            continue;
        }
        let mut start = None;
        for (column, (at, c)) in line.char_indices().chain([(line.len(), ' ')]).enumerate() {
            match (start, is_separator(c)) {
                (None, false) => start = Some((at, column)),
                (Some((from, column)), true) => {
                    pieces.push(Piece { text: &line[from..at], line: number + 1, column: column + 1 });
                    start = None;
                }
                _ => {}
            }
        }
    }
    pieces
}

fn number(piece: &Piece<'_>) -> Option<usize> {
    if piece.text.len() <= 2 && piece.text.chars().all(is_blank) {
        return Some(0);
    }
    if piece.text.len() > 4 || !piece.text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    piece.text.parse().ok()
}

/// Whether a text can only be meant as separated numbers: all tokens are, and some have two digits.
fn looks_decimal(tokens: &[Piece<'_>]) -> bool {
    tokens.iter().all(|t| t.text.len() <= 2 && number(t).is_some_and(|n| n <= MAX_SIDE))
        && tokens.iter().any(|t| t.text.len() == 2 && t.text.bytes().all(|b| b.is_ascii_digit()))
        // Fewer tokens are the rows or box rows of a 4x4 grid: `12 34`.
        && tokens.len() > 8
}

fn from_numbers(tokens: &[Piece<'_>], geometry: Geometry) -> Result<Board, BoardError> {
    let side = geometry.side();
    let mut cells = Vec::with_capacity(tokens.len());
    for (i, token) in tokens.iter().enumerate() {
        let value = number(token)
            .ok_or_else(|| token.unexpected(format!("a number from 1 to {side}, or `0` or `.`")))?;
        if value > side {
            return Err(BoardError::Value { side, value, row: i / side + 1, column: i % side + 1 });
        }
        cells.push(value as u8);
    }
    Board::from_cells(geometry, cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79";

    fn read(text: &str) -> Result<String, String> {
        text.parse::<Board>().map(|b| b.to_line()).map_err(|e| e.to_string())
    }

    #[test]
    fn blanks_of_every_kind() {
        for blank in ["0", "_", "*", "-", "."] {
            assert_eq!(read(&LINE.replace('.', blank)), Ok(LINE.to_owned()), "{blank}");
        }
        assert_eq!(read(&format!("\u{feff}  {LINE}\r\n")), Ok(LINE.to_owned()));
        assert_eq!(read(&"-".repeat(81)), Ok(".".repeat(81)));
    }

    #[test]
    fn grids_with_separators() {
        let grid = "\
+-------+-------+-------+
| 5 3 . | . 7 . | . . . |
| 6 . . | 1 9 5 | . . . |
| . 9 8 | . . . | . 6 . |
+-------+-------+-------+
| 8 . . | . 6 . | . . 3 |
| 4 . . | 8 . 3 | . . 1 |
| 7 . . | . 2 . | . . 6 |
+-------+-------+-------+
| . 6 . | . . . | 2 8 . |
| . . . | 4 1 9 | . . 5 |
| . . . | . 8 . | . 7 9 |
+-------+-------+-------+";
        assert_eq!(read(grid), Ok(LINE.to_owned()));
        assert_eq!(read(&grid.replace('+', "-")), Ok(LINE.to_owned()), "borders of dashes only");
        assert_eq!(read(&grid.replace(['|', '+'], "").replace("-", "")), Ok(LINE.to_owned()));
        let board = LINE.parse::<Board>().map(|b| b.to_string()).unwrap_or_default();
        assert_eq!(read(&board), Ok(LINE.to_owned()), "what Display prints is read back");
    }

    #[test]
    fn a_row_of_dashes_may_be_blank_or_border() {
        let blank_row = "1234\n----\n----\n2143";
        assert_eq!(read(blank_row), Ok("1234........2143".to_owned()));
        let border = "12|34\n34|12\n-----\n21|43\n43|21";
        assert_eq!(read(border), Ok("1234341221434321".to_owned()));
    }

    #[test]
    fn sixteen_by_sixteen_notations() {
        let solved: String = (0..16)
            .flat_map(|r| {
                (0..16).map(move |c| {
                    crate::puzzles::sudoku::board::symbol(((r % 4 * 4 + r / 4 + c) % 16 + 1) as u8)
                })
            })
            .collect();
        let board = read(&solved);
        assert_eq!(board, Ok(solved.clone()));
        assert_eq!(read(&solved.to_lowercase()), board);
        let decimal: Vec<String> =
            solved.chars().map(|c| c.to_digit(17).map(|d| d.to_string()).unwrap_or_default()).collect();
        assert_eq!(read(&decimal.join(" ")), board);
        assert_eq!(read(&decimal.join(",")), board);
        // 0-F with dots for blanks: the first cell is blanked so that the notation shows.
        let hex: String = solved
            .chars()
            .skip(1)
            .map(|c| c.to_digit(17).and_then(|d| char::from_digit(d - 1, 16)).unwrap_or('?'))
            .collect();
        assert_eq!(read(&format!(".{hex}")), Ok(format!(".{}", &solved[1..])));
        let letters = Board::parse(&format!("0{hex}"), Notation::HexFromZero, None).map(|b| b.to_line());
        assert_eq!(letters, Ok(solved));
    }

    #[test]
    fn sixes_and_fours() {
        assert_eq!(read("12 34\n34 12\n21 43\n43 21"), Ok("1234341221434321".to_owned()));
        assert_eq!(read("1 2 3 4 3 4 1 2 2 1 4 3 4 3 2 1"), Ok("1234341221434321".to_owned()));
        let six = "12.456456123231564564231312645645312";
        assert_eq!(read(six), Ok(six.to_owned()));
    }

    #[test]
    fn errors_say_where_and_what() {
        assert_eq!(
            read(&LINE[..80]),
            Err("expected 81 (9x9 with 3x3 boxes) or another legal size (16, 36, 81, 256, 625, ...) cells, got 80".to_owned())
        );
        assert!(read("").is_err_and(|e| e.contains("got 0: the text holds no cell")));
        let bad = LINE.replacen("..7", ".X7", 1);
        assert_eq!(
            read(&bad),
            Err("unexpected character 'X' at line 1, character 4: expected `1` to `9` or a blank (`.`, `0`, `_`, `*`) on a 9x9 board".to_owned())
        );
        let bad = format!("{}\n{}#{}", &LINE[..9], &LINE[9..12], &LINE[13..]);
        assert!(read(&bad).is_err_and(|e| e.starts_with("unexpected character '#' at line 2, character 4")));
        assert!(read("5234341221434321").is_err_and(|e| e.contains("`1` to `4`")));
        let numbers = "17 ".repeat(256);
        assert!(
            read(&numbers)
                .is_err_and(|e| e.contains("from 1 to 16") && e.contains("got 17 in row 1, column 1"))
        );
        assert!(read(&"10 ".repeat(255)).is_err_and(|e| e.contains("got 255")));
        assert!(
            Board::parse(LINE, Notation::Auto, Some(Geometry::S4))
                .is_err_and(|e| e.to_string().contains("expected 16"))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = text.parse::<Board>();
        }

        #[test]
        fn arbitrary_grid_like_text_never_panics(text in "[0-9a-gA-G.\\-+| \n,_é]{0,700}") {
            for notation in [Notation::Auto, Notation::Letters, Notation::HexFromZero, Notation::Decimal] {
                let _ = Board::parse(&text, notation, None);
            }
        }

        #[test]
        fn lines_and_grids_read_back(side in prop::sample::select(vec![4usize, 6, 9, 12, 16, 25]), seed in any::<u64>()) {
            let geometry = Geometry::from_side(side).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let mut rng = crate::random::stream(seed, crate::random::Purpose::Other, 0, 0);
            let cells = (0..geometry.cells()).map(|_| crate::random::below(&mut rng, side as u32 + 1) as u8).collect();
            let board = Board::from_cells(geometry, cells).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(board.to_line().parse::<Board>(), Ok(board.clone()));
            prop_assert_eq!(board.to_string().parse::<Board>(), Ok(board));
        }
    }
}
