//! A picture as SVG.

use std::fmt::Write as _;

use super::{Anchor, Colour, Picture, Shape};

/// What ends a document.
pub(super) const TAIL: &str = "</svg>\n";

pub(super) fn write(picture: &Picture) -> String {
    let mut out = head(picture.size());
    picture.shapes.iter().for_each(|shape| self::shape(&mut out, shape));
    out + TAIL
}

/// What begins a document: its size and a white ground.
pub(super) fn head((width, height): (f32, f32)) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"Helvetica, Arial, sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    )
}

/// One shape.
pub(super) fn shape(out: &mut String, shape: &Shape) {
    // Writing to a String cannot fail.
    let _ = match shape {
        Shape::Rectangle { corner: (x, y), size: (width, height), fill } => {
            let fill = hex(*fill);
            writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"/>")
        }
        Shape::Line { points, width, colour } => {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
            let (points, colour) = (points.join(" "), hex(*colour));
            writeln!(
                out,
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linecap=\"round\" stroke-linejoin=\"round\"/>"
            )
        }
        Shape::Text { at: (x, y), anchor, height, bold, colour, text } => {
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let weight = if *bold { " font-weight=\"bold\"" } else { "" };
            // A capital letter is 0.72 of the font size high.
            let (size, base, colour, text) = (height / 0.72, y + height / 2.0, hex(*colour), escaped(text));
            writeln!(
                out,
                "<text x=\"{x}\" y=\"{base:.2}\" font-size=\"{size:.2}\"{anchor}{weight} fill=\"{colour}\">{text}</text>"
            )
        }
    };
}

fn hex((r, g, b): Colour) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Text between tags. Control characters are not allowed in XML at all.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
