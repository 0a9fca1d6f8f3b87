//! Curves over an axis: panels beside and below one another, with one legend.

use super::glyphs::{ADVANCE, HEIGHT};
use super::{Anchor, Colour, INK, Picture};

/// One panel of a picture of curves.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What stands above it: what is drawn.
    pub title: String,
    /// Left to right.
    pub x: Axis,
    /// Bottom to top.
    pub y: Axis,
    /// The curves; later ones cover earlier ones.
    pub series: Vec<Series>,
}

/// One direction of a [`Chart`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// What it measures. Only the horizontal one is labelled; the vertical one is the chart's title.
    pub label: String,
    /// Where values go.
    pub scale: Scale,
    /// From where to where; `None` for what the points need.
    pub range: Option<(f64, f64)>,
    /// Whether 0.5 is written `50 %`.
    pub percent: bool,
}

/// Where the values of an [`Axis`] go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    #[default]
    Linear,
    /// Equal ratios are equally far apart; values that are not above 0 are left out.
    Log,
}

/// A curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend; empty for none. Curves of one name in several panels share an entry.
    pub name: String,
    /// Colour of the line.
    pub colour: Colour,
    /// How it is drawn.
    pub trace: Trace,
    /// From left to right; a point that is not finite interrupts the line.
    pub points: Vec<(f64, f64)>,
}

/// How a [`Series`] is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// A thin line.
    Line,
    /// A thick line with a dot at each point, for few points.
    Marked,
}

impl Series {
    /// Colours that are told apart in print and by most colour-blind readers (Okabe and Ito).
    pub const COLOURS: [Colour; 7] = [
        (0, 114, 178),
        (213, 94, 0),
        (0, 158, 115),
        (204, 121, 167),
        (230, 159, 0),
        (86, 180, 233),
        (90, 90, 90),
    ];

    /// The colour half way to white, for what belongs to another curve.
    pub fn faint((r, g, b): Colour) -> Colour {
        let half = |value: u8| value / 2 + 127;
        (half(r), half(g), half(b))
    }
}

/// Size of a panel's frame, in units.
const FRAME: (f32, f32) = (380.0, 220.0);
/// Room around the frame: left for numbers, above for the title, right, below for numbers and label.
const MARGIN: (f32, f32, f32, f32) = (64.0, 34.0, 20.0, 50.0);
/// Height of a capital letter.
const TEXT: f32 = 9.0;
const LEGEND_LINE: f32 = 20.0;
const GRID: Colour = (226, 226, 230);
const GREY: Colour = (110, 112, 122);

/// Draws panels, `columns` side by side, below a title (if it is not empty) and a legend of every named curve.
pub fn charts(title: &str, panels: &[Chart], columns: usize) -> Picture {
    let columns = columns.clamp(1, panels.len().max(1));
    let (left, top, right, bottom) = MARGIN;
    let (panel_width, panel_height) = (left + FRAME.0 + right, top + FRAME.1 + bottom);
    let width = columns as f32 * panel_width;
    let mut names: Vec<(&str, Colour, Trace)> = Vec::new();
    for series in panels.iter().flat_map(|panel| &panel.series).filter(|series| !series.name.is_empty()) {
        if !names.iter().any(|(name, ..)| *name == series.name) {
            names.push((&series.name, series.colour, series.trace));
        }
    }
    let legend = place_legend(&names, width - left - right);
    let lines = legend.last().map_or(0, |(line, _)| line + 1);
    let title_height = if title.is_empty() { 8.0 } else { 30.0 };
    let head = (lines as f32).mul_add(LEGEND_LINE, title_height);
    let rows = panels.len().div_ceil(columns);
    let mut picture = Picture::new(width, (rows as f32).mul_add(panel_height, head));
    if !title.is_empty() {
        picture.text((left, 18.0), Anchor::Start, 11.0, true, INK, title);
    }
    for ((name, colour, trace), (line, x)) in names.iter().zip(legend) {
        let (x, y) = (left + x, (line as f32 + 0.5).mul_add(LEGEND_LINE, title_height));
        draw_curve(&mut picture, &[(x, y), (x + 11.0, y), (x + 22.0, y)], *trace, *colour);
        picture.text((x + 30.0, y), Anchor::Start, TEXT, false, INK, name);
    }
    for (index, panel) in panels.iter().enumerate() {
        let corner = (
            (index % columns) as f32 * panel_width + left,
            ((index / columns) as f32).mul_add(panel_height, head + top),
        );
        draw_panel(&mut picture, panel, corner);
    }
    picture
}

