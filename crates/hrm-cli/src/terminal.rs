//! Text for terminals: when to colour, boards side by side.

use std::{
    env, fmt,
    io::{self, ErrorKind, IsTerminal, Write},
    sync::OnceLock,
};

use anstyle::AnsiColor;
use hrm_data::render::Style;

/// Columns to fill; no terminal in use is narrower.
const WIDTH: usize = 80;

/// Whether the user allows colour at all (<https://no-color.org>).
pub fn colour_wanted() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// How to draw on standard output.
pub fn stdout_style(plain: bool) -> Style {
    if !plain && colour_wanted() && io::stdout().is_terminal() { Style::Ansi } else { Style::Plain }
}

/// `println!` that does not panic, see [`say_line`].
macro_rules! say {
    ($($text:tt)*) => { $crate::terminal::say_line(format_args!($($text)*)) };
}

/// Why standard output could not be written.
static UNSAID: OnceLock<io::Error> = OnceLock::new();

/// Writes a line on standard output. Work goes on if that fails, a training above all; the program says so at its end, unless
/// whoever read the output only wanted its beginning.
pub fn say_line(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{line}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = UNSAID.set(error);
    }
}

/// Why lines are missing on standard output, if any are.
pub fn unsaid() -> Option<&'static io::Error> {
    UNSAID.get()
}

/// Prints `error: ...` on standard error.
pub fn report_error(message: &str) {
    let style = if io::stderr().is_terminal() && colour_wanted() {
        AnsiColor::Red.on_default().bold()
    } else {
        anstyle::Style::new()
    };
    eprintln!("{style}error:{style:#} {message}");
}

/// A text block with a title above it.
#[derive(Debug, Clone)]
pub struct Panel {
    /// The title.
    pub title: String,
    /// The block, lines of equal width.
    pub body: String,
}

/// Sets panels side by side, as many as fit into a line of the terminal.
pub fn side_by_side(panels: &[Panel]) -> String {
    const GAP: usize = 2;
    let width = |panel: &Panel| {
        let lines = panel.body.lines().chain([panel.title.as_str()]);
        lines.map(visible_width).max().unwrap_or(0)
    };
    let mut out = String::new();
    let mut rest = panels;
    while !rest.is_empty() {
        let mut used = 0;
        let fitting = rest
            .iter()
            .take_while(|panel| {
                used += width(panel) + GAP;
                used - GAP <= WIDTH
            })
            .count()
            .max(1);
        let (row, others) = rest.split_at(fitting);
        let height = row.iter().map(|panel| panel.body.lines().count()).max().unwrap_or(0);
        for line in 0..=height {
            let mut text = String::new();
            for panel in row {
                let cell = match line {
                    0 => panel.title.as_str(),
                    n => panel.body.lines().nth(n - 1).unwrap_or(""),
                };
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width(panel) + GAP - visible_width(cell)));
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        if !others.is_empty() {
            out.push('\n');
        }
        rest = others;
    }
    out
}

/// Characters of a line without its escape sequences.
fn visible_width(line: &str) -> usize {
    let mut width = 0;
    let mut in_escape = false;
    for c in line.chars() {
        match (in_escape, c) {
            (false, '\x1b') => in_escape = true,
            (false, _) => width += 1,
            (true, 'm') => in_escape = false,
            (true, _) => {}
        }
    }
    width
}

/// `3.2 KB`, `109.0 MB`, `1.20 GB`
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} bytes"),
        1_000..1_000_000 => format!("{:.1} KB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// `1 puzzle`, `3 puzzles`
pub fn count(n: usize, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        _ if noun.ends_with('s') => format!("{n} {noun}es"),
        _ => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_follow_their_numbers() {
        assert_eq!(count(1, "guess"), "1 guess");
        assert_eq!((count(0, "guess"), count(2, "node")), ("0 guesses".to_owned(), "2 nodes".to_owned()));
    }

    #[test]
    fn panels_wrap() {
        let panel = |title: &str, body: &str| Panel { title: title.to_owned(), body: body.to_owned() };
        let text = side_by_side(&[panel("one", "\x1b[1mab\x1b[0m\ncd"), panel("2", "xyz")]);
        assert_eq!(text, "one  2\n\x1b[1mab\x1b[0m   xyz\ncd\n");
        let wide = "w".repeat(50);
        let text = side_by_side(&[panel("a", &wide), panel("b", &wide)]);
        assert_eq!(text, format!("a\n{wide}\n\nb\n{wide}\n"));
        assert_eq!(side_by_side(&[]), "");
    }

    #[test]
    fn numbers_with_units() {
        assert_eq!(
            (bytes(12), bytes(4200), bytes(109_000_000)),
            ("12 bytes".into(), "4.2 KB".into(), "109.0 MB".into())
        );
        assert_eq!((count(1, "step"), count(0, "step")), ("1 step".into(), "0 steps".into()));
    }
}
