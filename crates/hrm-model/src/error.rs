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
}