fn text_width(text: &str) -> f32 {
    text.chars().count() as f32 * ADVANCE * TEXT / HEIGHT
}

/// Line and horizontal place of each entry.
fn place_legend(names: &[(&str, Colour, Trace)], width: f32) -> Vec<(usize, f32)> {
    let (mut line, mut x) = (0, 0.0);
    let mut places = Vec::new();
    for (name, ..) in names {
        let entry = text_width(name) + 50.0;
        if x > 0.0 && x + entry > width {
            (line, x) = (line + 1, 0.0);
        }
        places.push((line, x));
        x += entry;
    }
    places
}

fn draw_curve(picture: &mut Picture, points: &[(f32, f32)], trace: Trace, colour: Colour) {
    match trace {
        Trace::Line => picture.line(points, 1.2, colour),
        Trace::Marked => {
            picture.line(points, 2.2, colour);
            for point in points {
                picture.line(&[*point, *point], 5.6, colour);
            }
        }
    }
}

fn draw_panel(picture: &mut Picture, chart: &Chart, (left, top): (f32, f32)) {
    let (width, height) = FRAME;
    picture.text((left, top - 16.0), Anchor::Start, TEXT + 1.0, true, INK, &chart.title);
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let x = Scaled::new(&chart.x, points().map(|point| point.0));
    let y = Scaled::new(&chart.y, points().map(|point| point.1));
    for (value, text) in x.ticks(6) {
        let at = (x.place(value) as f32).mul_add(width, left);
        picture.line(&[(at, top), (at, top + height)], 0.8, GRID);
        picture.text((at, top + height + 14.0), Anchor::Middle, TEXT - 1.0, false, GREY, text);
    }
    for (value, text) in y.ticks(5) {
        let at = (1.0 - y.place(value) as f32).mul_add(height, top);
        picture.line(&[(left, at), (left + width, at)], 0.8, GRID);
        picture.text((left - 8.0, at), Anchor::End, TEXT - 1.0, false, GREY, text);
    }
    picture.line(&[(left, top), (left, top + height), (left + width, top + height)], 1.0, GREY);
    let label = (left + width / 2.0, top + height + 34.0);
    picture.text(label, Anchor::Middle, TEXT - 1.0, false, GREY, &chart.x.label);
    for series in &chart.series {
        let place = |&(px, py): &(f64, f64)| {
            let (px, py) = (x.place(px), y.place(py));
            let at = ((px as f32).mul_add(width, left), (1.0 - py as f32).mul_add(height, top));
            (px.is_finite() && py.is_finite()).then_some(at)
        };
        let places: Vec<Option<(f32, f32)>> = series.points.iter().map(place).collect();
        for run in places.split(Option::is_none).filter(|run| !run.is_empty()) {
            let run: Vec<(f32, f32)> = run.iter().copied().flatten().collect();
            draw_curve(picture, &run, series.trace, series.colour);
        }
    }
}

/// An axis with its ends.
struct Scaled {
    scale: Scale,
    percent: bool,
    from: f64,
    to: f64,
}

