//! The JSON Schema that editors use is that of the recipes.

#![cfg(feature = "schema")]

use std::{fs, path::Path};

use hrm_train::recipe::Recipe;
use serde_json::Value;

#[test]
fn the_committed_schema_is_that_of_the_recipes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/recipe.schema.json");
    let text = fs::read_to_string(&path).expect("the committed schema");
    let committed: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(committed, Recipe::schema(), "configs/recipe.schema.json is stale: run cargo xtask schema");
}

#[test]
fn every_key_has_a_text_and_a_default() {
    let schema = Recipe::schema();
    for (section, keys) in Recipe::SECTIONS {
        let reference = schema["properties"][section]["$ref"].as_str().expect("a section").to_owned();
        let properties = schema.pointer(&reference[1..]).expect("its schema")["properties"].clone();
        assert_eq!(properties.as_object().expect("properties").len(), keys.len(), "{section}");
        for key in keys {
            let property = &properties[key.name];
            let has = |name: &str| property.get(name).is_some();
            assert!(has("description") && has("default"), "{section}.{}: {property}", key.name);
        }
    }
    let width = schema.pointer("/$defs/Architecture/properties/hidden_size").expect("a key");
    assert_eq!((&width["minimum"], &width["maximum"]), (&1.into(), &(1 << 20).into()));
}
