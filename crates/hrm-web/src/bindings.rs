//! What the page's worker calls. Structures go through as JSON.

use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

fn json(value: &impl Serialize) -> Result<String, JsError> {
    Ok(serde_json::to_string(value)?)
}

fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, JsError> {
    Ok(serde_json::from_str(text)?)
}

fn told(error: impl ToString) -> JsError {
    JsError::new(&error.to_string())
}

/// Panics are told on the console.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// [`crate::read`].
#[wasm_bindgen]
pub fn read(family: &str, text: &str) -> Result<String, JsError> {
    json(&crate::read(family.parse().map_err(told)?, text).map_err(told)?)
}

/// [`crate::generate`].
#[wasm_bindgen]
pub fn generate(family: &str, rows: usize, cols: usize, seed: u32) -> Result<String, JsError> {
    let family = family.parse().map_err(told)?;
    json(&crate::generate(family, (rows, cols), seed.into()).map_err(told)?)
}

/// [`crate::Puzzle::check`].
#[wasm_bindgen]
pub fn check(puzzle: &str) -> Result<String, JsError> {
    json(&parsed::<crate::Puzzle>(puzzle)?.check().map_err(told)?)
}

/// [`crate::Puzzle::work`].
#[wasm_bindgen]
pub fn work(puzzle: &str, method: &str) -> Result<String, JsError> {
    json(&parsed::<crate::Puzzle>(puzzle)?.work(method).map_err(told)?)
}

/// [`crate::model_name`].
#[wasm_bindgen]
pub fn model_name(puzzle: &str) -> Result<String, JsError> {
    crate::model_name(&parsed(puzzle)?).map(str::to_owned).map_err(told)
}

/// [`crate::Model`].
#[wasm_bindgen]
pub struct Model(crate::Model);

#[wasm_bindgen]
impl Model {
    /// [`crate::Model::new`].
    #[wasm_bindgen(constructor)]
    pub fn new(name: &str, bytes: &[u8]) -> Result<Model, JsError> {
        crate::Model::new(name, bytes).map(Self).map_err(told)
    }

    /// [`crate::Model::start`].
    pub fn start(&self, puzzle: &str) -> Result<Thinker, JsError> {
        self.0.start(&parsed(puzzle)?).map(Thinker).map_err(told)
    }
}

/// [`crate::Thinker`].
#[wasm_bindgen]
pub struct Thinker(crate::Thinker);

#[wasm_bindgen]
impl Thinker {
    /// [`crate::Thinker::think`].
    pub fn think(&mut self) -> Result<String, JsError> {
        json(self.0.think())
    }

    /// [`crate::Thinker::logits`].
    pub fn logits(&self) -> Vec<f32> {
        self.0.logits().to_vec()
    }
}
