//! Prints the JSON Schema of recipes; `cargo xtask schema` writes `configs/recipe.schema.json` with it.

fn main() {
    println!("{:#}", hrm_train::recipe::Recipe::schema());
}
