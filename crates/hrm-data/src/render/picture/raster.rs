//! A picture as pixels: every shape is blended in by how much of each pixel it covers.

use super::glyphs;
use super::{Anchor, Colour, Picture, PictureError, Shape};

/// Most pixels of a picture: 300 MB of memory.
const LIMIT: u64 = 100_000_000;

pub(super) fn write(picture: &Picture, scale: f32) -> Result<Vec<u8>, PictureError> {
    // Casts of floats saturate, and NaN becomes 0.
    let pixels = |units: f32| u64::from((units * scale).ceil() as u32);
    let (width, height) = (pixels(picture.width), pixels(picture.height));
    if !(1..=LIMIT).contains(&width.saturating_mul(height)) {
        return Err(PictureError::Size { limit: LIMIT, width, height });
    }
    let mut raster = Raster::new(width as usize, height as usize);
    let point = |(x, y): (f32, f32)| (x * scale, y * scale);
    for shape in &picture.shapes {
        match shape {
            Shape::Rectangle { corner, size, fill } => {
                raster.rectangle(point(*corner), point(*size), *fill);
            }
            Shape::Line { points, width, colour } => {
                let points: Vec<_> = points.iter().copied().map(point).collect();
                raster.polyline(&points, width * scale, *colour);
            }
            Shape::Text { at, anchor, height, bold, colour, text } => {
                raster.text(point(*at), *anchor, height * scale, *bold, *colour, text);
            }
        }
    }
    raster.encode()
}

struct Raster {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Raster {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![255; width * height * 3] }
    }

    fn encode(&self) -> Result<Vec<u8>, PictureError> {
        let fail = |error: png::EncodingError| PictureError::Encode(error.to_string());
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(fail)?;
        writer.write_image_data(&self.rgb).map_err(fail)?;
        writer.finish().map_err(fail)?;
        Ok(bytes)
    }

    /// Blends a colour in wherever `coverage` of a pixel's centre is above 0, within a box.
    fn blend(
        &mut self,
        (left, top): (f32, f32),
        (right, bottom): (f32, f32),
        colour: Colour,
        coverage: impl Fn(f32, f32) -> f32,
    ) {
        let columns = left.floor() as usize..(right.ceil().max(0.0) as usize).min(self.width);
        let rows = top.floor() as usize..(bottom.ceil().max(0.0) as usize).min(self.height);
        for y in rows {
            for x in columns.clone() {
                let share = coverage(x as f32 + 0.5, y as f32 + 0.5).clamp(0.0, 1.0);
                if share > 0.0 {
                    let at = (y * self.width + x) * 3;
                    for (slot, to) in self.rgb[at..at + 3].iter_mut().zip([colour.0, colour.1, colour.2]) {
                        let from = f32::from(*slot);
                        *slot = (f32::from(to) - from).mul_add(share, from).round() as u8;
                    }
                }
            }
        }
    }

    fn rectangle(&mut self, (x, y): (f32, f32), (width, height): (f32, f32), colour: Colour) {
        let (right, bottom) = (x + width, y + height);
        // The share of a pixel's side between two bounds.
        let overlap =
            |centre: f32, from: f32, to: f32| ((centre + 0.5).min(to) - (centre - 0.5).max(from)).max(0.0);
        self.blend((x, y), (right, bottom), colour, |px, py| overlap(px, x, right) * overlap(py, y, bottom));
    }

    fn polyline(&mut self, points: &[(f32, f32)], width: f32, colour: Colour) {
        let single = points.first().filter(|_| points.len() == 1).map(|&p| [p, p]);
        let segments = points.windows(2).map(|w| [w[0], w[1]]).chain(single);
        for [from, to] in segments {
            self.segment(from, to, width, colour);
        }
    }

    fn segment(&mut self, (x0, y0): (f32, f32), (x1, y1): (f32, f32), width: f32, colour: Colour) {
        let radius = width / 2.0;
        let reach = radius + 1.0;
        let (dx, dy) = (x1 - x0, y1 - y0);
        let length = dx.mul_add(dx, dy * dy);
        self.blend(
            (x0.min(x1) - reach, y0.min(y1) - reach),
            (x0.max(x1) + reach, y0.max(y1) + reach),
            colour,
            |px, py| {
                let along = (px - x0).mul_add(dx, (py - y0) * dy);
                let t = if length > 0.0 { (along / length).clamp(0.0, 1.0) } else { 0.0 };
                let distance = (px - t.mul_add(dx, x0)).hypot(py - t.mul_add(dy, y0));
                radius + 0.5 - distance
            },
        );
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
        for (index, character) in text.chars().enumerate() {
            let corner = ((index as f32).mul_add(advance, left), y - height / 2.0);
            for stroke in glyphs::strokes(character) {
                let points: Vec<_> = stroke
                    .iter()
                    .map(|(u, v)| (u.mul_add(unit, corner.0), v.mul_add(unit, corner.1)))
                    .collect();
                self.polyline(&points, pen.max(1.0), colour);
            }
        }
    }
}
