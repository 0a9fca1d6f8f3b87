//! A folder to work in and a way to run the program in it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use hrm_backend::Cpu;
use hrm_data::registry::{Family, Shape};
use hrm_model::{Architecture, ForwardDtype, Hrm, Mixer, ModelConfig, PositionEncoding, Tokens};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde_json::Value;

/// A recipe that trains in a blink.
pub const TINY_RECIPE: &str = include_str!("../tiny.toml");

/// A proper 4x4 puzzle.
pub const FOUR: &str = "1....3...2....4.";
/// Its solution.
pub const FOUR_SOLVED: &str = "1423231442313142";
/// A proper 9x9 puzzle.
pub const NINE: &str = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79";

pub struct Sandbox {
    dir: tempfile::TempDir,
}

/// What a run of the program gave.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
        fs::write(&path, text).expect("file");
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A model with random weights for Sudokus of a side.
    pub fn model(&self, name: &str, side: usize) -> PathBuf {
        self.save(name, ModelConfig::new(side + 2, side * side).with_num_heads(2))
    }

    /// The same as a lattice that mixes by groups, whose weights fit every size.
    pub fn lattice(&self, name: &str, side: usize) -> PathBuf {
        let shape = Shape::of(side * side, side + 2, Some(Family::Sudoku)).expect("a Sudoku");
        let architecture = Architecture {
            tokens: Tokens::Lattice,
            mixer: Mixer::Groups,
            pos_encodings: PositionEncoding::None,
            puzzle_emb_ndim: 0,
            ..Architecture::default()
        };
        self.save(name, architecture.on(side + 2, side * side, 1, hrm_infer::structure(shape)))
    }

    /// A model with random weights for ARC on a canvas, with so many rows of the puzzle embedding.
    pub fn arc_model(&self, name: &str, canvas: usize, identifiers: usize) -> PathBuf {
        let config = ModelConfig::new(12, canvas * canvas).with_num_heads(2).with_puzzle_emb_ndim(16);
        self.save(name, ModelConfig { num_puzzle_identifiers: identifiers, ..config })
    }

    fn save(&self, name: &str, config: ModelConfig) -> PathBuf {
        let mut config = config.with_hidden_size(16).with_layers(1, 1).with_cycles(1, 1);
        config.halt_max_steps = 3;
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
        let model: Hrm<Cpu> =
            config.init(&mut ChaCha8Rng::seed_from_u64(1), &Default::default()).expect("a valid config");
        model.save(&path, ForwardDtype::F32).expect("saves");
        path
    }

    /// The program, with no bundled models and in this folder.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hrm"));
        command
            .current_dir(self.dir.path())
            .env("HRM_CHECKPOINTS", self.path("bundled"))
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
        command
    }

    /// Runs the program with arguments separated by spaces.
    pub fn hrm(&self, args: &str) -> Run {
        Run::from(self.command().args(args.split_whitespace()).output().expect("starts"))
    }

    /// As [`hrm`](Self::hrm), with arguments that may hold spaces.
    pub fn hrm_with(&self, args: &[&str]) -> Run {
        Run::from(self.command().args(args).output().expect("starts"))
    }

    /// As [`hrm`](Self::hrm), with something on standard input.
    pub fn hrm_with_input(&self, args: &str, input: &str) -> Run {
        let mut command = self.command();
        command.args(args.split_whitespace()).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("input");
        Run::from(child.wait_with_output().expect("ends"))
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let run = Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        run
    }
}

impl Run {
    /// The run succeeded; gives its standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The run failed with one line `error: ...`, exit code 1 and nothing on standard output; gives the line.
    #[track_caller]
    pub fn error(self) -> String {
        assert_eq!(self.stdout, "", "{}", self.stderr);
        self.error_after_output()
    }

    /// As [`error`](Self::error), but the run may have printed something first, a list of what is wrong say.
    #[track_caller]
    pub fn error_after_output(self) -> String {
        assert_eq!(self.code, 1, "{}{}", self.stdout, self.stderr);
        let lines: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error:")).collect();
        assert_eq!(lines.len(), 1, "{}", self.stderr);
        assert!(self.stderr.trim_end().ends_with(lines[0]), "{}", self.stderr);
        lines[0].to_owned()
    }

    /// The standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", self.stdout, self.stderr))
    }
}

/// Every part of `expected` is in `text`.
#[track_caller]
pub fn assert_says(text: &str, expected: &[&str]) {
    for part in expected {
        assert!(text.contains(part), "expected {part:?} in: {text}");
    }
}

/// The files of a folder with their contents.
pub fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.clone(), fs::read(&path).expect("file")));
            }
        }
    }
    files.sort();
    files
}
