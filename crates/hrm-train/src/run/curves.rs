//! A run's measurements as curves, several runs over one another.

use hrm_data::render::{Axis, Chart, Picture, Series, Trace, charts};

use super::history::{History, Over};

/// What to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct CurveOptions {
    /// A panel for each: a tag (`train/lm_loss`), or a name that stands for every tag that ends in it (`lm_loss`).
    /// Empty for [`DEFAULT_METRICS`].
    pub metrics: Vec<String>,
    /// The horizontal axis.
    pub over: Over,
    /// Points of a training curve at most: each is the mean of a stretch of steps.
    pub points: usize,
    /// Above the panels.
    pub title: String,
}

impl Default for CurveOptions {
    fn default() -> Self {
        Self { metrics: Vec::new(), over: Over::Step, points: 200, title: String::new() }
    }
}

/// What is drawn unless something is asked for, with what it is called.
pub const DEFAULT_METRICS: [(&str, &str); 4] = [
    ("loss", "training loss per puzzle"),
    ("exact_accuracy", "exact accuracy"),
    ("train/mean_steps", "steps until a puzzle halts"),
    ("q_halt_accuracy", "q head is right"),
];

/// The curves of runs, each under its name; `None` if they hold nothing of what is asked for.
pub fn picture(runs: &[(String, History)], options: &CurveOptions) -> Option<Picture> {
    let metrics: Vec<(&str, &str)> = match options.metrics.as_slice() {
        [] => DEFAULT_METRICS.to_vec(),
        metrics => metrics.iter().map(|metric| (metric.as_str(), metric.as_str())).collect(),
    };
    let panels: Vec<Chart> =
        metrics.iter().filter_map(|(metric, title)| panel(runs, metric, title, options)).collect();
    let columns = if panels.len() > 1 { 2 } else { 1 };
    (!panels.is_empty()).then(|| charts(&options.title, &panels, columns))
}

fn panel(runs: &[(String, History)], metric: &str, title: &str, options: &CurveOptions) -> Option<Chart> {
    let (mut training, mut evaluation) = (Vec::new(), Vec::new());
    for (index, (name, history)) in runs.iter().enumerate() {
        let colour = Series::COLOURS[index % Series::COLOURS.len()];
        let is_asked_for = |tag: &String| tag == metric || tag.rsplit('/').next() == Some(metric);
        let tags: Vec<String> = history.tags().into_iter().filter(is_asked_for).collect();
        let is_training = |tag: &str| tag.starts_with("train/");
        let also_evaluated = tags.iter().any(|tag| !is_training(tag));
        for tag in tags {
            let points = history.curve(&tag, options.over);
            let (name, points) = (name.clone(), averaged(points, options.points.max(2)));
            if is_training(&tag) {
                let colour = if also_evaluated { Series::faint(colour) } else { colour };
                // Where both are drawn, the legend shows the evaluation's colour.
                let name = if also_evaluated { String::new() } else { name };
                training.push(Series { name, colour, trace: Trace::Line, points });
            } else {
                evaluation.push(Series { name, colour, trace: Trace::Marked, points });
            }
        }
    }
    if training.is_empty() && evaluation.is_empty() {
        return None;
    }
    let title = match (training.is_empty(), evaluation.is_empty()) {
        (false, false) => format!("{title} (dots: held out)"),
        (true, false) => format!("{title} (held out)"),
        _ => title.to_owned(),
    };
    let share = metric.ends_with("accuracy");
    let label = match options.over {
        Over::Step => "step",
        Over::Epoch => "epoch",
        Over::Hours => "hours of training",
    };
    training.extend(evaluation);
    Some(Chart {
        title,
        x: Axis { label: label.to_owned(), ..Axis::default() },
        y: Axis { percent: share, range: share.then_some((0.0, 1.0)), ..Axis::default() },
        series: training,
    })
}

/// At most `count` points, each the mean of neighbours.
fn averaged(points: Vec<(f64, f64)>, count: usize) -> Vec<(f64, f64)> {
    let stretch = points.len().div_ceil(count).max(1);
    let mean = |part: &[(f64, f64)]| {
        let sum = part.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        (sum.0 / part.len() as f64, sum.1 / part.len() as f64)
    };
    points.chunks(stretch).map(mean).collect()
}
