use std::path::PathBuf;

use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};

macro_rules! sources {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("cube/", $name)))),*]
    };
}

/// The sources of our kernels, all files of the folder `cube`. CubeCL knows a compiled kernel by its name and types only: after a
/// change of its body the compiled form of the old one must not be found.
const SOURCES: [(&str, &str); 10] = sources![
    "adam.rs",
    "attention.rs",
    "cublas.rs",
    "flash.rs",
    "groups.rs",
    "losses.rs",
    "mod.rs",
    "product.rs",
    "sums.rs",
    "tiled.rs"
];

/// Keeps compiled kernels on disk for the processes that follow, unless a `cubecl.toml` says where or CubeCL is in use already.
pub(crate) fn keep() {
    if CubeClRuntimeConfig::storage().lock().is_some() {
        return;
    }
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache.get_or_insert_with(|| CacheConfig::File(folder()));
    CubeClRuntimeConfig::set(config);
}

/// `target/kernels-HASH` of the folder with the nearest `Cargo.toml`, or the same in the user's cache folder.
fn folder() -> PathBuf {
    CacheConfig::Target.root().join(format!("kernels-{:016x}", fingerprint(&SOURCES.map(|(_, text)| text))))
}

/// FNV-1a (Fowler, Noll and Vo).
fn fingerprint(texts: &[&str]) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    texts.iter().flat_map(|text| text.bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_part_of_the_key() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cube")).expect("the folder");
        let mut files: Vec<String> =
            folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
        files.sort();
        assert_eq!(files, SOURCES.map(|(name, _)| name));
    }

    #[test]
    fn fingerprints_are_fnv_1a() {
        assert_eq!(fingerprint(&[""]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint(&["foo", "bar"]), 0x8594_4171_f739_67e8);
    }
}
