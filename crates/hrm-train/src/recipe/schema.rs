//! The JSON Schema of recipes, by which editors complete and check them.

use serde_json::{Value, json};

use super::Recipe;

impl Recipe {
    /// Types, texts and defaults are those of the sections; so are the ranges.
    pub fn schema() -> Value {
        let mut schema = schemars::schema_for!(Self).to_value();
        for (section, keys) in Self::SECTIONS {
            // A section of the recipe refers to the schema of its struct.
            let name = schema["properties"][section]["$ref"].as_str().map(ToOwned::to_owned);
            let pointer = name.as_deref().and_then(|name| name.strip_prefix('#')).unwrap_or_default();
            let Some(section) = schema.pointer_mut(pointer) else { continue };
            for key in keys {
                let property = &mut section["properties"][key.name];
                let is_list = property["type"] == "array";
                let numbers = if is_list { &mut property["items"] } else { property };
                for (bound, number) in key.range.iter().flat_map(|range| range.schema()) {
                    numbers[bound] = if number.fract() == 0.0 { json!(number as i64) } else { json!(number) };
                }
            }
        }
        schema
    }
}
