//! Pictures of puzzles and of curves: rectangles, lines and short texts, written as SVG or as PNG; and films of them, as
//! animated GIF or animated SVG.
//!
//! A picture has a size in *units*; SVG keeps them, pixels have a number for each. Later shapes cover earlier ones.

mod boards;
mod chart;
mod film;
mod glyphs;
mod raster;
mod svg;

use std::io::Cursor;

use image::ImageFormat;
use thiserror::Error;

pub use boards::Mark;
pub(crate) use boards::{CELL, MARGIN, THIN, cell, corner};
pub use chart::{Axis, Chart, Scale, Series, Trace, charts};
pub use film::Film;

/// Red, green and blue.
pub type Colour = (u8, u8, u8);

pub(crate) const WHITE: Colour = (255, 255, 255);
pub(crate) const INK: Colour = (28, 30, 40);

/// Shapes on a white ground.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    width: f32,
    height: f32,
    shapes: Vec<Shape>,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Rectangle {
        corner: (f32, f32),
        size: (f32, f32),
        fill: Colour,
    },
    /// Round ends and joints.
    Line {
        points: Vec<(f32, f32)>,
        width: f32,
        colour: Colour,
    },
    /// One line of text; `height` is that of a capital letter.
    Text {
        at: (f32, f32),
        anchor: Anchor,
        height: f32,
        bold: bool,
        colour: Colour,
        text: String,
    },
}

/// What of a text stands at its point; up and down it is always the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// Why there are no pixels.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PictureError {
    /// No pixels, or too many.
    #[error(
        "expected 1 to {limit} pixels in all, got {width} x {height}; ask for another number of pixels per unit"
    )]
    Size {
        /// Most pixels allowed.
        limit: u64,
        /// Columns asked for.
        width: u64,
        /// Rows asked for.
        height: u64,
    },
    /// The encoder refused.
    #[error("the picture cannot be written: {0}")]
    Encode(String),
}

impl Picture {
    /// An empty picture, in units.
    pub(crate) const fn new(width: f32, height: f32) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    /// Width and height, in units.
    pub const fn size(&self) -> (f32, f32) {
        (self.width, self.height)
    }

    /// The picture as a document of its own, SVG 1.1.
    pub fn svg(&self) -> String {
        svg::write(self)
    }

    /// The picture as a PNG file, `scale` pixels for each unit; 2 suits a screen.
    ///
    /// # Errors
    /// [`PictureError`] if that makes no pixel, or more than 100 million.
    pub fn png(&self, scale: f32) -> Result<Vec<u8>, PictureError> {
        let mut bytes = Cursor::new(Vec::new());
        let pixels = raster::draw(self, scale)?;
        pixels
            .write_to(&mut bytes, ImageFormat::Png)
            .map_err(|error| PictureError::Encode(error.to_string()))?;
        Ok(bytes.into_inner())
    }

    /// The picture with a line of text under it, at both ends.
    pub fn captioned(mut self, left: &str, right: &str) -> Self {
        let (width, margin) = (self.width, 14.0);
        let at = self.height + 4.0;
        self.height += 22.0;
        self.text((margin, at), Anchor::Start, 9.0, false, INK, left);
        self.text((width - margin, at), Anchor::End, 9.0, false, INK, right);
        self
    }

    /// A text as a picture, one character beside the other as on a terminal.
    pub fn of_text(text: &str) -> Self {
        let (advance, line, margin) = (9.0, 17.0, 12.0);
        let columns = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        let rows = text.lines().count();
        let mut picture = Self::new(
            (columns as f32).mul_add(advance, 2.0 * margin),
            (rows as f32).mul_add(line, 2.0 * margin),
        );
        for (row, characters) in text.lines().enumerate() {
            for (col, character) in characters.chars().enumerate().filter(|(_, c)| !c.is_whitespace()) {
                let at =
                    ((col as f32 + 0.5).mul_add(advance, margin), (row as f32 + 0.5).mul_add(line, margin));
                picture.text(at, Anchor::Middle, 9.0, false, INK, character);
            }
        }
        picture
    }

    pub(crate) fn rectangle(&mut self, corner: (f32, f32), size: (f32, f32), fill: Colour) {
        self.shapes.push(Shape::Rectangle { corner, size, fill });
    }

    pub(crate) fn line(&mut self, points: &[(f32, f32)], width: f32, colour: Colour) {
        self.shapes.push(Shape::Line { points: points.to_vec(), width, colour });
    }

    pub(crate) fn text(
        &mut self,
        at: (f32, f32),
        anchor: Anchor,
        height: f32,
        bold: bool,
        colour: Colour,
        text: impl ToString,
    ) {
        self.shapes.push(Shape::Text { at, anchor, height, bold, colour, text: text.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pixels of a PNG, as (width, height, RGB).
    pub(super) fn pixels(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let image = image::load_from_memory_with_format(bytes, ImageFormat::Png).unwrap();
        assert_eq!(image.color(), image::ColorType::Rgb8);
        (image.width(), image.height(), image.into_bytes())
    }

    #[test]
    fn shapes_land_where_they_belong() {
        let mut picture = Picture::new(10.0, 6.0);
        picture.rectangle((2.0, 1.0), (3.0, 2.0), (255, 0, 0));
        picture.line(&[(7.0, 0.0), (7.0, 6.0)], 2.0, (0, 0, 255));
        let (width, height, rgb) = pixels(&picture.png(2.0).unwrap());
        assert_eq!((width, height), (20, 12));
        let at = |x: usize, y: usize| &rgb[(y * 20 + x) * 3..(y * 20 + x) * 3 + 3];
        assert_eq!(at(3, 2), [255, 255, 255]);
        assert_eq!((at(4, 2), at(9, 5)), ([255, 0, 0].as_slice(), [255, 0, 0].as_slice()));
        assert_eq!((at(10, 5), at(9, 6)), ([255; 3].as_slice(), [255; 3].as_slice()));
        assert_eq!((at(12, 6), at(15, 6)), ([0, 0, 255].as_slice(), [0, 0, 255].as_slice()));
        assert_eq!((at(11, 6), at(16, 6)), ([255; 3].as_slice(), [255; 3].as_slice()));
        let svg = picture.svg();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"10\" height=\"6\""));
        assert!(svg.contains("<rect x=\"2\" y=\"1\" width=\"3\" height=\"2\" fill=\"#ff0000\"/>"));
        assert!(svg.contains("stroke=\"#0000ff\""));
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn texts_leave_ink_and_are_escaped() {
        let picture = Picture::of_text("a <&> B\n\"0\"");
        let svg = picture.svg();
        assert!(svg.contains("&lt;") && svg.contains("&amp;") && svg.contains("&gt;"), "{svg}");
        let (_, _, rgb) = pixels(&picture.png(1.0).unwrap());
        assert!(rgb.iter().any(|&v| v < 100));
        let (_, _, blank) = pixels(&Picture::of_text(" \n ").png(1.0).unwrap());
        assert!(blank.iter().all(|&v| v == 255));
    }

    #[test]
    fn sizes_are_limited() {
        let picture = Picture::new(100.0, 100.0);
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e6] {
            assert!(matches!(picture.png(scale), Err(PictureError::Size { .. })), "{scale}");
        }
        assert!(picture.png(0.5).is_ok());
    }
}
