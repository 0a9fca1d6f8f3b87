//! A picture as pixels, drawn by `tiny-skia`.
//!
//! Letters are strokes of our own pen ([`glyphs`]). A renderer of SVG, such as `resvg`, would need a font: of the machine, where
//! the same puzzle would look different elsewhere, or in the program, larger than all the rest of this module's code.

use image::RgbImage;
use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Rect, Stroke, Transform};

use super::glyphs;
use super::{Anchor, Colour, Picture, PictureError, Shape};

/// Most pixels of a picture: 400 MB of memory.
const LIMIT: u64 = 100_000_000;

/// Draws a picture, `scale` pixels for each unit.
pub(super) fn draw(picture: &Picture, scale: f32) -> Result<RgbImage, PictureError> {
    // Casts of floats saturate, and NaN becomes 0.
    let pixels = |units: f32| (units * scale).ceil() as u32;
    let (width, height) = (pixels(picture.width), pixels(picture.height));
    let size = || PictureError::Size { limit: LIMIT, width: width.into(), height: height.into() };
    if !(1..=LIMIT).contains(&u64::from(width).saturating_mul(height.into())) {
        return Err(size());
    }
    let mut canvas = Canvas { pixels: Pixmap::new(width, height).ok_or_else(size)?, scale };
    canvas.pixels.fill(Color::WHITE);
    for shape in &picture.shapes {
        match shape {
            Shape::Rectangle { corner, size, fill } => canvas.rectangle(*corner, *size, *fill),
            Shape::Line { points, width, colour } => {
                canvas.lines(std::slice::from_ref(points), *width, *colour)
            }
            Shape::Text { at, anchor, height, bold, colour, text } => {
                canvas.text(*at, *anchor, *height, *bold, *colour, text);
            }
        }
    }
    // Nothing is transparent: red, green and blue are as they were painted.
    let rgb = canvas.pixels.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    RgbImage::from_raw(width, height, rgb).ok_or_else(size)
}

struct Canvas {
    pixels: Pixmap,
    scale: f32,
}

impl Canvas {
    fn scaled(&self) -> Transform {
        Transform::from_scale(self.scale, self.scale)
    }

    fn rectangle(&mut self, (x, y): (f32, f32), (width, height): (f32, f32), fill: Colour) {
        // A rectangle without a side covers nothing.
        if let Some(area) = Rect::from_xywh(x, y, width, height) {
            let path = PathBuilder::from_rect(area);
            self.pixels.fill_path(&path, &paint(fill), FillRule::Winding, self.scaled(), None);
        }
    }

    /// Polylines with round ends and joints.
    fn lines(&mut self, polylines: &[Vec<(f32, f32)>], width: f32, colour: Colour) {
        let mut path = PathBuilder::new();
        for points in polylines {
            let Some(&(x, y)) = points.first() else { continue };
            path.move_to(x, y);
            // A single point is a dot.
            for &(x, y) in points.iter().skip(usize::from(points.len() > 1)) {
                path.line_to(x, y);
            }
        }
        let stroke =
            Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        if let Some(path) = path.finish() {
            self.pixels.stroke_path(&path, &paint(colour), &stroke, self.scaled(), None);
        }
    }

    fn text(
        &mut self,
        (x, y): (f32, f32),
        anchor: Anchor,
        height: f32,
        bold: bool,
        colour: Colour,
        text: &str,
    ) {
        let unit = height / glyphs::HEIGHT;
        let advance = glyphs::ADVANCE * unit;
        let letters = text.chars().count() as f32;
        let width = letters.mul_add(advance, -(glyphs::ADVANCE - glyphs::WIDTH) * unit);
        let left = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::End => x - width,
        };
        let pen = unit * if bold { 1.9 } else { 1.3 };
        let strokes = text.chars().enumerate().flat_map(|(index, character)| {
            let (left, top) = ((index as f32).mul_add(advance, left), y - height / 2.0);
            let place = move |(u, v): (f32, f32)| (u.mul_add(unit, left), v.mul_add(unit, top));
            glyphs::strokes(character)
                .iter()
                .map(move |stroke| stroke.iter().copied().map(place).collect::<Vec<_>>())
        });
        let strokes: Vec<_> = strokes.collect();
        // A pen of less than a pixel is too faint to read.
        self.lines(&strokes, pen.max(1.0 / self.scale), colour);
    }
}

fn paint((r, g, b): Colour) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, 255);
    paint
}
