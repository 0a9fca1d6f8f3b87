//! Reading boards in the usual text notations.

use super::board::{Board, BoardError, Geometry, MAX_SIDE};

/// How values are written. Separators (`|`, `+`, `,`, `;`, spaces, line ends, box-drawing characters and lines made
/// only of `-`, `=`, `+` and `|`) may stand anywhere; `.`, `_`, `*`, `?` and `-` are blanks, and `x` is where no other blank is used.
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

/// Longer texts are no board of at most 25x25, however it is drawn.
const LONGEST: usize = 1 << 16;

/// What stands for a blank that was written in another way.
const BLANK: &str = ".";

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

/// Reads a board. A text that can be read in several ways, as different boards, is none.
pub(super) fn parse(text: &str, notation: Notation, geometry: Option<Geometry>) -> Result<Board, BoardError> {
    let rows = rows_of_list(text);
    let text = rows.as_deref().unwrap_or(text);
    let text = text.trim_start_matches('\u{feff}');
    let first = separated(text, notation, geometry);
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    if notation != Notation::Auto || is_plain || text.len() > LONGEST {
        return first;
    }
    let fits = |count: usize| fit(count, geometry);
    let others: [(&str, Option<Vec<Piece<'_>>>); 4] = [
        ("with a cell in each field of its lists", fields(text)),
        ("with spaces as blanks", spaces_as_blanks(text, &fits, false)),
        ("with spaces and empty lines as blanks", spaces_as_blanks(text, &fits, true)),
        ("with `*` as a mark behind a value", without_marks(text)),
    ];
    let mut fault = None;
    let mut found = match first {
        Ok(board) => Some(("with spaces and lines between its cells", board)),
        Err(error) => {
            fault = Some(error);
            None
        }
    };
    for (how, pieces) in others {
        match pieces.map(|pieces| of_cells(pieces, geometry)) {
            Some(Ok(board)) => match &found {
                Some((one, other)) if board != *other => {
                    return Err(BoardError::Ambiguous { one, other: how });
                }
                Some(_) => {}
                None => found = Some((how, board)),
            },
            // Brackets mean nothing but in lists: what is wrong with the list says more.
            Some(Err(error)) if text.contains('[') => fault = Some(error),
            _ => {}
        }
    }
    match (found, fault) {
        (Some((_, board)), _) => Ok(board),
        (None, Some(fault)) => Err(fault),
        (None, None) => Err(wrong_length(text, 0, geometry)),
    }
}

fn fit(count: usize, geometry: Option<Geometry>) -> Option<Geometry> {
    match geometry {
        Some(g) => (g.cells() == count).then_some(g),
        None => Geometry::from_cells(count),
    }
}

/// Cells with separators between them, or none.
fn separated(text: &str, notation: Notation, geometry: Option<Geometry>) -> Result<Board, BoardError> {
    let fits = |count: usize| fit(count, geometry);
    if matches!(notation, Notation::Auto | Notation::Decimal) {
        let tokens = crosses_as_blanks(tokens(text));
        let decimal = notation == Notation::Decimal || looks_decimal(&tokens);
        if decimal {
            if let Some(g) = fits(tokens.len()) {
                return from_numbers(&tokens, g);
            }
            if notation == Notation::Decimal || tokens.len() > 16 {
                return Err(wrong_length(text, tokens.len(), geometry));
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
        Some(g) => from_characters(&crosses_as_blanks(pieces), g, notation),
        None => Err(wrong_length(text, pieces.len(), geometry)),
    }
}

/// A board of pieces that are a cell each, whatever stood between them.
fn of_cells(pieces: Vec<Piece<'_>>, geometry: Option<Geometry>) -> Result<Board, BoardError> {
    let pieces = crosses_as_blanks(pieces);
    match fit(pieces.len(), geometry) {
        None => Err(wrong_length("", pieces.len(), geometry)),
        Some(g) if pieces.iter().all(|piece| piece.text.chars().count() == 1) => {
            from_characters(&pieces, g, Notation::Auto)
        }
        Some(g) => from_numbers(&pieces, g),
    }
}

/// `x` is a blank where nothing else is one; beside another it is rather a slip.
fn crosses_as_blanks(mut pieces: Vec<Piece<'_>>) -> Vec<Piece<'_>> {
    let is_blank = |piece: &Piece<'_>| piece.text == "0" || piece.text.chars().all(is_blank);
    if !pieces.iter().any(is_blank) {
        for piece in &mut pieces {
            if matches!(piece.text, "x" | "X") {
                piece.text = BLANK;
            }
        }
    }
    pieces
}

/// The rows of a list of texts, each a row of characters, `["53..7....", ...`, one a line.
fn rows_of_list(text: &str) -> Option<String> {
    let text = text.trim();
    let quote =
        text.strip_prefix(['[', '('])?.trim_start().chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let rows: Vec<&str> = text.split(quote).skip(1).step_by(2).collect();
    let is_square = rows.len() > 1 && rows.iter().all(|row| row.chars().count() == rows.len());
    is_square.then(|| rows.join("\n"))
}

/// The fields of lists (`[[5,3,0],[..`) and of rows with commas, semicolons or tabs, each a cell: an empty one is blank. `None`
/// if there is nothing of the kind.
fn fields(text: &str) -> Option<Vec<Piece<'_>>> {
    let separator = ['\t', ';', ','].into_iter().find(|&separator| text.contains(separator));
    let separator = match text.contains(['[', ']']) {
        // As numpy prints: a space between values.
        true => separator.unwrap_or(' '),
        false => separator?,
    };
    let is_around = |c: char| c.is_whitespace() || matches!(c, '[' | ']' | '(' | ')' | '{' | '}');
    let mut pieces = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let row = line.trim_end_matches([' ', '\r']);
        // The comma behind a row of a list begins no cell.
        let row = row.strip_suffix(separator).filter(|row| row.ends_with([']', ')'])).unwrap_or(row);
        let holds_a_cell = row.contains(separator) || !row.chars().all(is_around);
        if !holds_a_cell || is_border(row) {
            continue;
        }
        for field in row.split(separator) {
            let inner = field.trim_matches(is_around);
            // Nothing but brackets, behind the last comma of a list; or more spaces.
            if inner.is_empty() && (separator == ' ' || !field.trim().is_empty()) {
                continue;
            }
            let at = field.as_ptr() as usize - line.as_ptr() as usize;
            let column = line[..at + field.len() - field.trim_start_matches(is_around).len()].chars().count();
            let text = match inner.trim_matches(['"', '\'']).trim() {
                "" | "null" | "None" | "nan" => BLANK,
                text => text,
            };
            pieces.push(Piece { text, line: number + 1, column: column + 1 });
        }
    }
    Some(pieces)
}

/// A board drawn without marks for its blanks: on one line, or one line per row, of which spaces at the end may be missing. Box
/// lines may stand between. `None` if the text is none.
fn spaces_as_blanks<'a>(
    text: &'a str,
    fits: &impl Fn(usize) -> Option<Geometry>,
    empty_lines_count: bool,
) -> Option<Vec<Piece<'a>>> {
    if !text.contains(' ') || !text.chars().all(|c| c.is_ascii_alphanumeric() || "| +-=\r\n".contains(c)) {
        return None;
    }
    let rows: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !is_border(line) && !is_dashes(line))
        .filter(|(_, line)| empty_lines_count || !line.is_empty())
        .collect();
    let mut pieces = Vec::new();
    let side = if rows.len() > 1 { Some(fits(rows.len() * rows.len())?.side()) } else { None };
    let mut has_full_row = !empty_lines_count;
    for (number, line) in rows {
        let before = pieces.len();
        for (column, (at, c)) in line.char_indices().enumerate().filter(|(_, (_, c))| *c != '|') {
            let text = match c {
                ' ' => BLANK,
                '0' | '+' | '-' | '=' => return None,
                _ => &line[at..=at],
            };
            pieces.push(Piece { text, line: number + 1, column: column + 1 });
        }
        if let Some(side) = side {
            let missing = side.checked_sub(pieces.len() - before)?;
            has_full_row |= missing == 0;
            let end = line.chars().count();
            pieces.extend((1..=missing).map(|n| Piece { text: BLANK, line: number + 1, column: end + n }));
        }
    }
    // Or the empty lines part bands of a smaller board.
    has_full_row.then_some(pieces)
}

