//! The parameter table: how many numbers each module holds.

use std::fmt;

use burn::{
    module::Param,
    tensor::{Tensor, backend::Backend},
};

use crate::{
    Hrm,
    named::{NamedVisitor, visit_named},
};

/// Modules in the order of the table. Those after [`FIRST_BUFFER`] are saved with the weights, but the dense
/// optimizer does not train them, and the paper's parameter count leaves them out.
const ORDER: [&str; 9] = [
    "embed_tokens",
    "embed_pos",
    "H_level",
    "L_level",
    "lm_head",
    "q_head",
    "puzzle_emb",
    "H_init",
    "L_init",
];
const FIRST_BUFFER: usize = 6;

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterRow {
    /// The original's name, `H_level.layers.0.self_attn.qkv_proj.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl ParameterRow {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor is saved but not trained by the dense optimizer: the puzzle embedding (which has an
    /// optimizer of its own) and the initial states.
    pub fn is_buffer(&self) -> bool {
        self.rank() >= FIRST_BUFFER && self.rank() < ORDER.len()
    }

    /// The name up to the first dot.
    pub fn module(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }

    fn rank(&self) -> usize {
        let module = self.module();
        ORDER.iter().position(|m| *m == module).unwrap_or(ORDER.len())
    }

    /// `Some((0, "self_attn.qkv_proj.weight"))` for a tensor of a level's layer.
    fn layer(&self) -> Option<(usize, &str)> {
        let (_, rest) = self.name.split_once(".layers.")?;
        let (index, rest) = rest.split_once('.')?;
        Some((index.parse().ok()?, rest))
    }
}

/// Every tensor of a model, parameters first, buffers last. Displayed as a table per module with totals.
///
/// ```
/// use hrm_model::{Hrm, ModelConfig};
/// let config = ModelConfig::hrm_sudoku_extreme();
/// let model: Hrm<hrm_backend::Cpu> = Hrm::untrained(&config, &Default::default());
/// assert_eq!(model.parameter_table().parameters(), 27_275_266);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterTable {
    rows: Vec<ParameterRow>,
}

impl ParameterTable {
    /// The table of tensors given by their original names and shapes.
    pub fn new(rows: impl IntoIterator<Item = ParameterRow>) -> Self {
        let mut rows: Vec<ParameterRow> = rows.into_iter().collect();
        rows.sort_by_cached_key(|row| (row.rank(), row.module().to_owned(), row.layer().map(|(i, _)| i)));
        Self { rows }
    }

    /// Number of trained parameters, as the paper counts them.
    pub fn parameters(&self) -> usize {
        self.count(|row| !row.is_buffer())
    }

    /// Number of elements outside of that count: puzzle embedding and initial states.
    pub fn buffers(&self) -> usize {
        self.count(ParameterRow::is_buffer)
    }

    fn count(&self, select: impl Fn(&ParameterRow) -> bool) -> usize {
        self.rows.iter().filter(|row| select(row)).map(ParameterRow::count).sum()
    }
}

impl<B: Backend> Hrm<B> {
    /// Every tensor of the model with its shape.
    pub fn parameter_table(&self) -> ParameterTable {
        struct Collector(Vec<ParameterRow>);
        impl<B: Backend> NamedVisitor<B> for Collector {
            fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<B, D>>) {
                self.0.push(ParameterRow { name, shape: param.val().dims().to_vec() });
            }
        }
        let mut collector = Collector(Vec::new());
        visit_named(self, &mut collector);
        ParameterTable::new(collector.0)
    }
}

impl fmt::Display for ParameterTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "module", "shape", "parameters")?;
        let mut rows = self.rows.as_slice();
        let mut in_buffers = false;
        while let Some(first) = rows.first() {
            if first.is_buffer() && !in_buffers {
                in_buffers = true;
                line(f, "total", "", &thousands(self.parameters()))?;
                writeln!(f)?;
                line(f, "not counted above", "shape", "elements")?;
            }
            let len = rows.iter().take_while(|row| row.module() == first.module()).count();
            let (module, rest) = rows.split_at(len);
            fmt_module(f, module)?;
            rows = rest;
        }
        if in_buffers {
            line(f, "total", "", &thousands(self.buffers()))
        } else {
            line(f, "total", "", &thousands(self.parameters()))
        }
    }
}

