//! `hrm solve`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::sandbox::{FOUR, FOUR_SOLVED, NINE, Sandbox, assert_says};

/// The models that the project ships.
const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints");

#[test]
fn the_built_in_puzzle_with_the_bundled_model() {
    if !Path::new(BUNDLED).join("sudoku-4x4/model.safetensors").exists() {
        eprintln!("SKIPPED: no bundled model in {BUNDLED}");
        return;
    }
    let sandbox = Sandbox::new();
    let run = |args: &[&str]| {
        let output = sandbox.command().env("HRM_CHECKPOINTS", BUNDLED).arg("solve").args(args).output();
        crate::sandbox::Run::from(output.expect("starts"))
    };
    let text = run(&[]).ok();
    assert_says(
        &text,
        &["puzzle", "step 1", "q_halt", "solution ", "valid     yes", "steps ", " ms on flex"],
    );
    assert!(!text.contains('\x1b'), "no colours in a pipe");
    let report = run(&[FOUR, "--json"]).json();
    assert_eq!(report["puzzles"][0]["solution"], FOUR_SOLVED);
    assert_eq!(report["summary"]["solved"], 1);
}

#[test]
fn a_wrong_answer_is_told_and_fails() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    let run = sandbox.hrm(&format!("solve {FOUR} --checkpoint model.safetensors --plain"));
    assert_eq!(run.code, 1, "random weights solve nothing");
    assert_says(&run.stdout, &["valid     NO", "stopped at the last step", "3 of at most 3"]);
    let run = sandbox.hrm(&format!("solve {FOUR} --checkpoint model.safetensors --max-steps 5 --json"));
    assert_eq!(run.code, 1);
    let report = run.json();
    let puzzle = &report["puzzles"][0];
    assert_eq!(puzzle["puzzle"], FOUR);
    assert_eq!(puzzle["valid"], false);
    assert_eq!(puzzle["steps"], 5);
    assert_eq!(puzzle["q_halt"].as_array().map(Vec::len), Some(5));
    assert_eq!(puzzle["error"], serde_json::Value::Null);
    assert!(puzzle["milliseconds"].as_f64().is_some_and(|ms| ms > 0.0));
    assert_eq!(report["summary"]["wrong"], 1);
}

#[test]
fn what_the_model_does_not_see_it_guesses() {
    let hard = ".....9..4.6.3.......918..3.4......969.7..12........1.5..1..4...8......6.3..5..4.9";
    let sandbox = Sandbox::new();
    let run = |args: &[&str]| {
        let output =
            sandbox.command().env("HRM_CHECKPOINTS", BUNDLED).args(["solve", hard]).args(args).output();
        crate::sandbox::Run::from(output.expect("starts"))
    };
    let alone = run(&["--max-steps", "4", "--guesses", "0", "--plain"]);
    assert_eq!(alone.code, 1, "{}{}", alone.stdout, alone.stderr);
    assert_says(&alone.stdout, &["--guesses 512"]);
    // The bundled model has learned to guess, and needs not be told.
    for guesses in [&[][..], &["--guesses", "64"]] {
        let guessed = run(&[&["--max-steps", "4", "--plain"], guesses].concat()).ok();
        assert_says(&guessed, &["valid     yes", "on the way to it, halted by itself", "guessed: "]);
    }
    let mazes = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/maze-10x10/test.csv.gz");
    let mazes = ["solve", "--task", "maze", mazes, "--guesses", "4"];
    let output = sandbox.command().env("HRM_CHECKPOINTS", BUNDLED).args(mazes).output();
    let error = crate::sandbox::Run::from(output.expect("starts")).error_after_output();
    assert!(error.contains("guesses fill in blank cells, and maze puzzles have none"), "{error}");
    assert_eq!(run(&["--guesses", "4", "--vote", "2"]).code, 2);
}

