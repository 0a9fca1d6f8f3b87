//! The program alone, away from the checkout, and what it looks like.

use std::process::Command;

use hrm_data::{
    registry::{Family, Shape},
    task::Size,
};

use crate::sandbox::{FOUR, FOUR_SOLVED, Run, Sandbox, TINY_RECIPE, assert_says};

/// The program as it is installed, in an empty folder.
fn installed(sandbox: &Sandbox) -> Command {
    let mut command = sandbox.command();
    command.env_remove("HRM_CHECKPOINTS");
    command
}

#[test]
fn the_models_are_in_the_program() {
    let sandbox = Sandbox::new();
    let hrm =
        |args: &str| Run::from(installed(&sandbox).args(args.split_whitespace()).output().expect("starts"));
    let report = hrm("solve --json").json();
    assert_eq!(report["summary"]["solved"], 1);
    assert_eq!(report["models"][0], "sudoku-9x9");
    let report = hrm(&format!("solve {FOUR} --json")).json();
    assert_eq!(
        (&report["models"][0], &report["puzzles"][0]["solution"]),
        (&"sudoku-4x4".into(), &FOUR_SOLVED.into())
    );
    // By name, wherever a checkpoint is expected.
    assert_says(&hrm(&format!("solve {FOUR} --checkpoint sudoku-4x4")).ok(), &["model     sudoku-4x4"]);
    assert_says(&hrm("inspect checkpoint maze").ok(), &["model       maze", "parameters"]);
    hrm("export sudoku-4x4 --out original.safetensors").ok();
    let absent = hrm(&format!("solve {FOUR} --checkpoint sudoku-5x5")).error();
    assert_says(&absent, &["sudoku-5x5: no such file", "sudoku-4x4", "maze"]);
}

#[test]
fn puzzles_without_a_model_name_a_solver() {
    let sandbox = Sandbox::new();
    sandbox.hrm("data queens generate --size 9 --train 1 --test 1 --out queens").ok();
    let solve = "solve --task queens --file queens/test.txt --json";
    let error = sandbox.hrm(solve).json()["puzzles"][0]["error"].as_str().expect("an error").to_owned();
    assert_says(&error, &["no model for 9-queens", "--with"]);
    let named = error.split("--with ").nth(1).expect("a name").trim();
    let report = sandbox.hrm(&format!("{solve} --with {named}")).json();
    assert_eq!(report["summary"]["solved"], 1);
}

#[test]
fn a_model_of_every_size_and_one_for_samurai_are_bundled() {
    let sandbox = Sandbox::new();
    let shape = Shape::of_size(Family::Sudoku, Size::new(16, 16)).expect("a Sudoku");
    let puzzle = shape.task().example().expect("an example");
    for (solve, model) in
        [(format!("solve {puzzle} --json"), "sudoku"), ("solve --task samurai --json".into(), "samurai")]
    {
        let report = installed(&sandbox).args(solve.split_whitespace()).output().expect("starts");
        let report = Run::from(report).json();
        assert_eq!(report["summary"]["solved"], 1, "{solve}: {report}");
        assert_says(&report["models"].to_string(), &[model]);
    }
}

#[test]
fn what_may_help_is_told_where_a_model_fails() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    let text = sandbox.hrm(&format!("solve {FOUR} --checkpoint model.safetensors")).stdout;
    assert_says(
        &text,
        &["valid     NO", "may help: --max-steps 64, --vote 8, --restarts 8", "--verify --fallback exact"],
    );
    let text = sandbox.hrm(&format!("solve {FOUR} --checkpoint model.safetensors --restarts 2")).stdout;
    assert!(!text.contains("--restarts"), "{text}");
    let options = "--verify --fallback exact";
    assert_says(
        &sandbox.hrm(&format!("solve {FOUR} --checkpoint model.safetensors {options}")).ok(),
        &["valid     yes"],
    );
}

/// Pictures in a GIF: each has a control block of four bytes, of which none matters here.
fn pictures(gif: &[u8]) -> usize {
    assert!(gif.starts_with(b"GIF89a"));
    gif.windows(3).filter(|bytes| *bytes == [0x21, 0xf9, 4]).count()
}

