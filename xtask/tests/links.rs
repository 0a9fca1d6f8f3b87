//! Every link between documents leads somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        // What is built, and what is not ours.
        let skipped = name.starts_with('.') || ["target", "runs", "node_modules"].contains(&name.as_str());
        if path.is_dir() && !skipped {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The text without blocks of code and code between backticks, in which brackets mean something else.
fn prose(text: &str) -> String {
    let mut out = String::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            let parts = line.split('`').enumerate().filter(|(i, _)| i % 2 == 0).map(|(_, part)| part);
            out.extend(parts);
            out.push('\n');
        }
    }
    out
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// What a heading is called in a link, as GitHub and mdBook call it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = Vec::new();
    documents(&root, &mut all);
    let (mut seen, mut broken) = (0, Vec::new());
    for document in &all {
        let text = fs::read_to_string(document).expect("text");
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, section) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().expect("a folder").join(file),
            };
            let has_section = section.is_empty()
                || fs::read_to_string(&target).is_ok_and(|text| {
                    text.lines().any(|line| {
                        line.starts_with('#') && anchor(line.trim_start_matches('#').trim()) == section
                    })
                });
            if !target.exists() || !has_section {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(seen > 50, "{seen} links found");
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn code_is_no_link() {
    assert_eq!(links("see [a](b.md#c) and `[x](y)`\n```\n[x](y)\n```\n[d](e)"), ["b.md#c", "e"]);
    assert_eq!(anchor("What a run leaves behind"), "what-a-run-leaves-behind");
}
