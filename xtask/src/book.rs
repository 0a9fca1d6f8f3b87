//! `cargo xtask book`: the documents as a book, by mdBook.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::process::{Cmd, root, target_dir};

const BOOK: &str = "\
[book]
title = \"hrm: the Hierarchical Reasoning Model in Rust\"
language = \"en\"

[output.html]
no-section-label = true
";

/// The folders whose pages and pictures belong to the book. Their places stay, so that links between them hold.
const FOLDERS: [&str; 4] = ["docs", "configs", "datasets", "checkpoints"];

/// Lays out the pages and builds the book.
pub fn run() -> Result<()> {
    let book = target_dir().join("book");
    lay_out(&book)?;
    Cmd::new("mdbook")
        .args(["build".into(), book.display().to_string()])
        .run()
        .context("the book needs mdBook: cargo install mdbook --locked")?;
    println!("{}", book.join("book/index.html").display());
    Ok(())
}

/// The sources of the book in a folder: `book.toml`, `src/SUMMARY.md` and the pages.
pub fn lay_out(book: &Path) -> Result<()> {
    let src = book.join("src");
    if src.exists() {
        fs::remove_dir_all(&src)?;
    }
    fs::create_dir_all(&src).with_context(|| format!("cannot make {}", src.display()))?;
    fs::write(book.join("book.toml"), BOOK)?;
    fs::copy(root().join("README.md"), src.join("README.md"))?;
    for file in ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"] {
        fs::copy(root().join(file), src.join(file))?;
    }
    for folder in FOLDERS {
        copy_pages(&root().join(folder), &src.join(folder))?;
    }
    fs::write(src.join("SUMMARY.md"), summary()?)?;
    Ok(())
}

fn copy_pages(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        let is_page = path
            .extension()
            .is_some_and(|e| ["md", "svg", "png", "gif", "csv", "toml"].iter().any(|x| e == *x));
        if path.is_dir() {
            copy_pages(&path, &target)?;
        } else if is_page && path.file_name().is_some_and(|name| name != "Cargo.toml") {
            fs::create_dir_all(to)?;
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// The table of contents: that of docs/README.md, with everything that it does not name below "More".
fn summary() -> Result<String> {
    let index = fs::read_to_string(root().join("docs/README.md"))?;
    let mut text = "# Summary\n\n[hrm](README.md)\n\n".to_owned();
    let mut listed: Vec<PathBuf> = Vec::new();
    for line in index.lines() {
        if let Some(part) = line.strip_suffix(':') {
            text.push_str(&format!("\n# {part}\n\n"));
        }
        let Some((page, _)) = line.split_once("](").and_then(|(_, rest)| rest.split_once(')')) else {
            continue;
        };
        let page = match page.strip_prefix("../") {
            Some(page) => PathBuf::from(page),
            None => Path::new("docs").join(page),
        };
        if page.extension().is_some_and(|extension| extension == "md") {
            text.push_str(&format!("- [{}]({})\n", title(&page)?, page.display()));
            listed.push(page);
        }
    }
    for (part, pages) in [
        ("Models", pages("checkpoints")?),
        ("Benchmarks", pages("docs/benchmarks")?),
        ("More", pages("docs")?),
    ] {
        let others: Vec<&PathBuf> =
            pages.iter().filter(|page| !listed.contains(page) && !page.ends_with("docs/README.md")).collect();
        if !others.is_empty() {
            text.push_str(&format!("\n# {part}\n\n"));
        }
        for page in others {
            text.push_str(&format!("- [{}]({})\n", title(page)?, page.display()));
        }
    }
    for page in ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"] {
        text.push_str(&format!("- [{}]({page})\n", title(Path::new(page))?));
    }
    Ok(text)
}

/// Pages of a folder, and the README of each folder in it.
fn pages(folder: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder))? {
        let name = PathBuf::from(folder).join(entry?.file_name());
        let readme = name.join("README.md");
        if name.extension().is_some_and(|extension| extension == "md") {
            found.push(name);
        } else if root().join(&readme).is_file() {
            found.push(readme);
        }
    }
    found.sort();
    Ok(found)
}

/// The first heading of a page.
fn title(page: &Path) -> Result<String> {
    let text = fs::read_to_string(root().join(page)).with_context(|| page.display().to_string())?;
    match text.lines().find_map(|line| line.strip_prefix("# ")) {
        Some(title) => Ok(title.to_owned()),
        None => bail!("{}: expected a heading `# ...`", page.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_docs_is_in_the_book() {
        let folder = std::env::temp_dir().join(format!("hrm-book-{}", std::process::id()));
        lay_out(&folder).unwrap();
        let summary = fs::read_to_string(folder.join("src/SUMMARY.md")).unwrap();
        for page in pages("docs").unwrap().into_iter().chain(pages("docs/benchmarks").unwrap()) {
            let listed = summary.matches(&format!("({})", page.display())).count();
            assert_eq!(
                listed,
                usize::from(!page.ends_with("docs/README.md")),
                "{}: {summary}",
                page.display()
            );
            assert!(folder.join("src").join(&page).is_file(), "{}", page.display());
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
