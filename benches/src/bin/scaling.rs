//! How the time of a segment grows with batch, sequence, width and depth: a table, a CSV and a picture.
//!
//! Usage: `scaling OUT [GFLOP]`, which writes OUT.csv and OUT.svg. Sizes whose segment takes more than so many GFLOP are left
//! out: 100 gives a first look in a minute.

use std::{env, error::Error, fmt::Write, fs, time::Instant};

use burn::tensor::{Int, Tensor, TensorData};
use hrm_benches::B;
use hrm_data::render::{self, Axis, Chart, Scale, Trace, charts};
use hrm_model::{Hrm, ModelConfig, act::Carry};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: hrm_backend::TensorAllocator = hrm_backend::TensorAllocator::new();

const GREY: (u8, u8, u8) = (150, 150, 150);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One size that grows, the others fixed.
struct Series {
    name: &'static str,
    fixed: &'static str,
    sizes: &'static [usize],
    config: fn(usize) -> (ModelConfig, usize),
}

fn paper(seq: usize, hidden: usize, layers: usize) -> ModelConfig {
    ModelConfig::new(11, seq)
        .with_hidden_size(hidden)
        .with_num_heads(hidden / 64)
        .with_layers(layers, layers)
        .with_cycles(2, 2)
}

const SERIES: [Series; 4] = [
    Series {
        name: "batch",
        fixed: "the paper's model, 81 cells",
        sizes: &[1, 2, 4, 8, 16, 32, 64, 128, 256, 768],
        config: |n| (paper(81, 512, 4), n),
    },
    Series {
        name: "sequence",
        fixed: "the paper's model, batch 4",
        sizes: &[16, 36, 81, 144, 256, 400, 625, 900],
        config: |n| (paper(n, 512, 4), 4),
    },
    Series {
        name: "hidden",
        fixed: "4 + 4 blocks, 81 cells, batch 16",
        sizes: &[128, 192, 256, 384, 512, 640, 768, 1024],
        config: |n| (paper(81, n, 4), 16),
    },
    Series {
        name: "blocks of each module",
        fixed: "hidden 512, 81 cells, batch 16",
        sizes: &[1, 2, 3, 4, 6, 8],
        config: |n| (paper(81, 512, n), 16),
    },
];

struct Point {
    size: usize,
    seconds: f64,
    gflop: f64,
}

fn main() -> Result<()> {
    let usage = "usage: scaling OUT [GFLOP]";
    let out = env::args().nth(1).ok_or(usage)?;
    let limit: f64 = match env::args().nth(2) {
        Some(limit) => limit.parse().map_err(|_| format!("{usage}: `{limit}` is not a number"))?,
        None => f64::INFINITY,
    };
    let mut csv = "series,size,milliseconds,gflop_per_s\n".to_owned();
    let mut measured = Vec::new();
    for series in &SERIES {
        println!("{} ({})", series.name, series.fixed);
        let mut points = Vec::new();
        for &size in series.sizes {
            let (config, batch) = (series.config)(size);
            let gflop = segment_gflop(&config) * batch as f64;
            if gflop > limit {
                continue;
            }
            let seconds = measure(&config, batch)?;
            println!("{size:>6} {:>10.1} ms {:>6.0} GFLOP/s", seconds * 1e3, gflop / seconds);
            writeln!(csv, "{},{size},{:.3},{:.1}", series.name, seconds * 1e3, gflop / seconds)?;
            points.push(Point { size, seconds, gflop });
        }
        if points.len() < 2 {
            return Err(format!("{}: {limit} GFLOP leave no two sizes to compare", series.name).into());
        }
        measured.push((series, points));
    }
    fs::write(format!("{out}.csv"), csv)?;
    draw(&format!("{out}.svg"), &measured)
}

/// Multiplications and additions of a segment's products, in 10^9, for one sequence.
fn segment_gflop(config: &ModelConfig) -> f64 {
    let (seq, hidden, inter) = (config.total_len(), config.hidden_size, config.intermediate_size());
    let block = 2 * seq * hidden * (4 * hidden + 3 * inter) + 4 * seq * seq * hidden;
    let blocks = config.h_cycles * (config.l_cycles * config.l_layers + config.h_layers);
    1e-9 * (blocks * block) as f64
}

fn measure(config: &ModelConfig, batch: usize) -> Result<f64> {
    let device = Default::default();
    let model: Hrm<B> = config.init(&mut ChaCha8Rng::seed_from_u64(0), &device)?;
    let tokens: Vec<i32> = (0..batch * config.seq_len).map(|i| 1 + (i * 7919 % 10) as i32).collect();
    let tokens: Tensor<B, 2, Int> =
        Tensor::from_data(TensorData::new(tokens, [batch, config.seq_len]), &device);
    let carry = Carry::fresh(&model, tokens, Tensor::zeros([batch], &device));
    let mut seconds = Vec::new();
    while seconds.len() < 3 || (seconds.len() < 15 && seconds.iter().sum::<f64>() < 1.0) {
        let start = Instant::now();
        model.segment(carry.clone()).1.q_halt.into_data();
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.remove(0); // packs the weights
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

fn draw(path: &str, measured: &[(&Series, Vec<Point>)]) -> Result<()> {
    let axis = |label: &str| Axis { label: label.to_owned(), scale: Scale::Log, ..Axis::default() };
    let curve =
        |name: &str, colour, trace, points| render::Series { name: name.to_owned(), colour, trace, points };
    let panels: Vec<Chart> = measured
        .iter()
        .map(|(series, points)| {
            let rate = points.iter().map(|p| p.gflop / p.seconds).fold(0.0, f64::max);
            let times =
                |time: &dyn Fn(&Point) -> f64| points.iter().map(|p| (p.size as f64, time(p))).collect();
            Chart {
                title: format!("ms a segment: {}, at most {rate:.0} GFLOP/s", series.fixed),
                x: axis(series.name),
                y: axis(""),
                series: vec![
                    curve(
                        "products alone, at the best rate",
                        GREY,
                        Trace::Line,
                        times(&|p| p.gflop / rate * 1e3),
                    ),
                    curve("measured", render::Series::COLOURS[0], Trace::Marked, times(&|p| p.seconds * 1e3)),
                ],
            }
        })
        .collect();
    fs::write(path, charts("", &panels, 2).svg())?;
    println!("{path}");
    Ok(())
}