#[test]
fn what_the_model_cannot_is_searched() {
    let sandbox = Sandbox::new();
    for name in ["a", "b"] {
        sandbox.model(&format!("{name}.safetensors"), 4);
    }
    sandbox.write("puzzles.txt", format!("{FOUR}\n{FOUR}\n1234............\n"));
    let options = "--vote 3 --restarts 2 --noise 0.5 --verify --fallback exact";
    let run =
        sandbox.hrm(&format!("solve --file puzzles.txt --ensemble a.safetensors,b.safetensors {options}"));
    assert_eq!(run.code, 1, "one puzzle has several solutions");
    assert_says(&run.stdout, &["line 1", "searched: 12 attempts, 36 steps in all, then", "solved: 0 neural"]);
    let run = sandbox.hrm(&format!("solve {FOUR} --checkpoint a.safetensors {options} --json"));
    assert_eq!(run.code, 0);
    let report = run.json();
    let puzzle = &report["puzzles"][0];
    assert_eq!((&puzzle["solution"], &puzzle["source"]), (&FOUR_SOLVED.into(), &"searched".into()));
    assert_eq!((&puzzle["attempts"], &puzzle["segments"]), (&6.into(), &18.into()));
    assert!(puzzle["guesses"].is_number() && puzzle["guesses_without_model"].is_number());
    assert_eq!(report["summary"]["sources"]["searched"], 1);
    let text = sandbox.hrm(&format!("solve {FOUR} --checkpoint a.safetensors {options} --plain")).ok();
    assert_says(&text, &["searched: ", "valid     yes", "answer    searched: 6 attempts"]);

    let voted = sandbox.hrm(&format!("solve {FOUR} --checkpoint a.safetensors --vote 5 --json")).json();
    assert_eq!(
        (&voted["puzzles"][0]["source"], &voted["puzzles"][0]["attempts"]),
        (&"voted".into(), &5.into())
    );
    let refused = |args: &str| sandbox.hrm(&format!("solve {FOUR} --checkpoint a.safetensors {args}"));
    assert_says(&refused("--restarts 4 --noise 0").error(), &["4 restarts without noise"]);
    assert_says(&refused("--fallback exact").stderr, &["--verify"]);
    assert_says(&refused("--vote 0").stderr, &["--vote"]);
    assert_says(&refused("--ensemble b.safetensors").stderr, &["--checkpoint", "--ensemble"]);
    sandbox.model("nine.safetensors", 9);
    let run = sandbox.hrm(&format!("solve {FOUR} --ensemble a.safetensors,nine.safetensors"));
    assert_says(&run.error(), &["nine.safetensors", "9x9", "4x4"]);
}

#[test]
fn puzzles_that_make_no_sense_are_told_before_the_model_runs() {
    // No model is there: none is needed.
    let sandbox = Sandbox::new();
    for (puzzle, said) in [
        ("11..............", "value 1 stands twice in row 1 (columns 1 and 2)"),
        ("1...1...........", "column 1 (rows 1 and 2)"),
        ("1....1..........", "box 1"),
        ("................", "more than one solution: row"),
        ("123....4........", "no solution"),
        ("1234", "got 4"),
        ("1....3...2....7.", "'7'"),
        ("1....3...2....%.", "'%'"),
    ] {
        let error = sandbox.hrm(&format!("solve {puzzle} --plain")).code;
        assert_eq!(error, 1, "{puzzle}");
        assert_says(&sandbox.hrm(&format!("solve {puzzle}")).error(), &[said]);
        let run = sandbox.hrm(&format!("solve {puzzle} --json"));
        assert_eq!((run.code, run.stderr.as_str()), (1, ""));
        let report = run.json();
        assert_says(report["puzzles"][0]["error"].as_str().unwrap_or_default(), &[said]);
        assert_eq!(report["summary"]["rejected"], 1);
    }
}