#[test]
fn films_of_every_task() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    let run = sandbox.hrm(&format!(
        "solve {FOUR} --checkpoint model.safetensors --gif a.gif --svg a.svg --all-steps --json"
    ));
    assert_eq!(run.json()["puzzles"][0]["steps"], 3);
    assert_says(&run.stderr, &["wrote a.gif", "wrote a.svg"]);
    // The puzzle, three steps, the answer.
    assert_eq!(pictures(&sandbox.read("a.gif")), 5);
    let svg = String::from_utf8(sandbox.read("a.svg")).expect("text");
    assert_says(&svg, &["<animate", ">step 3<", ">puzzle<", ">wrong<"]);

    sandbox.hrm("solve --task maze --with bfs S..#..#..G...... --gif maze.gif").ok();
    assert_eq!(pictures(&sandbox.read("maze.gif")), 2);
    for task in ["killer", "samurai", "queens"] {
        sandbox.hrm(&format!("data {task} generate --train 1 --test 1 --out {task}")).ok();
        let file = format!("{task}/test.txt");
        sandbox.hrm(&format!("solve --task {task} --with exact {file} --svg {task}.svg")).ok();
        let svg = String::from_utf8(sandbox.read(&format!("{task}.svg"))).expect("text");
        assert_says(&svg, &["<animate", ">solved<"]);
    }
    sandbox.write("two.txt", format!("{FOUR}\n{FOUR}\n"));
    assert_says(
        &sandbox.hrm("solve --file two.txt --with dfs --gif b.gif").error(),
        &["--gif", "one puzzle"],
    );
}

#[test]
fn colour_is_the_users_choice() {
    let sandbox = Sandbox::new();
    let coloured = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = sandbox.command();
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
            command.env_remove(name);
        }
        let run = command.args(["solve", FOUR, "--with", "dfs"]).args(args).envs(env.iter().copied());
        Run::from(run.output().expect("starts")).ok().contains('\x1b')
    };
    assert!(!coloured(&[], &[]), "no terminal");
    assert!(coloured(&["--color", "always"], &[]));
    assert!(coloured(&["--color", "always"], &[("NO_COLOR", "1")]));
    assert!(coloured(&[], &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert!(!coloured(&["--color", "never"], &[("CLICOLOR_FORCE", "1")]));
}

#[test]
fn completions_and_manual() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let text = sandbox.hrm(&format!("completions {shell}")).ok();
        assert_says(&text, &["solve", "max-steps", "restarts"]);
    }
    assert_says(&sandbox.hrm("man").ok(), &[".TH hrm 1", "hrm\\-solve(1)"]);
    sandbox.hrm("man --out pages").ok();
    let page = String::from_utf8(sandbox.read("pages/hrm-data-sudoku-generate.1")).expect("text");
    assert_says(&page, &["\\-\\-clues", "EXTRA"]);
    sandbox.read("pages/hrm-solve.1");
}

#[test]
fn a_run_on_a_page_and_puzzles_that_it_knows() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    sandbox.hrm("train --config tiny.toml --run-dir run --set data.seed=5 --quiet").ok();
    assert_says(&sandbox.hrm("report run").ok(), &["run/report.html"]);
    let page = String::from_utf8(sandbox.read("run/report.html")).expect("text");
    assert_says(
        &page,
        &["<svg", "exact accuracy", "Of the first 10 puzzles", "hidden_size = 16", "machine", "flex"],
    );
    assert!(page.contains("wrong after") || page.contains("solved after"), "{page}");
    assert_says(&sandbox.hrm("report absent").error(), &["absent: no run here"]);

    // The puzzles of the recipe, by the same seed; one of them is a test puzzle of `datasets/`, which a recipe leaves out.
    sandbox.hrm("data sudoku generate --size 4x4 --train 40 --test 10 --clues 6-10 --seed 5 --out data").ok();
    let warned = |data: &str| sandbox.hrm(&format!("eval --checkpoint run --data {data}")).stderr;
    assert_says(&warned("data/train"), &["warning: equivalent puzzles: 39 of 40 puzzles", "trained on"]);
    // The puzzle that it took instead is one of these.
    assert_says(&warned("data/test"), &["warning: equivalent puzzles: 1 of 10 puzzles"]);

    let longer = sandbox.hrm("train --resume run --set train.max_steps=24").error();
    assert_says(&longer, &["planned for 12 steps", "train.init_from=run", "train.max_steps=12"]);
    let command =
        longer.split_once("hrm train").map(|(_, command)| format!("train{command}")).expect("a command");
    sandbox.hrm(&format!("{} --quiet", command.trim())).ok();
}

#[test]
fn downloads_appear_where_recipes_read_them() {
    let sandbox = Sandbox::new();
    let table = format!("source,question,answer,rating\nx,{FOUR},{FOUR_SOLVED},3\ny,{FOUR},,9\n");
    sandbox.write("up/train.csv", &table);
    sandbox.write("up/test.csv", &table);
    let text = sandbox.hrm("data download sudoku-extreme --from up --cache cache").ok();
    assert!(!text.contains("datasets"), "there is no such folder: {text}");
    sandbox.write("datasets/README.md", "");
    let text = sandbox.hrm("data download sudoku-extreme --from up --cache cache").ok();
    assert_says(&text, &["datasets/sudoku-extreme/train.csv", "test.csv", "train-1k.csv"]);
    // Fewer than 1,000: all of them.
    let drawn = String::from_utf8(sandbox.read("datasets/sudoku-extreme/train-1k.csv")).expect("text");
    assert_eq!(drawn.lines().count(), 3, "{drawn}");
    assert_says(&drawn, &[FOUR, FOUR_SOLVED]);
    assert_eq!(sandbox.read("datasets/sudoku-extreme/test.csv"), table.as_bytes());
    let hub = sandbox.hrm("import hf:nothing --out model").error();
    assert_says(&hub, &["OWNER/NAME", "nothing"]);
}

