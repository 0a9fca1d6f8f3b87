//! No arrow between the modules of `hrm-data` runs upwards: the trait lies below the puzzles, the puzzles below the registry.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The modules from the ground up. One may use those of earlier floors, and others of its own floor only where nothing comes back.
const FLOORS: [&[&str]; 7] = [
    &["bounded", "bundled", "checksum", "names", "random", "groups"],
    &["grid", "dataset", "render", "table"],
    &["task"],
    &["sampler"],
    &["puzzles"],
    &["registry"],
    &["reader", "download"],
];

/// Puzzles that may use others: variants of Sudoku are made of its boards. All others use none.
const PUZZLES: [(&str, &[&str]); 3] =
    [("engine", &["sudoku"]), ("killer", &["sudoku", "engine"]), ("samurai", &["sudoku", "engine"])];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without its comments and its tests, which may look at anything.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = code.split("#[cfg(test)]\npub(super) mod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules that a text names after `prefix`, also in braces.
fn named(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let list = match rest.strip_prefix('{') {
            None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').take(1).collect::<Vec<_>>(),
            Some(inner) => {
                let end = inner.find("};").unwrap_or(inner.len());
                inner[..end]
                    .split(',')
                    .map(|item| item.trim().split("::").next().unwrap_or_default())
                    .collect()
            }
        };
        found.extend(list.into_iter().map(str::to_owned));
    }
    found
}

#[test]
fn modules_of_hrm_data_use_only_what_is_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/hrm-data/src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let mut arrows = 0;
    let mut wrong = Vec::new();
    for path in &files {
        let place = path.strip_prefix(&root).expect("below the root");
        let is_test = place.file_name().is_some_and(|name| name.to_string_lossy().contains("tests"));
        let module = place.iter().next().expect("a name").to_string_lossy().replace(".rs", "");
        if is_test || module == "lib" || module == "testdata" {
            continue;
        }
        let from =
            floor(&module).unwrap_or_else(|| panic!("{module}: on which floor is it? Put it into FLOORS"));
        let code = code(path);
        for used in named(&code, "crate::") {
            // Items of the crate's root are re-exported from below.
            let Some(to) = floor(&used).filter(|_| used != module) else { continue };
            arrows += 1;
            if to > from || (to == from && floor_of_itself(&used, &module)) {
                wrong.push(format!("{} ({module}) uses {used}", place.display()));
            }
        }
        if module == "puzzles"
            && let Some(puzzle) = place.iter().nth(1)
        {
            let puzzle = puzzle.to_string_lossy().replace(".rs", "");
            let allowed = PUZZLES.iter().find(|(name, _)| *name == puzzle).map_or(&[][..], |(_, of)| of);
            for used in named(&code, "crate::puzzles::") {
                if used != puzzle && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{} (puzzle {puzzle}) uses the puzzle {used}", place.display()));
                }
            }
        }
    }
    assert!(arrows > 40, "{arrows} arrows: the modules are not found any more");
    assert!(wrong.is_empty(), "arrows that run upwards:\n{}", wrong.join("\n"));
}

/// On one floor, arrows run from the later to the earlier name only.
fn floor_of_itself(used: &str, module: &str) -> bool {
    let floor = FLOORS.iter().find(|floor| floor.contains(&module)).expect("a floor");
    let at = |name: &str| floor.iter().position(|known| *known == name);
    at(used) > at(module)
}

#[test]
fn what_is_named_is_found() {
    let code = "use crate::{a::B, c};\nuse crate::d::E;\nlet x = crate::f::g();";
    assert_eq!(named(code, "crate::").into_iter().collect::<Vec<_>>(), ["a", "c", "d", "f"]);
}
