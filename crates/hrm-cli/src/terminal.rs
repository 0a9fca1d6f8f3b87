//! Text for terminals: when to colour, how wide, boards side by side, a sign of life while something takes long.

use std::{
    fmt,
    io::{self, ErrorKind, IsTerminal, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anstyle::AnsiColor;
use console::Term;
use hrm_data::render::Style;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// Columns to fill where nobody says how many there are.
const WIDTH: usize = 80;
/// What takes longer than this shows that it is alive.
const PATIENCE: Duration = Duration::from_secs(2);

/// `--color`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set or TERM is `dumb`; anywhere if CLICOLOR_FORCE is set
    #[default]
    Auto,
    /// Anywhere
    Always,
    /// Nowhere
    Never,
}

static COLOUR: OnceLock<Colour> = OnceLock::new();

/// Sets what the user asked for, once.
pub fn set_colour(colour: Colour) {
    let _ = COLOUR.set(colour);
}

/// Whether to colour a stream (<https://no-color.org>, <https://bixense.com/clicolors>).
fn is_coloured(stream: &impl IsTerminal) -> bool {
    match COLOUR.get().copied().unwrap_or_default() {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto if anstyle_query::no_color() => false,
        Colour::Auto => {
            anstyle_query::clicolor_force()
                || stream.is_terminal() && anstyle_query::term_supports_ansi_color()
        }
    }
}

/// How to draw on standard output.
pub fn stdout_style(plain: bool) -> Style {
    if !plain && is_coloured(&io::stdout()) { Style::Ansi } else { Style::Plain }
}

/// Rows and columns of the terminal that standard output is, if it is one that can be drawn on.
pub fn screen() -> Option<(usize, usize)> {
    let able = io::stdout().is_terminal() && anstyle_query::term_supports_ansi_color();
    let (rows, columns) = able.then(|| Term::stdout().size_checked()).flatten()?;
    Some((rows.into(), columns.into()))
}

/// Columns of standard output.
pub fn width() -> usize {
    screen().map_or(WIDTH, |(_, columns)| columns)
}

/// Says on standard error, if that is a terminal, what is done and for how long, once it has taken a while; gone when dropped.
pub struct Working {
    end: Option<Sender<()>>,
    /// How much of it is done, for whoever counts.
    pub done: Arc<AtomicUsize>,
    teller: Option<JoinHandle<()>>,
}

impl Working {
    /// Begins; `what` is as in `measuring 1,000 puzzles`.
    pub fn on(what: impl Into<String>) -> Self {
        let what = what.into();
        let (end, ended) = mpsc::channel();
        let done = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&done);
        let teller = io::stderr().is_terminal().then(|| {
            thread::spawn(move || {
                if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let bar = ProgressBar::new_spinner().with_elapsed(PATIENCE).with_message(what);
                let style = ProgressStyle::with_template("{spinner} {wide_msg} {done} {elapsed}");
                let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
                bar.set_style(style.with_key("done", move |_: &ProgressState, out: &mut dyn fmt::Write| {
                    let _ = match counted.load(Ordering::Relaxed) {
                        0 => Ok(()),
                        some => write!(out, "{some} done,"),
                    };
                }));
                bar.enable_steady_tick(Duration::from_millis(200));
                let _ = ended.recv();
                bar.finish_and_clear();
            })
        });
        Self { end: Some(end), done, teller }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(teller) = self.teller.take() {
            let _ = teller.join();
        }
    }
}

/// `println!` that does not panic, see [`say_line`].
macro_rules! say {
    ($($text:tt)*) => { $crate::terminal::say_line(format_args!($($text)*)) };
}

/// `eprintln!` that does not panic: a training goes on although nobody reads what it says any more.
macro_rules! note {
    ($($text:tt)*) => { $crate::terminal::note_line(format_args!($($text)*)) };
}

/// Writes a line on standard error, if that can be done.
pub fn note_line(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
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
    let style = match is_coloured(&io::stderr()) {
        true => AnsiColor::Red.on_default().bold(),
        false => anstyle::Style::new(),
    };
    note!("{style}error:{style:#} {message}");
}

/// A text block with a title above it.
#[derive(Debug, Clone)]
pub struct Panel {
    /// The title.
    pub title: String,
    /// The block, lines of equal width.
    pub body: String,
}

/// Sets panels side by side, as many as fit into a line of so many columns.
pub fn side_by_side(panels: &[Panel], columns: usize) -> String {
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
                used - GAP <= columns
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
pub fn visible_width(line: &str) -> usize {
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

/// Numbers as a line of blocks, from the least to the greatest, in so many columns at most.
pub fn sparkline(values: &[f64], columns: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = columns.min(values.len());
    let mean = |column: usize| {
        let stretch = &values[column * values.len() / columns..(column + 1) * values.len() / columns];
        stretch.iter().sum::<f64>() / stretch.len() as f64
    };
    let means: Vec<f64> = (0..columns).map(mean).collect();
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    let most = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let block = |mean: &f64| {
        // Equal values are all low; what is not finite is, too.
        let share = (mean - least) / (most - least);
        BLOCKS[(share * (BLOCKS.len() - 1) as f64).round() as usize]
    };
    means.iter().map(block).collect()
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

/// `12.50 %`
pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
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
        let text = side_by_side(&[panel("one", "\x1b[1mab\x1b[0m\ncd"), panel("2", "xyz")], 80);
        assert_eq!(text, "one  2\n\x1b[1mab\x1b[0m   xyz\ncd\n");
        let wide = "w".repeat(50);
        let text = side_by_side(&[panel("a", &wide), panel("b", &wide)], 80);
        assert_eq!(text, format!("a\n{wide}\n\nb\n{wide}\n"));
        let text = side_by_side(&[panel("a", &wide), panel("b", &wide)], 102);
        assert_eq!(text.lines().count(), 2);
        assert_eq!(side_by_side(&[], 80), "");
    }

    #[test]
    fn a_sparkline_goes_from_low_to_high() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 7.0], 80), "▁▂▃█");
        assert_eq!(sparkline(&[7.0, 7.0, 0.0, 0.0], 2), "█▁");
        assert_eq!(
            (sparkline(&[], 9), sparkline(&[3.0], 9), sparkline(&[1.0], 0)),
            (String::new(), "▁".into(), String::new())
        );
        assert_eq!(sparkline(&[f64::NAN, 1.0], 9).chars().count(), 2);
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
