//! Puzzles as text, returned as strings: the caller decides where they go and whether colour is wanted. And as [`Picture`]s,
//! which are written as SVG or PNG, and [`Film`]s of them. What a puzzle looks like stands beside it, in its `draw`.

mod picture;

pub(crate) use picture::{Anchor, CELL, INK, MARGIN, THIN, WHITE, cell, corner};
pub use picture::{Axis, Chart, Colour, Film, Mark, Picture, PictureError, Scale, Series, Trace, charts};

/// How cells of different origin are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Plain characters. With marks: `5` given, `5` filled, `5*` changed since the previous board, `5!` in conflict.
    #[default]
    Plain,
    /// ANSI escape sequences: bold given, blue filled, green changed since the previous board, red in conflict.
    Ansi,
}