#[test]
fn the_good_puzzles_of_a_file_are_solved_whatever_the_others_are() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    sandbox.write("puzzles.txt", format!("# four of them\n{FOUR}\n11..............\n\n{FOUR}\n{NINE}\n"));
    let run = sandbox.hrm("solve --file puzzles.txt --checkpoint model.safetensors");
    assert_eq!(run.code, 1);
    assert_says(&run.stdout, &["line 2 ", "line 5 ", "4 puzzles: 0 solved, 2 wrong, 2 rejected"]);
    assert_says(&run.stderr, &["error: line 3: ", "error: line 6: the model model.safetensors is for 4x4"]);

    let csv =
        format!("source,question,answer,rating\na,{FOUR},{FOUR_SOLVED},1\nb,{FOUR},{FOUR},1\nc,{FOUR},,2\n");
    sandbox.write("puzzles.csv", csv);
    let run = sandbox.hrm("solve --file puzzles.csv --checkpoint model.safetensors --json");
    assert_eq!(run.code, 1);
    let report = run.json();
    assert_eq!(report["puzzles"].as_array().map(Vec::len), Some(3));
    assert_eq!(report["puzzles"][0]["matches_answer"], false);
    assert_eq!(report["puzzles"][1]["place"], "line 3");
    assert_says(report["puzzles"][1]["error"].as_str().unwrap_or_default(), &["answer"]);
    assert_eq!(report["puzzles"][2].get("matches_answer"), None);
    assert_eq!(report["summary"]["wrong"], 2);
}

#[test]
fn standard_input() {
    let sandbox = Sandbox::new();
    sandbox.model("bundled/sudoku-4x4/model.safetensors", 4);
    let input = format!("{FOUR}\n{FOUR}\n");
    for args in ["solve - --json", "solve --json"] {
        let report = sandbox.hrm_with_input(args, &input).json();
        assert_eq!(report["summary"]["puzzles"], 2, "{args}");
    }
    let grid = "1 . | . .\n. 3 | . .\n----+----\n. 2 | . .\n. . | 4 .\n";
    let report = sandbox.hrm_with_input("solve - --json", grid).json();
    assert_eq!(report["puzzles"][0]["puzzle"], FOUR);
    assert_says(&sandbox.hrm_with_input("solve -", "\n# nothing\n").error(), &["no puzzle"]);
    let text = sandbox.hrm_with_input("solve", "").stdout;
    assert_says(&text, &["puzzle, 4 givens"]);
}

