//! Pictures one after the other: animated GIF, animated SVG.

use std::fmt::Write as _;
use std::io::Cursor;

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame};

use super::{Picture, PictureError, Shape, raster, svg};

/// Pictures of one size, each with the seconds that it stands. It begins again at its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Film {
    frames: Vec<(Picture, f32)>,
}

impl Film {
    /// Adds a picture at the end.
    pub fn push(&mut self, picture: Picture, seconds: f32) {
        self.frames.push((picture, seconds));
    }

    /// Width and height, in units.
    pub fn size(&self) -> (f32, f32) {
        self.frames.iter().fold((0.0f32, 0.0f32), |(width, height), (picture, _)| {
            (width.max(picture.width), height.max(picture.height))
        })
    }

    /// The film as an animated GIF, `scale` pixels for each unit.
    ///
    /// # Errors
    /// [`PictureError`] if a picture makes no pixel or too many, or there is no picture.
    pub fn gif(&self, scale: f32) -> Result<Vec<u8>, PictureError> {
        let fail = |error: image::ImageError| PictureError::Encode(error.to_string());
        if self.frames.is_empty() {
            return Err(PictureError::Encode("a film without pictures".to_owned()));
        }
        let mut bytes = Cursor::new(Vec::new());
        // 10: of the slowest and best palettes (1) and the quickest (30), good enough for a few colours.
        let mut encoder = GifEncoder::new_with_speed(&mut bytes, 10);
        encoder.set_repeat(Repeat::Infinite).map_err(fail)?;
        for (picture, seconds) in &self.frames {
            let pixels = DynamicImage::from(raster::draw(picture, scale)?).into_rgba8();
            let delay = Delay::from_numer_denom_ms((seconds * 1e3) as u32, 1);
            encoder.encode_frame(Frame::from_parts(pixels, 0, 0, delay)).map_err(fail)?;
        }
        drop(encoder);
        Ok(bytes.into_inner())
    }

    /// The film as a document of its own, SVG with SMIL. What several pictures share stands in it once.
    pub fn svg(&self) -> String {
        let total: f32 = self.frames.iter().map(|(_, seconds)| seconds).sum();
        let mut ends = Vec::new();
        let mut end = 0.0;
        for (_, seconds) in &self.frames {
            end += seconds / total;
            ends.push(end);
        }
        let mut out = svg::head(self.size());
        let mut rest = self.layers().into_iter().peekable();
        while let Some((shape, seen)) = rest.next() {
            let always = seen.iter().all(|seen| *seen);
            if !always {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "<g display=\"none\">{}", animate(&seen, &ends, total));
            }
            svg::shape(&mut out, &shape);
            while let Some((shape, _)) = rest.next_if(|(_, next)| *next == seen) {
                svg::shape(&mut out, &shape);
            }
            if !always {
                out.push_str("</g>\n");
            }
        }
        out + svg::TAIL
    }

    /// The shapes of all pictures from the lowest to the uppermost, each with the pictures in which it is seen.
    fn layers(&self) -> Vec<(Shape, Vec<bool>)> {
        let mut layers: Vec<(Shape, Vec<bool>)> = Vec::new();
        for (index, (picture, _)) in self.frames.iter().enumerate() {
            let mut above = 0;
            for shape in &picture.shapes {
                let known = layers[above..].iter().position(|(known, _)| known == shape);
                let at = above + known.unwrap_or(0);
                if known.is_none() {
                    layers.insert(at, (shape.clone(), vec![false; self.frames.len()]));
                }
                layers[at].1[index] = true;
                above = at + 1;
            }
        }
        layers
    }
}

/// Shows a group in some of the pictures; `ends` are their ends as shares of the whole.
fn animate(seen: &[bool], ends: &[f32], total: f32) -> String {
    let display = |seen: bool| if seen { "inline" } else { "none" };
    let mut values = display(seen[0]).to_owned();
    let mut times = "0".to_owned();
    for (pair, end) in seen.windows(2).zip(ends) {
        if pair[0] != pair[1] {
            let _ = write!(values, ";{}", display(pair[1]));
            let _ = write!(times, ";{end:.4}");
        }
    }
    format!(
        "<animate attributeName=\"display\" values=\"{values}\" keyTimes=\"{times}\" dur=\"{total:.2}s\" calcMode=\"discrete\" repeatCount=\"indefinite\"/>"
    )
}

#[cfg(test)]
mod tests {
    use image::AnimationDecoder;
    use image::codecs::gif::GifDecoder;

    use super::*;

    const RED: (u8, u8, u8) = (255, 0, 0);
    const BLUE: (u8, u8, u8) = (0, 0, 255);

    /// A blue square that stays, under a red one that moves to the right.
    fn film() -> Film {
        let mut film = Film::default();
        for x in 0..3u8 {
            let mut picture = Picture::new(30.0, 10.0);
            picture.rectangle((f32::from(x) * 10.0, 0.0), (10.0, 10.0), RED);
            picture.rectangle((0.0, 5.0), (30.0, 5.0), BLUE);
            film.push(picture, 0.5 + f32::from(x));
        }
        film
    }

    #[test]
    fn a_gif_has_every_picture_and_its_time() {
        let bytes = film().gif(1.0).unwrap();
        let frames = GifDecoder::new(Cursor::new(bytes)).unwrap().into_frames().collect_frames().unwrap();
        assert_eq!(frames.len(), 3);
        for (index, frame) in frames.iter().enumerate() {
            assert_eq!(frame.delay().numer_denom_ms(), (500 + 1000 * index as u32, 1));
            assert_eq!(frame.buffer().dimensions(), (30, 10));
            for x in 0..3 {
                let expected = if x as usize == index { [255, 0, 0, 255] } else { [255; 4] };
                assert_eq!(frame.buffer().get_pixel(x * 10 + 5, 2).0, expected);
                assert_eq!(frame.buffer().get_pixel(x * 10 + 5, 8).0, [0, 0, 255, 255]);
            }
        }
        assert!(Film::default().gif(1.0).is_err());
        assert!(film().gif(1e6).is_err());
    }

    #[test]
    fn an_svg_draws_once_what_stays() {
        let svg = film().svg();
        assert_eq!(svg.matches("#0000ff").count(), 1);
        assert_eq!((svg.matches("#ff0000").count(), svg.matches("<animate").count()), (3, 3));
        assert!(svg.contains("values=\"inline;none\" keyTimes=\"0;0.1111\" dur=\"4.50s\""), "{svg}");
        assert!(svg.contains("values=\"none;inline;none\" keyTimes=\"0;0.1111;0.4444\""), "{svg}");
        assert!(svg.contains("values=\"none;inline\" keyTimes=\"0;0.4444\""), "{svg}");
        // The blue one is above all red ones.
        assert!(svg.rfind("#ff0000") < svg.find("#0000ff"));
        let mut still = Film::default();
        still.push(film().frames.remove(0).0, 1.0);
        assert!(!still.svg().contains("<animate"));
    }
}
