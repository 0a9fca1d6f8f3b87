//! What weights a configuration asks for, before any of them is allocated.

use std::collections::BTreeMap;

use crate::{Mixer, ModelConfig, PositionEncoding, Tokens};

impl ModelConfig {
    /// Name, as the original's, and shape of every weight of a [valid](Self::validate) configuration; a model has the same.
    pub fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let hidden = self.hidden_size;
        let mut shapes = BTreeMap::new();
        let mut add = |name: String, shape: &[usize]| {
            shapes.insert(name, shape.to_vec());
        };
        let (embeddings, logits) = match (self.tokens, &self.structure) {
            (Tokens::Lattice, Some(structure)) => (structure.node_types(), 1),
            _ => (self.vocab_size, self.vocab_size),
        };
        add("embed_tokens.embedding_weight".to_owned(), &[embeddings, hidden]);
        if self.pos_encodings == PositionEncoding::Learned {
            add("embed_pos.embedding_weight".to_owned(), &[self.total_len(), hidden]);
        }
        if self.puzzle_emb_ndim > 0 {
            add("puzzle_emb.weights".to_owned(), &[self.num_puzzle_identifiers, self.puzzle_emb_ndim]);
        }
        for (level, layers) in [("H_level", self.h_layers), ("L_level", self.l_layers)] {
            for layer in 0..layers {
                let block = format!("{level}.layers.{layer}");
                let mut swiglu = |name: &str, width: usize| {
                    let inter = self.swiglu_width(width);
                    add(format!("{block}.{name}.gate_up_proj.weight"), &[2 * inter, width]);
                    add(format!("{block}.{name}.down_proj.weight"), &[width, inter]);
                };
                match self.mixer {
                    Mixer::Attention => {
                        swiglu("mlp", hidden);
                        add(format!("{block}.self_attn.qkv_proj.weight"), &[3 * hidden, hidden]);
                        add(format!("{block}.self_attn.o_proj.weight"), &[hidden, hidden]);
                    }
                    Mixer::Mlp => {
                        swiglu("mlp", hidden);
                        swiglu("mlp_t", self.total_len());
                    }
                    Mixer::Groups => {
                        let (width, inter) = (self.group_width, self.group_inter());
                        let kinds = self.structure.as_ref().map_or(0, |structure| structure.groups.len());
                        let read = hidden + (kinds + usize::from(self.values() > 1)) * width;
                        add(format!("{block}.groups.in_proj.weight"), &[width, hidden]);
                        add(format!("{block}.groups.gate_up_proj.weight"), &[2 * inter, read]);
                        add(format!("{block}.groups.down_proj.weight"), &[hidden, inter]);
                    }
                }
            }
        }
        add("lm_head.weight".to_owned(), &[logits, hidden]);
        add("q_head.weight".to_owned(), &[2, hidden]);
        add("q_head.bias".to_owned(), &[2]);
        add("H_init".to_owned(), &[hidden]);
        add("L_init".to_owned(), &[hidden]);
        shapes
    }

    /// How many numbers the weights are.
    pub fn weight_count(&self) -> u128 {
        let count = |shape: Vec<usize>| shape.into_iter().map(|size| size as u128).product::<u128>();
        self.weight_shapes().into_values().map(count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GroupKind, Hrm, RecurrenceKind, Structure};

    #[test]
    fn they_are_those_of_the_model() {
        let hrm = ModelConfig::new(6, 16).with_hidden_size(16).with_num_heads(2).with_layers(2, 3);
        let trm = ModelConfig::trm(6, 16).with_hidden_size(16).with_num_heads(2);
        let none = PositionEncoding::None;
        let rows = (0..4).map(|row| (0..4).map(|col| 4 * row + col).collect()).collect();
        let rows = GroupKind { name: "rows".to_owned(), groups: rows, own: false };
        let groups = hrm.clone().with_puzzle_emb_ndim(0).with(|config| {
            config.mixer = Mixer::Groups;
            config.pos_encodings = none;
            config.structure =
                Some(Structure { first_value: 2, after_values: 0, distinct_values: 0, groups: vec![rows] });
        });
        groups.validate().unwrap();
        for config in [
            hrm.clone(),
            hrm.clone().with(|config| {
                config.pos_encodings = PositionEncoding::Learned;
                config.num_puzzle_identifiers = 3;
            }),
            hrm.clone().with_puzzle_emb_ndim(0),
            hrm.clone().with_puzzle_emb_ndim(40),
            hrm.clone().with(|config| config.expansion = 0.3),
            hrm.clone().with(|config| config.expansion = 5e-324),
            groups.clone().with(|config| config.expansion = 5e-324),
            hrm.with(|config| (config.recurrence, config.h_layers) = (RecurrenceKind::Transformer, 0)),
            trm.clone().with(|config| (config.mixer, config.pos_encodings) = (Mixer::Mlp, none)),
            groups.clone().with(|config| config.tokens = Tokens::Lattice),
            // As in what is made of TRM's defaults: a length of no embedding.
            groups.clone().with(|config| config.puzzle_emb_len = 16),
            groups,
            trm,
        ] {
            let model: Hrm<hrm_backend::Cpu> = Hrm::untrained(&config, &Default::default());
            let shapes: BTreeMap<String, Vec<usize>> =
                model.state_dict().into_iter().map(|(name, data)| (name, data.shape.to_vec())).collect();
            assert_eq!(config.weight_shapes(), shapes, "{config:?}");
        }
        assert_eq!(ModelConfig::hrm_sudoku_extreme().weight_count(), 27_276_802);
    }
}
