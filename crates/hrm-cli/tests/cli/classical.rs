//! Classical solvers, canonical forms, leak checks and pictures.

use crate::sandbox::{FOUR, FOUR_SOLVED, NINE, Sandbox, TINY_RECIPE, assert_says};

/// `FOUR` with its values relabelled and its bands exchanged.
const FOUR_IMAGE: &str = ".3....1.2....4..";

/// A maze with a path, and one without.
fn mazes(sandbox: &Sandbox) {
    let (open, closed) = ("S   ## #   G####", "S#############G#");
    sandbox.write("mazes.csv", format!("source,question,answer,rating\na,{open},,\nb,{closed},,\n"));
}

#[test]
fn classical_solvers_agree() {
    let sandbox = Sandbox::new();
    for method in ["dfs", "dlx", "coloring"] {
        let report = sandbox.hrm(&format!("solve {FOUR} --with {method} --json")).json();
        assert_eq!(report["method"], method);
        assert_eq!(report["puzzles"][0]["solution"], FOUR_SOLVED);
        assert!(report["puzzles"][0]["nodes"].as_u64().is_some_and(|nodes| nodes > 0), "{report}");
        assert!(report["puzzles"][0].get("trace").is_none());
        let text = sandbox.hrm(&format!("solve {NINE} --with {method} --trace")).ok();
        assert_says(&text, &["place 4 at r1c3", "solution  534678912672195348198342567", "work  ", method]);
    }
    let trace = sandbox.hrm(&format!("solve {FOUR} --with dlx --trace --json")).json();
    assert!(
        trace["puzzles"][0]["trace"]["steps"].as_array().is_some_and(|steps| steps.len() >= 12),
        "{trace}"
    );
    // Many, with one that has no solution.
    sandbox.write("puzzles.txt", format!("{FOUR}\n11..............\n{FOUR}\n"));
    let run = sandbox.hrm("solve --file puzzles.txt --with dfs");
    assert_eq!(run.code, 1);
    assert_says(&run.stdout, &["line 1  ", "3 puzzles: 2 solved, 0 wrong, 1 rejected", "by dfs"]);
    assert_says(&run.stderr, &["error: line 2: "]);
    let error = sandbox.hrm(&format!("solve {FOUR} --with bfs")).error();
    assert_says(&error, &["dfs, dlx or coloring", "bfs"]);
}

#[test]
fn mazes_are_solved_classically() {
    let sandbox = Sandbox::new();
    mazes(&sandbox);
    let report = sandbox.hrm("solve --task maze --with bfs --file mazes.csv --json").json();
    let maze = &report["puzzles"][0];
    assert_eq!((&maze["result"], &maze["moves"]), (&"shortest".into(), &5.into()));
    assert!(maze["steps"].as_u64().is_some_and(|steps| steps > 5) && maze["valid"] == true);
    assert_eq!(maze["solution"].as_str().map(|line| line.matches('o').count()), Some(4));
    assert_says(report["puzzles"][1]["error"].as_str().unwrap_or_default(), &["no path from S to G"]);
    assert_eq!((&report["summary"]["solved"], &report["summary"]["rejected"]), (&1.into(), &1.into()));
    // What is printed is read again: drawings, lines, and answers of rectangles.
    for puzzle in ["S...##.#...G####", "S...\n##.#\n...G\n####", "S.../##.#/...G", " S \n#.#\n  E"] {
        let report = sandbox.hrm_with(&["solve", "--task", "maze", "--with", "bfs", "--json", puzzle]).json();
        let line = report["puzzles"][0]["puzzle"].as_str().unwrap_or_default().to_owned();
        let again = sandbox.hrm_with(&["solve", "--task", "maze", "--with", "bfs", "--json", &line]).json();
        assert_eq!(again["puzzles"][0]["solution"], report["puzzles"][0]["solution"], "{puzzle}");
    }
    for method in ["astar", "wall-left", "wall-right", "tremaux", "dead-end"] {
        let run = sandbox.hrm(&format!("solve --task maze --with {method} --file mazes.csv"));
        assert_eq!(run.code, 1, "one maze has no path: {}", run.stdout);
        assert_says(
            &run.stdout,
            &[
                "line 2  ",
                "a shortest path of 5 moves",
                &format!("by {method}"),
                "2 puzzles: 1 solved, 0 wrong",
            ],
        );
    }
    let text = sandbox.hrm("compare maze --file mazes.csv").ok();
    assert_says(&text, &["2 mazes", "tremaux", "50.0 %", "No bundled model fits these mazes"]);
    let run = sandbox.hrm("solve --task maze mazes.csv");
    assert_eq!(run.code, 1);
    assert_says(
        &run.stderr,
        &["line 2: no model for 4x4 maze", "--with bfs", "line 3: the maze has no path"],
    );
    assert_says(&run.stdout, &["2 puzzles: 0 solved, 0 wrong, 2 rejected"]);
    assert_says(&sandbox.hrm("compare maze --file absent.csv").error(), &["absent.csv"]);
}

