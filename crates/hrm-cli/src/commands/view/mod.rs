//! `hrm view`: puzzles, answers and the thinking in between, as one page.

mod arc;
mod puzzles;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hrm_model::weights::write_atomically;
use serde_json::Value;

use super::eval_data::PuzzleArgs;
use crate::{backend::ComputeArgs, models};

/// Write a page that shows puzzles, answers, and what the model thought on the way
///
/// The page is one file: it opens in any browser, asks the network for nothing, and can be sent to someone. A player goes
/// through the steps of thinking, with the certainty of every cell and the model's q_halt as a curve.
///
/// Of a model or a run, its held-out puzzles (or those of --data) are solved and shown. Of the votes of `hrm arc predict`
/// (.votes.jsonl) or a submission, ARC tasks with demonstrations, both attempts, the truth and the votes: --data are the tasks.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm view runs/sudoku-4x4 --out sudoku.html
  hrm view checkpoints/sudoku-9x9 --data test.csv.gz --limit 50 --max-steps 32
  hrm view submission.votes.jsonl --data evaluation.json --out arc.html
  hrm view submission.json --data evaluation.json --out arc.html

In the page: left and right for steps, space to play, up and down for puzzles, 1 to 4 to filter (all, solved, wrong,
undecided), t for light or dark. Undecided are puzzles whose answer is wrong and that the model did not halt, and ARC tasks
whose truth is unknown.")]
pub struct Args {
    /// A run, a model, votes (.votes.jsonl), or a submission (.json)
    #[arg(value_name = "RUN|FILE")]
    source: PathBuf,
    /// The page
    #[arg(long, short, value_name = "FILE", default_value = "view.html")]
    out: PathBuf,
    /// Replace the page if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    puzzles: PuzzleArgs,
    /// Steps of thinking at most [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_steps: Option<u32>,
    /// Run all steps instead of stopping where the model halts
    #[arg(long)]
    all_steps: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

const PAGE: &str = include_str!("page.html");
/// Where the data go.
const PLACE: &str = "/*DATA*/";

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    models::may_write(&args.out, args.force)?;
    let ending = args.source.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let data = match ending {
        "json" | "jsonl" if args.source.is_file() => arc::data(args)?,
        _ => puzzles::data(args)?,
    };
    let items = data["items"].as_array().map_or(0, Vec::len);
    write(&args.out, &data)?;
    say!("wrote {}: {}", args.out.display(), crate::terminal::count(items, "item"));
    Ok(())
}

fn write(path: &Path, data: &Value) -> Result<()> {
    write_atomically(path, page(data).as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// The page with its data. Names come from files of others: no text of theirs ends the script that holds the data.
fn page(data: &Value) -> String {
    PAGE.replacen(PLACE, &data.to_string().replace('<', "\\u003c"), 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn foreign_text_stays_text() {
        let name = "</script><script>alert(1)</script><!-- & \u{2028} \"quoted\"";
        let page = page(&json!({ "title": name, "items": [] }));
        let begin = PAGE.find(PLACE).unwrap();
        let end = begin + page[begin..].find("</script>").unwrap();
        let data: Value = serde_json::from_str(&page[begin..end]).unwrap();
        assert_eq!(data["title"], name);
        assert_eq!(page.matches("</script>").count(), PAGE.matches("</script>").count());
        assert_eq!(page.matches("<!--").count(), PAGE.matches("<!--").count());
        assert!(!page.contains(PLACE));
    }

    #[test]
    fn the_page_asks_the_network_for_nothing() {
        assert!(PAGE.contains("default-src 'none'"));
        for word in ["http:", "https:", "src=", "href=", "url(", "@import", "fetch(", "innerHTML"] {
            let found = PAGE.matches(word).count();
            // The name of a namespace is no address.
            let allowed = usize::from(word == "http:");
            assert_eq!(found, allowed, "{word}");
        }
    }
}
