//! Weights of a narrower model as those of a wider one that computes the same (Net2Net, Chen et al. 2016, arXiv 1511.05641), so that what was
//! learned need not be learned again.

use burn::tensor::{TensorData, backend::Backend};

use crate::{Hrm, Mixer, weights::StateDict};

/// A square of a matrix: where it begins, and how large it is.
type Part = ([usize; 2], [usize; 2]);

/// A matrix in rows.
struct Matrix {
    cols: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// Of a vector, one row.
    fn of(data: &TensorData) -> Self {
        let cols = data.shape.last().copied().unwrap_or(1);
        Self { cols, values: data.iter::<f32>().collect() }
    }

    fn rows(&self) -> usize {
        self.values.len() / self.cols.max(1)
    }

    /// Sets a part to what `value` gives for each place in it.
    fn fill(&mut self, (start, size): Part, value: impl Fn(usize, usize) -> f32) {
        for row in 0..size[0] {
            for col in 0..size[1] {
                self.values[(start[0] + row) * self.cols + start[1] + col] = value(row, col);
            }
        }
    }

    /// Copies a part of another matrix, multiplied.
    fn copy(&mut self, start: [usize; 2], other: &Self, (from, size): Part, factor: f32) {
        self.fill((start, size), |row, col| {
            factor * other.values[(from[0] + row) * other.cols + from[1] + col]
        });
    }
}

impl<B: Backend> Hrm<B> {
    /// The weights of a narrower model, widened to this one's sizes; what is new is taken from this model's own weights where it changes
    /// nothing, and is 0 elsewhere. As they are if they are not those of a narrower model that mixes by groups.
    ///
    /// New columns of the state begin at 0, so RMSNorm makes the old ones larger by `sqrt(new / old)`; what reads them is divided by that.
    pub fn widened(&self, dict: StateDict) -> StateDict {
        let config = self.config();
        let (hidden, width) = (config.hidden_size, config.group_width);
        let length = |name: &str| dict.get(name).and_then(|data| data.shape.first().copied());
        let old = (length("H_init"), length("L_level.layers.0.groups.in_proj.weight"));
        let (Some(old_hidden), Some(old_width)) = old else { return dict };
        let narrower =
            old_hidden <= hidden && old_width <= width && (old_hidden, old_width) != (hidden, width);
        let own = self.state_dict();
        let other_names = !own.keys().eq(dict.keys());
        if config.mixer != Mixer::Groups || !narrower || other_names {
            return dict;
        }
        let grown = (hidden as f32 / old_hidden as f32).sqrt();
        let widen = |name: String, narrow: TensorData| {
            let shape = own[&name].shape.clone();
            let mut new = Matrix::of(&own[&name]);
            let old = Matrix::of(&narrow);
            let (all, all_old) = (([0; 2], [new.rows(), new.cols]), ([0; 2], [old.rows(), old.cols]));
            let kind = name.rsplit('.').nth(1).unwrap_or(&name);
            match kind {
                // Every other weight may stay: it reads columns of the state that are 0, or is read by none.
                "in_proj" if old.rows() <= new.rows() => new.copy([0; 2], &old, all_old, 1.0 / grown),
                "gate_up_proj" => {
                    let (half, old_half) = (new.rows() / 2, old.rows() / 2);
                    let kinds = (old.cols - old_hidden) / old_width;
                    if hidden + kinds * width != new.cols || old_half > half {
                        return (name, narrow);
                    }
                    for (row, from) in [(0, 0), (half, old_half)] {
                        let state = ([from, 0], [old_half, old_hidden]);
                        new.copy([row, 0], &old, state, 1.0 / grown);
                        // Old units read nothing new of the groups.
                        new.fill(([row, hidden], [old_half, kinds * width]), |_, _| 0.0);
                        for kind in 0..kinds {
                            let part = ([from, old_hidden + kind * old_width], [old_half, old_width]);
                            new.copy([row, hidden + kind * width], &old, part, 1.0);
                        }
                    }
                }
                // Vectors of a node, one after the other.
                "puzzle_emb" if new.cols / hidden * old_hidden == old.cols && old.rows() <= new.rows() => {
                    new.fill(all, |_, _| 0.0);
                    for vector in 0..new.cols / hidden {
                        let part = ([0, vector * old_hidden], [old.rows(), old_hidden]);
                        new.copy([0, vector * hidden], &old, part, 1.0);
                    }
                }
                _ if old.rows() > new.rows() || old.cols > new.cols => return (name, narrow),
                _ => {
                    let factor = match kind {
                        "H_init" | "L_init" | "down_proj" => grown,
                        "lm_head" | "q_head" if name.ends_with("weight") => 1.0 / grown,
                        // The embedding is multiplied by the square root of the width.
                        _ => 1.0,
                    };
                    new.fill(all, |_, _| 0.0);
                    new.copy([0; 2], &old, all_old, factor);
                }
            }
            (name, TensorData::new(new.values, shape))
        };
        dict.into_iter().map(|(name, narrow)| widen(name, narrow)).collect()
    }
}