#[test]
fn equivalent_puzzles_have_one_canonical_form() {
    let sandbox = Sandbox::new();
    sandbox.write("puzzles.txt", format!("{FOUR}\n{FOUR_IMAGE}\n1.2.............\n"));
    let text = sandbox.hrm("data canonical puzzles.txt").ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], lines[1], "images of each other");
    assert_ne!(lines[0], lines[2]);
    let typed = |args: &str| sandbox.hrm_with_input(args, &format!("{FOUR}\n")).ok();
    assert_eq!(typed("data canonical -").trim_end(), lines[0]);
    assert_says(&typed("data difficulty -"), &["puzzles            1 "]);
    assert_says(&typed("data render -"), &["| 1 "]);

    sandbox.write("train.csv", format!("question,answer\n{FOUR},{FOUR_SOLVED}\n"));
    sandbox.write("test.csv", format!("question\n{FOUR_IMAGE}\n"));
    let run = sandbox.hrm("data check train.csv test.csv");
    assert_eq!(run.code, 1);
    assert_says(&run.stdout, &["equivalent puzzles: 1 of 1", "test 1 = training 1"]);
    assert_says(&run.stderr, &["error: ", "leak"]);
    sandbox.write("other.csv", "question\n1.2.............\n");
    assert_says(&sandbox.hrm("data check train.csv other.csv").ok(), &["equivalent puzzles: 0 of 1"]);
    mazes(&sandbox);
    assert_eq!(sandbox.hrm("data check --task maze mazes.csv mazes.csv").code, 1);
}