/// One module: a single tensor on one line, otherwise a line with the sum and one line for each tensor.
/// Layers that are alike are written once.
fn fmt_module(f: &mut fmt::Formatter<'_>, rows: &[ParameterRow]) -> fmt::Result {
    let count = |rows: &[ParameterRow]| thousands(rows.iter().map(ParameterRow::count).sum());
    let [first, others @ ..] = rows else { return Ok(()) };
    if others.is_empty() {
        return line(f, &first.name, &shape(first), &count(rows));
    }
    line(f, first.module(), "", &count(rows))?;
    if first.layer().is_none() {
        for row in rows {
            let name = row.name.split_once('.').map_or("", |(_, rest)| rest);
            line(f, &format!("  {name}"), &shape(row), &thousands(row.count()))?;
        }
        return Ok(());
    }
    let layers: Vec<&[ParameterRow]> =
        rows.chunk_by(|a, b| a.layer().map(|l| l.0) == b.layer().map(|l| l.0)).collect();
    let kind = |layer: &[ParameterRow]| -> Vec<(String, Vec<usize>)> {
        let tail = |row: &ParameterRow| row.layer().map_or_else(String::new, |(_, name)| name.to_owned());
        layer.iter().map(|row| (tail(row), row.shape.clone())).collect()
    };
    for alike in layers.chunk_by(|a, b| kind(a) == kind(b)) {
        let Some(layer) = alike.first() else { continue };
        let from = layer[0].layer().map_or(0, |(i, _)| i);
        let title = match alike.len() {
            1 => format!("  layer {from}"),
            n => format!("  layers {from} to {}, each", from + n - 1),
        };
        line(f, &title, "", &count(layer))?;
        for row in *layer {
            let name = row.layer().map_or("", |(_, name)| name);
            line(f, &format!("    {name}"), &shape(row), &thousands(row.count()))?;
        }
    }
    Ok(())
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, shape: &str, count: &str) -> fmt::Result {
    writeln!(f, "{name:<34}{shape:<16}{count:>14}")
}

fn shape(row: &ParameterRow) -> String {
    let sizes: Vec<String> = row.shape.iter().map(ToString::to_string).collect();
    sizes.join(" x ")
}

/// `27,275,266`
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelConfig;

    #[test]
    fn the_reference_sudoku_model_has_27_275_266_parameters() {
        let config = ModelConfig::hrm_sudoku_extreme();
        let model: Hrm<hrm_backend::Cpu> = Hrm::untrained(&config, &Default::default());
        let table = model.parameter_table();
        assert_eq!(table.parameters(), 27_275_266);
        assert_eq!(table.buffers(), 3 * 512);
        let expected = "\
module                            shape               parameters
embed_tokens.embedding_weight     11 x 512                 5,632
H_level                                               13,631,488
  layers 0 to 3, each                                  3,407,872
    self_attn.qkv_proj.weight     1536 x 512             786,432
    self_attn.o_proj.weight       512 x 512              262,144
    mlp.gate_up_proj.weight       3072 x 512           1,572,864
    mlp.down_proj.weight          512 x 1536             786,432
L_level                                               13,631,488
  layers 0 to 3, each                                  3,407,872
    self_attn.qkv_proj.weight     1536 x 512             786,432
    self_attn.o_proj.weight       512 x 512              262,144
    mlp.gate_up_proj.weight       3072 x 512           1,572,864
    mlp.down_proj.weight          512 x 1536             786,432
lm_head.weight                    11 x 512                 5,632
q_head                                                     1,026
  weight                          2 x 512                  1,024
  bias                            2                            2
total                                                 27,275,266

not counted above                 shape                 elements
puzzle_emb.weights                1 x 512                    512
H_init                            512                        512
L_init                            512                        512
total                                                      1,536
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn models_without_some_parts() {
        let config = ModelConfig::new(6, 16).with_hidden_size(32).with_num_heads(2).with_puzzle_emb_ndim(0);
        let model: Hrm<hrm_backend::Cpu> = Hrm::untrained(&config.with_layers(1, 2), &Default::default());
        let table = model.parameter_table();
        assert_eq!(table.buffers(), 64);
        let text = table.to_string();
        assert!(text.contains("  layer 0 ") && text.contains("  layers 0 to 1, each"), "{text}");
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_000), "1,000");
    }
}