/// The cells of a board as this program prints it without colours: `*` behind a value marks it as new. `None` if there are no
/// such marks, or others.
fn without_marks(text: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = characters(text, true).ok()?;
    let line_of = |piece: &Piece<'_>| text.lines().nth(piece.line - 1);
    let is_mark = |piece: &Piece<'_>| {
        let mut around = line_of(piece)?.chars().skip(piece.column.checked_sub(2)?);
        let (before, _, after) = (around.next()?, around.next(), around.next());
        Some(before.is_ascii_alphanumeric() && after.is_none_or(is_separator))
    };
    if !pieces.iter().any(|piece| piece.text == "*")
        || pieces.iter().any(|piece| piece.text == "*" && is_mark(piece) != Some(true))
    {
        return None;
    }
    pieces.retain(|piece| piece.text != "*");
    Some(pieces)
}

fn wrong_length(text: &str, got: usize, geometry: Option<Geometry>) -> BoardError {
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
                _ => "16 (4x4), 36 (6x6), 81 (9x9), 256 (16x16), 625 (25x25) or more".to_owned(),
            },
        },
    };
    let beside =
        |line: &str| line.match_indices("|  ").any(|(at, _)| line[at + 3..].trim_start().starts_with('|'));
    let hint = match got {
        0 => ": the text holds no cell",
        _ if text.lines().any(beside) => ": there are boards beside each other; give one of them",
        _ => "",
    };
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
    matches!(c, '.' | '_' | '*' | '?' | '-')
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

    /// Ways in which people and programs write one 9x9 board.
    #[test]
    fn one_board_in_many_notations() {
        let rows = |row: &dyn Fn(&str) -> String, between: &str| {
            let rows: Vec<String> = (0..9).map(|r| row(&LINE[9 * r..9 * r + 9])).collect();
            rows.join(between)
        };
        let cells = |blank: &'static str, between: &'static str| {
            move |row: &str| {
                let cells: Vec<String> =
                    row.chars().map(|c| if c == '.' { blank.to_owned() } else { c.to_string() }).collect();
                cells.join(between)
            }
        };
        let drawn = |blank: &'static str| {
            move |row: &str| {
                let row = row.replace('.', blank);
                format!("{}|{}|{}", &row[..3], &row[3..6], &row[6..])
            }
        };
        let quoted = |row: &str| format!("[\"{}\"]", cells(".", "\",\"")(row));
        let python = |row: &str| format!("['{}']", cells("", "', '")(row));
        let numbers = |row: &str| format!("[{}]", cells("0", ", ")(row));
        let nulls = |row: &str| format!("[{}]", cells("null", ",")(row));
        let numpy = |row: &str| format!("[{}]", cells("0", " ")(row));
        let trimmed = |row: &str| row.replace('.', " ").trim_end().to_owned();
        let border = "\n---+---+---\n";
        let boxed: Vec<String> = (0..3)
            .map(|band| {
                (3 * band..3 * band + 3)
                    .map(|r| drawn(" ")(&LINE[9 * r..9 * r + 9]))
                    .collect::<Vec<_>>()
                    .join("\n")
            })
            .collect();
        for text in [
            LINE.replace('.', "?"),
            LINE.replace('.', "x"),
            LINE.replace('.', "X"),
            LINE.replace('.', " "),
            rows(&cells("x", " "), "\n"),
            rows(&cells(" ", ""), "\n"),
            rows(&trimmed, "\n"),
            rows(&cells("?", ","), "\n"),
            rows(&cells("0", ","), ","),
            rows(&cells("", ","), "\n"),
            rows(&cells("", ";"), "\r\n"),
            rows(&cells("", "\t"), "\n"),
            rows(&drawn("."), "\n"),
            boxed.join(border),
            boxed.join("\n\n"),
            boxed.join("\n\n").replace('|', ""),
            format!("[{}]", rows(&quoted, ",")),
            format!("[{}]", rows(&quoted, ",\n ")),
            format!("[\n{}\n]", rows(&python, ",\n")),
            format!("[{}]", rows(&numbers, ",")),
            format!("[{},]", rows(&numbers, ",\n")),
            format!("[{}]", rows(&nulls, ",")),
            format!("[{}]", rows(&numpy, "\n ")),
            format!("[{}]", rows(&|row| format!("\"{row}\""), ", ")),
            format!("({})", rows(&cells("0", ","), ",")),
        ] {
            assert_eq!(read(&text), Ok(LINE.to_owned()), "{text}");
        }
    }

    #[test]
    fn large_boards_by_numbers_and_letters() {
        for side in [16usize, 25] {
            let g = Geometry::from_side(side).unwrap();
            let cells: Vec<u8> = (0..g.cells()).map(|i| (i * 7 % (side + 1)) as u8).collect();
            let board = Board::from_cells(g, cells.clone()).unwrap();
            let number = |blank: &'static str| {
                move |&value: &u8| if value == 0 { blank.to_owned() } else { value.to_string() }
            };
            let rows = |blank, between: &str, of: (&str, &str), end: &str| {
                let row = |row: &[u8]| row.iter().map(number(blank)).collect::<Vec<_>>().join(between);
                cells
                    .chunks(side)
                    .map(|cells| format!("{}{}{}", of.0, row(cells), of.1))
                    .collect::<Vec<_>>()
                    .join(end)
            };
            for text in [
                rows("0", " ", ("", ""), "\n"),
                rows(".", ",", ("", ""), "\n"),
                rows("x", " ", ("", ""), "\n"),
                rows("", ",", ("", ""), "\n"),
                format!("[{}]", rows("null", ", ", ("[", "]"), ",\n")),
                format!("[{}]", rows("0", ",", ("[", "]"), ",")),
                board.to_line().replace('.', "x"),
                board.to_line().replace('.', "?"),
            ] {
                assert_eq!(read(&text), Ok(board.to_line()), "{text}");
            }
        }
    }

    #[test]
    fn what_the_program_prints_is_read_back() {
        let printed = "\
+----------+----------+
| 1* 4! .  | 2  .  .  |
| .  .  2* | 3  1  .  |
| .  .  .  | .  .  3* |
+----------+----------+
| 6  .  .  | 5! .  .  |
| .  1* .  | .  .  .  |
| .  .  .  | .  .  6  |
+----------+----------+";
        let rows = ["14.2..", "..231.", ".....3", "6..5..", ".1....", ".....6"];
        assert_eq!(read(printed), Ok(rows.concat()));
        let beside: String = printed.lines().map(|line| format!("{line}  {line}\n")).collect();
        let error = read(&beside).unwrap_err();
        assert!(error.ends_with("there are boards beside each other; give one of them"), "{error}");
    }

    #[test]
    fn a_text_of_two_meanings_is_refused() {
        // 16 values on a line of 81: a 9x9 board with spaces as blanks, or a 4x4 board.
        let line = format!("1234341221434321{}", " ".repeat(65));
        let error = read(&line).unwrap_err();
        assert!(error.contains("two ways") && error.contains("with spaces as blanks"), "{error}");
        // Values that no 4x4 board has: no doubt.
        let line = format!("9234341221434321{}", " ".repeat(65));
        assert_eq!(read(&line), Ok(line.replace(' ', ".")));
        // Beside another blank, `x` is a slip; and a row that lacks a cell stays one that lacks a cell.
        assert!(read("1....3...2....4x").is_err_and(|error| error.contains("'x'")));
        assert!(read("1 2 3 4\n3 4 1 2\n2 1 4\n4 3 2 1").is_err_and(|error| error.contains("got 15")));
        let error = read("[[1,2,3,4],[3,4,1,2],[2,1,4],[4,3,2,1]]").unwrap_err();
        assert!(error.contains("got 15"), "{error}");
        let error = read("[[1,2,3,4],[3,4,1,2],[2,1,7,3],[4,3,2,1]]").unwrap_err();
        assert!(error.starts_with("unexpected character '7' at line 1, character 27"), "{error}");
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
        fn arbitrary_grid_like_text_never_panics(text in "[0-9a-gA-GxX.*?\\-+| \t\n,;_é\\[\\]\"']{0,700}") {
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
