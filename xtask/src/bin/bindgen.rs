//! Makes the JavaScript around a module of WebAssembly: `bindgen MODULE FOLDER`, for `cargo xtask web`.

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let module = args.next().context("expected a module and a folder")?;
    let folder = args.next().context("expected a folder")?;
    Bindgen::new()
        .input_path(module)
        .web(true)?
        .omit_default_module_path(false)
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(folder)
}