impl Scaled {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let usable = |v: &f64| v.is_finite() && (axis.scale == Scale::Linear || *v > 0.0);
        let ends = values.filter(usable).fold(None, |ends: Option<(f64, f64)>, v| {
            Some(ends.map_or((v, v), |(low, high)| (low.min(v), high.max(v))))
        });
        let (mut from, mut to) = axis.range.or(ends).unwrap_or((0.0, 1.0));
        if axis.range.is_none() && axis.scale == Scale::Linear {
            // Close enough to 0 to show it.
            if from > 0.0 && from < 0.5 * to {
                from = 0.0;
            }
            let room = 0.04 * (to - from);
            to += room;
            if from != 0.0 {
                from -= room;
            }
        }
        if to - from <= 1e-12 * from.abs().max(to.abs()) || to <= from {
            let room = if from == 0.0 { 1.0 } else { 0.1 * from.abs() };
            (from, to) = (from - room, to + room);
        }
        Self { scale: axis.scale, percent: axis.percent, from, to }
    }

    /// From 0 to 1 within the ends; NaN for what has no place.
    fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value / self.from).ln() / (self.to / self.from).ln(),
        };
        // A value outside a given range stays on the frame.
        if share.is_nan() { share } else { share.clamp(0.0, 1.0) }
    }

    /// Round values with how they are written, about `count` of them.
    fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let values = match self.scale {
            Scale::Linear => {
                let rough = (self.to - self.from) / count as f64;
                let power = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= 0.8 * rough);
                let step = step.unwrap_or(10.0 * power);
                let first = (self.from / step - 1e-9).ceil() as i64;
                let last = (self.to / step + 1e-9).floor() as i64;
                (first..=last).map(|n| n as f64 * step).collect::<Vec<_>>()
            }
            Scale::Log => {
                let octaves = (self.to / self.from).log2();
                // Powers of 2 as far as there is room for them, powers of 10 beyond.
                let base: f64 = if octaves <= 1.5 * count as f64 { 2.0 } else { 10.0 };
                let first = (self.from.ln() / base.ln() - 1e-9).ceil() as i32;
                let last = (self.to.ln() / base.ln() + 1e-9).floor() as i32;
                (first..=last).map(|n| base.powi(n)).collect()
            }
        };
        values.into_iter().map(|value| (value, self.written(value))).collect()
    }

    fn written(&self, value: f64) -> String {
        let number = |value: f64| {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        match value.abs() {
            _ if self.percent => format!("{} %", number(value * 100.0)),
            size if size >= 1e6 => format!("{}M", number(value / 1e6)),
            size if size >= 1e4 => format!("{}k", number(value / 1e3)),
            size if size > 0.0 && size < 1e-3 => format!("{value:.0e}"),
            _ => number(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, range: Option<(f64, f64)>) -> Axis {
        Axis { label: "step".to_owned(), scale, range, percent: false }
    }

    fn written(axis: &Axis, values: &[f64], count: usize) -> Vec<String> {
        let ticks = Scaled::new(axis, values.iter().copied()).ticks(count);
        ticks.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round() {
        let linear = axis(Scale::Linear, None);
        assert_eq!(
            written(&linear, &[1.0, 1000.0], 5),
            ["0", "200", "400", "600", "800", "1000"].map(String::from)
        );
        assert_eq!(written(&linear, &[0.0, 60_000.0], 3), ["0", "20k", "40k", "60k"].map(String::from));
        assert_eq!(written(&linear, &[0.91, 0.94], 3), ["0.91", "0.92", "0.93", "0.94"].map(String::from));
        let log = axis(Scale::Log, None);
        assert_eq!(written(&log, &[0.0, 1.0, 16.0], 5), ["1", "2", "4", "8", "16"].map(String::from));
        assert_eq!(
            written(&log, &[1e-5, 1e-1], 5),
            ["1e-5", "1e-4", "0.001", "0.01", "0.1"].map(String::from)
        );
        let percent = Axis { percent: true, ..axis(Scale::Linear, Some((0.0, 1.0))) };
        assert_eq!(written(&percent, &[], 2), ["0 %", "50 %", "100 %"].map(String::from));
        // Nothing to draw, or one value only, still makes a scale.
        for values in [&[][..], &[3.0], &[0.0], &[f64::NAN]] {
            assert!(written(&linear, values, 5).len() > 1, "{values:?}");
        }
    }

    #[test]
    fn curves_land_where_they_belong() {
        let curve = |name: &str, colour, points: &[(f64, f64)]| Series {
            name: name.to_owned(),
            colour,
            trace: Trace::Line,
            points: points.to_vec(),
        };
        let unit = Some((0.0, 1.0));
        let panel = Chart {
            title: "loss".to_owned(),
            x: axis(Scale::Linear, unit),
            y: axis(Scale::Linear, unit),
            series: vec![
                curve("run", (255, 0, 0), &[(0.0, 0.0), (0.5, 0.5), (0.6, f64::NAN), (0.7, 1.0), (1.0, 1.0)]),
                curve("run", (255, 0, 0), &[]),
            ],
        };
        let picture = charts("two", &[panel.clone(), panel], 2);
        let svg = picture.svg();
        let (left, top) = (MARGIN.0, 30.0 + LEGEND_LINE + MARGIN.1);
        let bottom = top + FRAME.1;
        // Interrupted where there is no value.
        let middle = (left + FRAME.0 / 2.0, top + FRAME.1 / 2.0);
        assert!(svg.contains(&format!("points=\"{left},{bottom} {},{}\"", middle.0, middle.1)), "{svg}");
        assert!(svg.contains(&format!("points=\"{},{top} {},{top}\"", left + FRAME.0 * 0.7, left + FRAME.0)));
        assert_eq!(svg.matches(">run</text>").count(), 1, "one entry in the legend");
        assert_eq!(svg.matches(">loss</text>").count(), 2);
        assert!(picture.png(1.0).is_ok());
    }
}