#[test]
fn the_model_is_picked_by_the_size_of_the_puzzle() {
    let sandbox = Sandbox::new();
    assert_says(&sandbox.hrm("solve").error(), &["none is bundled", "--checkpoint"]);
    for side in [4, 9] {
        sandbox.model(&format!("bundled/sudoku-{side}x{side}/model.safetensors"), side);
    }
    sandbox.write("mixed.txt", format!("{FOUR}\n{NINE}\n{FOUR}\n"));
    let report = sandbox.hrm("solve --file mixed.txt --json").json();
    assert_eq!(report["models"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["summary"]["wrong"], 3);
    assert_eq!(report["puzzles"][1]["puzzle"], NINE, "in the order of the file");
    let six = format!("solve 123456{}", "0".repeat(30));
    assert_says(&sandbox.hrm(&six).error(), &["more than one solution"]);
    let six = "solve 12345645612323156456423131264564531.";
    assert_says(&sandbox.hrm(six).error(), &["no model for 6x6", "bundled: 4x4, 9x9"]);
    // Without a puzzle, the built-in one of the model's size.
    sandbox.model("six.safetensors", 6);
    assert_says(&sandbox.hrm("solve --checkpoint six.safetensors").stdout, &["puzzle, 18 givens"]);
}

#[test]
fn a_model_that_mixes_by_groups_takes_puzzles_of_every_size() {
    let sandbox = Sandbox::new();
    let model = sandbox.lattice("lattice.safetensors", 9);
    let six = "12345645612323156456423131264564531.";
    sandbox.write("mixed.txt", format!("{FOUR}\n{six}\n{NINE}\n"));
    let report =
        sandbox.hrm(&format!("solve --file mixed.txt --json --checkpoint {}", model.display())).json();
    assert_eq!(report["summary"]["puzzles"], 3);
    let solution = report["puzzles"][1]["solution"].as_str().expect("an answer");
    assert_eq!(solution.len(), six.len());
    sandbox.write(
        "six.csv",
        format!("source,question,answer,rating\nmade,{six},{}\n", six.replace('.', "2") + ",0"),
    );
    let eval = format!("eval --checkpoint {} --data six.csv --json", model.display());
    assert_eq!(sandbox.hrm(&eval).json()["examples"], 1);
    // Another kind of puzzle has other groups, or none.
    let maze = format!("solve --task maze --checkpoint {} S..G", model.display());
    assert_says(&sandbox.hrm(&maze).error(), &["the model"]);
}

#[test]
fn checkpoints_that_cannot_be_used() {
    let sandbox = Sandbox::new();
    let model = sandbox.model("model.safetensors", 4);
    let solve = |checkpoint: &str| sandbox.hrm(&format!("solve {FOUR} --checkpoint {checkpoint}")).error();
    assert_says(&solve("absent.safetensors"), &["absent.safetensors: no such file"]);
    sandbox.write("folder/readme.txt", "nothing");
    assert_says(&solve("folder"), &["folder: no checkpoint here"]);
    sandbox.write("text.safetensors", "this is no model at all");
    assert_says(&solve("text.safetensors"), &["text.safetensors", "not a safetensors file"]);
    let bytes = std::fs::read(model).expect("model");
    for length in [0, 5, 60, bytes.len() / 2, bytes.len() - 1] {
        sandbox.write("cut.safetensors", &bytes[..length]);
        assert_says(&solve("cut.safetensors"), &["cut.safetensors", "truncated"]);
    }
    sandbox.model("nine.safetensors", 9);
    assert_says(&solve("nine.safetensors"), &["is for 9x9", "this one is 4x4"]);
    sandbox.model("bare.safetensors", 4);
    sandbox.hrm("export bare.safetensors --out original.safetensors").ok();
    assert_says(&solve("original.safetensors"), &["no model configuration", "hrm import"]);
}

#[test]
fn files_that_cannot_be_read() {
    let sandbox = Sandbox::new();
    assert_says(&sandbox.hrm("solve --file absent.csv").error(), &["absent.csv", "No such file"]);
    sandbox.write("empty.txt", "");
    assert_says(&sandbox.hrm("solve --file empty.txt").error(), &["empty.txt: no puzzle"]);
    sandbox.write("binary.txt", [0x80, 0xff, 0xfe]);
    assert_says(&sandbox.hrm("solve --file binary.txt").error(), &["binary.txt: expected text"]);
    // What was solved before the damage is told, and the object is whole.
    let mut damaged = format!("{FOUR}\n{FOUR}\n").into_bytes();
    damaged.extend([0xff, b'\n']);
    sandbox.write("damaged.txt", damaged);
    let run = sandbox.hrm("solve --file damaged.txt --with dfs --json");
    assert_eq!(run.code, 1);
    assert_says(&run.stderr, &["damaged.txt: expected text"]);
    sandbox.write("cut.csv.gz", [0x1f, 0x8b, 8, 0, 0]);
    assert_says(&sandbox.hrm("solve --file cut.csv.gz").error(), &["cut.csv.gz", "gzip"]);
}

#[test]
fn usage_errors_have_exit_code_2() {
    let sandbox = Sandbox::new();
    for args in
        ["", "sovle", "solve --max-steps 0", "solve --backend abacus", "solve a --file b", "train", "eval"]
    {
        assert_eq!(sandbox.hrm(args).code, 2, "hrm {args}");
    }
    assert_says(&sandbox.hrm("sovle").stderr, &["'solve'"]);
    assert_says(&sandbox.hrm("--help").ok(), &["hrm solve", "Usage"]);
    assert_says(&sandbox.hrm("solve --help").ok(), &["Examples", "--max-steps"]);
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_backend_that_is_not_compiled_in_is_told_with_what_to_do() {
    let sandbox = Sandbox::new();
    assert_says(
        &sandbox.hrm("solve --backend cuda").error(),
        &["`cuda` is not compiled in", "flex", "--features cuda", "cargo xtask train --backend cuda"],
    );
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    sandbox.write("many.txt", format!("{FOUR}\n").repeat(200));
    let mut command = sandbox.command();
    command.args(["solve", "--file", "many.txt", "--checkpoint", "model.safetensors"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let run = crate::sandbox::Run::from(child.wait_with_output().expect("ends"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}

/// What is printed until so many lines are there, while standard input stays open.
fn first_lines(sandbox: &Sandbox, args: &[&str], input: &str, lines: usize) -> (Vec<String>, Child) {
    let mut command = sandbox.command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    child.stdin.as_mut().expect("piped").write_all(input.as_bytes()).expect("input");
    let out = child.stdout.take().expect("piped");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().take(lines).flatten() {
            let _ = sender.send(line);
        }
    });
    let wait = Duration::from_secs(60);
    let found = (0..lines).map(|_| receiver.recv_timeout(wait).expect("a line, although the input is open"));
    (found.collect(), child)
}

#[test]
fn answers_come_before_the_input_ends_and_in_its_order() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    sandbox.model("bundled/sudoku-4x4/model.safetensors", 4);
    sandbox.model("bundled/sudoku-9x9/model.safetensors", 9);
    let input = format!("{FOUR}\n{NINE}\n{FOUR}\n{NINE}\n{FOUR}\n");
    for args in [&["solve", "-"][..], &["solve", "-", "--with", "dfs"], &["solve", "-", "--json"]] {
        let json = args.contains(&"--json");
        let (lines, mut child) = first_lines(&sandbox, args, &input, if json { 20 } else { 5 });
        if !json {
            for (number, line) in lines.iter().enumerate() {
                assert!(line.starts_with(&format!("line {}  ", number + 1)), "{lines:?}");
            }
        }
        // Whoever read it stopped reading: no error.
        child.kill().expect("ends");
        child.wait().expect("ended");
    }
    let report = sandbox.hrm_with_input("solve - --json", &input.repeat(30)).json();
    let lines: Vec<&str> =
        report["puzzles"].as_array().unwrap().iter().map(|p| p["puzzle"].as_str().unwrap()).collect();
    assert_eq!(lines, [FOUR, NINE, FOUR, NINE, FOUR].repeat(30));
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_input() {
    let sandbox = Sandbox::new();
    // Puzzles that are told to be wrong take no time and, if they were kept, the same memory.
    let row = format!("x,11..............,{FOUR_SOLVED},1\n");
    sandbox.write("many.csv", format!("source,question,answer,rating\n{}", row.repeat(300_000)));
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..100 {
        bomb.write_all(&vec![0; 1 << 20]).unwrap();
    }
    sandbox.write("bomb.csv.gz", bomb.finish().unwrap());
    for args in [
        "solve --file many.csv --with dfs",
        "solve --file bomb.csv.gz --with dfs",
        "solve --file bomb.csv.gz --task killer --with exact",
    ] {
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "ulimit -v 2000000; exec {} {args} 2>&1 >/dev/null | tail -n 1",
                env!("CARGO_BIN_EXE_hrm")
            ))
            .current_dir(sandbox.path(""))
            .output()
            .expect("starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match args.contains("bomb") {
            true => assert_says(&said, &["records of at most 1048576 bytes"]),
            false => assert_says(&said, &["error: line 300001: question: the board breaks the rules"]),
        }
    }
}
