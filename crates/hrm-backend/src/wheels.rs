//! Libraries of NVIDIA's that pip has installed: packages for Python put them where the system's loader does not look.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// Loads the first library whose file name starts so from the packages of the active environment or of the `python3` on the path,
/// for as long as the program runs: from then on, loading it by its name finds it.
pub(crate) fn load(name: &str) -> bool {
    let loads = |path: PathBuf| {
        // SAFETY: a library of NVIDIA's, which is meant to be loaded.
        let library = unsafe { libloading::Library::new(path) };
        library.map(std::mem::forget).is_ok()
    };
    prefixes(|variable| env::var_os(variable)).iter().flat_map(|prefix| libraries(prefix, name)).any(loads)
}

/// Where environments of Python are: the active one, that of the `python3` on the path (a link in an environment leads to another
/// one), that of the system, the user's.
fn prefixes(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let python = env::split_paths(&path).map(|folder| folder.join("python3")).find(|file| file.is_file());
    let above = |file: &Path| Some(file.parent()?.parent()?.to_owned());
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(&variable).map(PathBuf::from).collect();
    if let Some(python) = python {
        prefixes.extend(above(&python));
        prefixes.extend(fs::canonicalize(&python).ok().and_then(|file| above(&file)));
    }
    prefixes.push(PathBuf::from("/usr/local"));
    prefixes.extend(variable("HOME").map(|home| PathBuf::from(home).join(".local")));
    prefixes
}

/// The libraries of that name in the packages below `prefix`.
fn libraries(prefix: &Path, name: &str) -> Vec<PathBuf> {
    let named = |folder: &Path, start: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let fits = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
        let mut paths: Vec<PathBuf> = fits.map(|entry| entry.path()).collect();
        // Newest version first.
        paths.sort();
        paths.reverse();
        paths
    };
    let pythons = named(&prefix.join("lib"), "python3");
    let packages =
        pythons.iter().flat_map(|python| ["site-packages", "dist-packages"].map(|it| python.join(it)));
    let of_nvidia = packages.flat_map(|folder| named(&folder.join("nvidia"), ""));
    of_nvidia.flat_map(|package| named(&package.join("lib"), name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with an environment of Python 3.12 in which two of NVIDIA's packages are installed.
    fn environment() -> PathBuf {
        let root = env::temp_dir().join(format!("hrm-wheels-{}", std::process::id()));
        let packages = root.join("lib/python3.12/site-packages/nvidia");
        for (package, file) in [("cu13", "libcublasLt.so.13"), ("cudnn", "libcudnn.so.9")] {
            let folder = packages.join(package).join("lib");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), "").unwrap();
        }
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/python3"), "").unwrap();
        root
    }

    #[test]
    fn libraries_are_found_in_environments() {
        let root = environment();
        let of = |name: &str, value: PathBuf| {
            let name = name.to_owned();
            prefixes(move |variable| (variable == name).then(|| value.clone().into_os_string()))
        };
        for prefixes in [of("VIRTUAL_ENV", root.clone()), of("PATH", root.join("bin"))] {
            let found = libraries(&prefixes[0], "libcublasLt.so.");
            assert_eq!(found, [root.join("lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13")]);
        }
        assert!(libraries(&root, "libcusolver.so.").is_empty());
        fs::remove_dir_all(root).unwrap();
    }
}
