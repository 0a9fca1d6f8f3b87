use thiserror::Error;

/// What can be wrong with a model's configuration or its inputs.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A value of the configuration cannot be used.
    #[error("model config: {field} = {got}: expected {expected}")]
    Config {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        got: String,
        /// What would be valid.
        expected: String,
    },
    /// The weights do not fit a puzzle of this size.
    #[error("a puzzle of {seq_len} cells with {vocab_size} kinds of tokens: {reason}")]
    Size {
        /// Cells of the puzzle.
        seq_len: usize,
        /// Its kinds of tokens.
        vocab_size: usize,
        /// What the model is for.
        reason: String,
    },
}
