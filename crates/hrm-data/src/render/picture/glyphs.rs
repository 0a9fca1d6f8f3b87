//! The letters of pictures, as strokes of a pen: digits, the Latin alphabet and a few signs.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Height of a capital letter, in the units of the strokes.
pub(super) const HEIGHT: f32 = 10.0;
/// Width of a letter.
pub(super) const WIDTH: f32 = 6.0;
/// From one letter to the next.
pub(super) const ADVANCE: f32 = 8.6;

/// Letters, a line each with their strokes, y downwards. `L` is a line from point to point. `A` is an arc: centre, radii, and
/// the angles in degrees from where to where: 0 right, 90 down, 180 left, 270 up.
const LETTERS: &str = include_str!("letters.txt");

/// What stands for a letter that is not known: a box.
const UNKNOWN: char = '\u{fffd}';

type Polyline = Vec<(f32, f32)>;

static STROKES: LazyLock<HashMap<char, Vec<Polyline>>> =
    LazyLock::new(|| LETTERS.lines().filter_map(letter).collect());

/// The strokes of a letter as polylines.
pub(super) fn strokes(character: char) -> &'static [Polyline] {
    match STROKES.get(&character).or_else(|| STROKES.get(&UNKNOWN)) {
        Some(strokes) if character != ' ' => strokes,
        _ => &[],
    }
}

fn letter(line: &str) -> Option<(char, Vec<Polyline>)> {
    let mut characters = line.chars();
    let letter = characters.next()?;
    Some((letter, characters.as_str().split(';').map(stroke).collect::<Option<_>>()?))
}

fn stroke(text: &str) -> Option<Polyline> {
    let point = |text: &str| {
        let (x, y) = text.split_once(',')?;
        Some((x.parse().ok()?, y.parse().ok()?))
    };
    let (kind, points) = text.trim().split_once(' ')?;
    let points = points.split(' ').map(point).collect::<Option<Polyline>>()?;
    let (&[(x, y), (rx, ry), (from, to)], "A") = (points.as_slice(), kind) else { return Some(points) };
    let steps = 24;
    let angle = |i: i32| ((to - from) * i as f32 / steps as f32 + from).to_radians();
    Some((0..=steps).map(|i| (rx.mul_add(angle(i).cos(), x), ry.mul_add(angle(i).sin(), y))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_letter() {
        for line in LETTERS.lines() {
            assert!(letter(line).is_some_and(|(_, strokes)| !strokes.is_empty()), "{line}");
        }
        assert!(STROKES.len() == LETTERS.lines().count() && STROKES.contains_key(&UNKNOWN));
    }

    #[test]
    fn letters_differ_and_keep_their_box() {
        let all: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
        for (index, &a) in all.iter().enumerate() {
            assert!(!strokes(a).is_empty());
            assert_ne!(strokes(a), strokes('\u{1}'), "{a} is drawn, not boxed");
            assert!(all[..index].iter().all(|&b| strokes(a) != strokes(b)), "{a}");
            for (x, y) in strokes(a).concat() {
                assert!((-1.0..=7.0).contains(&x) && (-0.1..=12.9).contains(&y), "{a}: {x}, {y}");
            }
        }
    }
}