#[cfg(target_os = "linux")]
mod on_a_terminal {
    use std::{
        fs::File,
        io::Read,
        os::fd::{FromRawFd, OwnedFd},
        process::Stdio,
    };

    use super::*;

    /// What a command writes to a terminal of so many columns, and its exit code.
    fn on_terminal(mut command: Command, columns: u16) -> (String, i32) {
        let size = libc::winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut master, mut slave) = (0, 0);
        let nothing = std::ptr::null_mut();
        // SAFETY: the pointers are to live variables or null, as openpty allows.
        let made = unsafe {
            libc::openpty(&mut master, &mut slave, nothing, nothing.cast(), &raw const size as *mut _)
        };
        assert_eq!(made, 0, "a terminal");
        // SAFETY: both were just opened and belong to nobody else.
        let (mut master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        let end = |slave: &OwnedFd| Stdio::from(slave.try_clone().expect("a copy"));
        command.stdin(Stdio::null()).stdout(end(&slave)).stderr(end(&slave));
        let mut child = command.spawn().expect("starts");
        // The last end of it closes with the child.
        drop((slave, command));
        let mut said = Vec::new();
        let mut part = [0; 4096];
        // On Linux the end is an error.
        while let Ok(read @ 1..) = master.read(&mut part) {
            said.extend_from_slice(&part[..read]);
        }
        let code = child.wait().expect("ends").code().unwrap_or(-1);
        (String::from_utf8_lossy(&said).into_owned(), code)
    }

    /// A line without its escape sequences.
    fn visible(line: &str) -> String {
        let mut parts = line.trim_end_matches('\r').split('\x1b');
        let mut text = parts.next().unwrap_or_default().to_owned();
        parts.for_each(|part| text.extend(part.chars().skip_while(|c| !c.is_ascii_alphabetic()).skip(1)));
        text
    }

    /// Columns of the longest line.
    fn widest(text: &str) -> usize {
        text.lines().map(|line| visible(line).chars().count()).max().unwrap_or_default()
    }

    #[test]
    fn boards_move_in_place_and_fit() {
        let sandbox = Sandbox::new();
        sandbox.model("model.safetensors", 4);
        let solve = |args: &[&str]| {
            let mut command = sandbox.command();
            command.args(["solve", FOUR, "--checkpoint", "model.safetensors", "--all-steps"]).args(args);
            command
        };
        for columns in [40, 80, 200] {
            let (text, code) = on_terminal(solve(&[]), columns);
            assert_eq!(code, 1, "{text}");
            assert_says(&text, &["step 1: ", "step 3: ", "\x1b[J", "\x1b[34m"]);
            let (board, rest) = text.split_once("step   changed").expect("the table");
            assert!(widest(board) <= columns.into(), "{columns}: {board}");
            assert!(!rest.contains("\x1b[J"), "{rest}");
            let (still, _) = on_terminal(solve(&["--no-animation"]), columns);
            assert!(!still.contains("\x1b[J"), "{still}");
            let (board, _) = still.split_once("step   changed").expect("the table");
            assert!(widest(board) <= columns.into(), "{columns}: {board}");
        }
    }

    #[test]
    fn the_panel_of_a_training_fits() {
        let sandbox = Sandbox::new();
        sandbox.write("tiny.toml", TINY_RECIPE);
        for columns in [60, 100, 200] {
            let mut command = sandbox.command();
            let run = format!("run-{columns}");
            command.args(["train", "--config", "tiny.toml", "--run-dir", &run]);
            // Long enough to be seen.
            command.args(["--set", "train.max_steps=400", "--set", "eval.interval=400"]);
            let (text, code) = on_terminal(command, columns);
            assert_eq!(code, 0, "{text}");
            let (panel, _) = text.split_once("finished after").expect("the end");
            let panel = panel.split_once("steps of").expect("the start").1;
            assert!(panel.contains('▁') && panel.contains("continuing"), "{panel}");
            // Lines are filled up to the last column, where the next one begins: none is broken, so each has its label in front.
            let drawn: Vec<char> = panel
                .split(['\n', '\r'])
                .map(visible)
                .find(|drawn| drawn.contains("halted ") && !drawn.contains("held-out"))
                .expect("a panel")
                .chars()
                .collect();
            let lines: Vec<String> = drawn.chunks(columns.into()).map(|line| line.iter().collect()).collect();
            for label in ["step ", "loss ", "halted ", "speed ", "time "] {
                assert!(lines.iter().any(|line| line.starts_with(label)), "{columns}: {label}: {lines:#?}");
            }
            assert!(lines.len() >= 7, "{columns}: {lines:#?}");
        }
    }
}