#[test]
fn examples_are_drawn() {
    let sandbox = Sandbox::new();
    sandbox.write("train.csv", format!("question,answer\n{FOUR},{FOUR_SOLVED}\n"));
    mazes(&sandbox);
    let task = r#"{"train": [{"input": [[1, 0]], "output": [[0, 2]]}], "test": [{"input": [[3]], "output": [[4]]}]}"#;
    sandbox.write("tasks.json", format!(r#"{{"abc": {task}}}"#));
    assert_says(&sandbox.hrm("data render train.csv --plain").ok(), &["| 1", "+---"]);
    for (arguments, name) in [
        ("train.csv", "sudoku"),
        ("mazes.csv --task maze", "maze"),
        ("tasks.json --task arc --id abc", "task"),
    ] {
        sandbox.hrm(&format!("data render {arguments} --out {name}.svg")).ok();
        assert!(
            sandbox.read(&format!("{name}.svg")).starts_with(b"<svg")
                || sandbox.read(&format!("{name}.svg")).starts_with(b"<?xml")
        );
        sandbox.hrm(&format!("data render {arguments} --out {name}.png")).ok();
        assert!(sandbox.read(&format!("{name}.png")).starts_with(b"\x89PNG"));
    }
    sandbox.hrm("data render train.csv --out graph.dot").ok();
    let graph = String::from_utf8(sandbox.read("graph.dot")).unwrap();
    // Each of 16 cells sees 7 others, and all have the colour of a value.
    assert!(graph.starts_with("graph sudoku {") && graph.ends_with("}\n"), "{graph}");
    assert_eq!((graph.matches(" -- ").count(), graph.matches("fillcolor=\"").count()), (56, 16), "{graph}");
    let maze = sandbox.hrm("data render mazes.csv --task maze --out graph.dot").error();
    assert_says(&maze, &["only a Sudoku", "maze"]);
    assert_says(&sandbox.hrm("data render train.csv --index 2").error(), &["--index 2", "examples 1 to 1"]);
    assert_says(&sandbox.hrm("data render train.csv --out board.gif").error(), &[".png or .svg"]);
    assert_says(&sandbox.hrm("data render tasks.json --task arc --id zzz").error(), &["zzz"]);
}

#[test]
fn hard_puzzles_are_made_and_rated() {
    let sandbox = Sandbox::new();
    let make = "data sudoku generate --hard --train 3 --test 2 --walk 20 --min-guesses 2 --seed 5 --out";
    assert_says(&sandbox.hrm(&format!("{make} hard")).ok(), &["3 training puzzles", "hard/train.csv.gz"]);
    let text = sandbox.hrm("data difficulty hard/train.csv.gz").ok();
    assert_says(&text, &["puzzles            3 (0 not proper)", "technique"]);
    sandbox.hrm("data check hard/train.csv.gz hard/test.csv.gz").ok();
    sandbox.hrm("inspect data hard").ok();
    assert_says(&sandbox.hrm(&format!("{make} small --size 4x4")).error(), &["9x9", "4x4"]);
    assert_says(&sandbox.hrm("data sudoku generate --min-guesses 2 --out x").stderr, &["--hard"]);
}

/// Files may come from elsewhere than the network, and are checked all the same.
#[test]
fn data_sets_are_taken_from_files() {
    let sandbox = Sandbox::new();
    let download = |args: &str| sandbox.hrm(&format!("data download {args} --cache cache"));
    sandbox.write("files/train.csv", format!("question,answer\n{FOUR},{FOUR_SOLVED}\n"));
    assert_says(&download("sudoku-extreme --from files").error(), &["train.csv or test.csv"]);
    sandbox.write("files/test.csv", format!("question,answer\n{FOUR},{FOUR_SOLVED}\n"));
    let text = download("sudoku-extreme --from files").ok();
    assert_eq!(text, download("sudoku-extreme").ok(), "what is there is taken, and needs no network");
    for line in text.lines() {
        sandbox.hrm(&format!("data difficulty {line}")).ok();
    }
    assert_eq!(text.lines().count(), 2);
    sandbox.write("cache/sudoku-extreme/test.csv", "question\n");
    assert_says(&download("sudoku-extreme").error(), &["test.csv", "expected SHA-256", "recorded"]);
    // An archive that is none, and nothing is left of it.
    sandbox.write("arc.tar.gz", "no archive");
    assert_says(&download("arc-1 --from arc.tar.gz").error(), &["arc.tar.gz", "damaged"]);
    assert!(!sandbox.path("cache/arc-1/ARC-AGI.tar.gz").exists());
    assert_says(&download("arc-1 --from absent.tar.gz").error(), &["absent.tar.gz"]);
    assert_says(&download("chess").error(), &["arc-1", "chess"]);
}

#[test]
fn other_puzzles_are_solved_exactly_or_by_a_model() {
    let sandbox = Sandbox::new();
    sandbox.write("queens.txt", ".Q..\n....\n....\n....\n");
    let text = sandbox.hrm("solve --task queens queens.txt --with exact").ok();
    assert_says(&text, &[". Q . .", "valid     yes: keeps the rules", "work ", "by exact"]);
    let error = sandbox.hrm("solve --task queens queens.txt --with dlx").error();
    assert_says(&error, &["expected `exact` for queens", "dlx"]);
    assert_says(&sandbox.hrm("solve --task arc queens.txt").error(), &["judged by a vote"]);
    // A model of the task, trained in a blink, so most likely wrong: what counts is that the verdict is that of the rules.
    sandbox.write("maze.toml", TINY_RECIPE.replace("[data]\n", "[data]\ntask = \"maze\"\n"));
    let sizes = "--set data.grid_rows=4 --set data.grid_cols=4 --set data.min_path=2";
    sandbox.hrm(&format!("train --config maze.toml --run-dir run --quiet --backend cpu {sizes}")).ok();
    sandbox.write("mazes.csv", "question,answer\nS   ## #   G####,\n");
    let run = sandbox.hrm("solve --task maze mazes.csv --checkpoint run --json");
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let puzzle = &report["puzzles"][0];
    assert_eq!(report["summary"]["rejected"], 0, "{report}");
    assert_eq!(puzzle["solution"].as_str().map(str::len), Some(16), "{report}");
    assert_eq!(puzzle["valid"].as_bool(), Some(puzzle["fault"].is_null()), "{report}");
    assert_eq!(run.code == 0, puzzle["valid"].as_bool() == Some(true), "{report}");
    let guided = sandbox.hrm("solve --task maze mazes.csv --checkpoint run --verify --fallback exact").ok();
    assert_says(&guided, &["valid     yes: a shortest path of 5 moves", "model     run", "step   changed"]);
    assert_says(&sandbox.hrm("compare maze --file mazes.csv --checkpoint run").ok(), &["1 maze", "model"]);
    let text = sandbox.hrm("eval --checkpoint run --data mazes.csv --task maze").ok();
    assert_says(&text, &["exact accuracy", "any-optimal"]);
    // A folder of mazes that are no squares.
    sandbox.hrm("data maze generate --kind unique --size 2x8 --min-path 5 --max-path 6 --train 1 --test 2 --out flat").ok();
    assert_says(
        &sandbox.hrm("eval --checkpoint run --data flat --size 4x4").error(),
        &["no 4x4 mazes", "--size"],
    );
    let report = sandbox.hrm("eval --checkpoint run --data flat --size 2x8 --json").json();
    assert!(report["any_optimal"].is_number(), "{report}");
    let other = sandbox.hrm("solve --task queens queens.txt --checkpoint run");
    assert_eq!(other.code, 1);
    assert_says(&other.stderr, &["the model reads 16 tokens of 6 kinds, a 4-queens has 16 of 3"]);
}
