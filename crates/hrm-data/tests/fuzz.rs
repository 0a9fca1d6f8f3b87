//! Every reader of the crate against arbitrary bytes and damaged files: an error, never a panic, and never more memory than the
//! bytes justify.
//!
//! Runs for a moment; `HRM_FUZZ_SECONDS=600 cargo test -p hrm-data --test fuzz --release` runs each target that long.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use hrm_data::dataset::npy::{self, IntArray};
use hrm_data::dataset::{Dataset, Overwrite, load_identifiers};
use hrm_data::puzzles::maze::{self, Maze, Mazes};
use hrm_data::puzzles::queens::Queens;
use hrm_data::puzzles::sudoku::{self, Board, Generator, Geometry, Notation, Sudoku};
use hrm_data::puzzles::{arc, killer, samurai};
use hrm_data::reader::{Reader, read_all};
use hrm_data::registry::Family;
use hrm_data::task::{AnyTask, GenerateOptions, Task};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// Remembers the largest piece of memory that each thread asked for.
struct Watch;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that ends may still free and ask for memory.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Watch {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static WATCH: Watch = Watch;

/// Inputs have less than 100 kB, and bombs are tested elsewhere.
const MOST_MEMORY: usize = 32 << 20;

/// A change to a file.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let words = prop::sample::select(vec![
        "0",
        "-1",
        "9999999999999",
        "18446744073709551615",
        "1e999",
        "NaN",
        "\"",
        "\"\"",
        ",",
        "\n",
        "\r\n",
        "#",
        "S",
        "G",
        "[",
        "]",
        "{",
        "}",
        "null",
        "(",
        ")",
        ":",
        "'",
        "\u{feff}",
        "é",
        "\0",
        "\x1f\u{8b}",
        " ",
        ";",
    ]);
    let bytes = prop_oneof![
        words.prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..8)
    ];
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        4 => (any::<Index>(), bytes).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        2 => (any::<Index>(), 1usize..40).prop_map(|(at, n)| Change::Delete(at, n)),
        2 => (any::<Index>(), 1usize..40, 1usize..30).prop_map(|(at, n, times)| Change::Repeat(at, n, times)),
        1 => any::<Index>().prop_map(Change::Cut),
    ]
}

fn apply(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let place = |index: &Index| index.index(bytes.len() + 1);
        match change {
            Change::Set(at, byte) => {
                let at = place(at);
                if let Some(slot) = bytes.get_mut(at) {
                    *slot = *byte;
                }
            }
            Change::Insert(at, new) => {
                let at = place(at);
                bytes.splice(at..at, new.iter().copied());
            }
            Change::Delete(at, n) => {
                let at = place(at);
                bytes.drain(at..(at + n).min(bytes.len()));
            }
            Change::Repeat(at, n, times) => {
                let at = place(at);
                let copy = bytes[at..(at + n).min(bytes.len())].repeat(*times);
                bytes.splice(at..at, copy);
            }
            Change::Cut(at) => {
                let at = place(at);
                bytes.truncate(at);
            }
        }
    }
    bytes
}

/// Feeds a reader with arbitrary bytes and with damaged copies of valid files, some of them compressed.
fn fuzz(valid: Vec<Vec<u8>>, read: impl Fn(&[u8])) {
    let seconds = std::env::var("HRM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0.2);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    for bytes in &valid {
        read(bytes);
    }
    let damaged = (prop::sample::select(valid), prop::collection::vec(change(), 0..6))
        .prop_map(|(bytes, changes)| apply(bytes, &changes))
        .boxed();
    let packed = (damaged.clone(), prop::collection::vec(change(), 0..2))
        .prop_map(|(bytes, changes)| apply(gz(&bytes), &changes));
    let any_bytes = prop::collection::vec(any::<u8>(), 0..300);
    let inputs = prop_oneof![5 => damaged, 2 => packed, 1 => any_bytes];
    let mut cases = 0;
    // A new runner each time: a fresh seed, whatever the last one drew.
    while cases == 0 || Instant::now() < end {
        let config =
            Config { cases: 50, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
        let outcome = TestRunner::new(config).run(&inputs, |bytes| {
            LARGEST.set(0);
            read(&bytes);
            let largest = LARGEST.get();
            prop_assert!(largest < MOST_MEMORY, "asked for {largest} bytes at once");
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{error}");
        }
        cases += 50;
    }
    eprintln!("{cases} cases");
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const PUZZLE: &str = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79";
const SOLUTION: &str = "534678912672195348198342567859761423426853791713924856961537284287419635345286179";

#[test]
fn sudoku_text() {
    let sixteen = Generator::new(Geometry::S16, 1).with_clues(200, 200).generate(0).puzzle;
    let decimal: Vec<String> = sixteen.cells().iter().map(ToString::to_string).collect();
    let valid = [
        PUZZLE.to_owned(),
        PUZZLE.parse::<Board>().unwrap().to_string(),
        sixteen.to_string(),
        decimal.join(" "),
    ];
    fuzz(valid.map(String::into_bytes).to_vec(), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for notation in [Notation::Auto, Notation::Letters, Notation::HexFromZero, Notation::Decimal] {
            for geometry in [None, Some(Geometry::S9)] {
                if let Ok(board) = Board::parse(&text, notation, geometry) {
                    assert_eq!(
                        Board::parse(&board.to_line(), Notation::Letters, Some(board.geometry())),
                        Ok(board)
                    );
                }
            }
        }
    });
}

/// Reads bytes as puzzles of a family, and shows the tokens of those that are some. What is read is written and read again.
fn for_each_puzzle(family: Family, bytes: &[u8], show: impl Fn(&[u8], Option<&[u8]>)) {
    let reader = Reader::new(family, Cursor::new(bytes.to_vec()), Path::new("in.csv"));
    for puzzle in reader.flatten().filter_map(|entry| entry.puzzle.ok()) {
        let input = &puzzle.record.input;
        assert_eq!(puzzle.task.parse(&puzzle.task.line(input).unwrap()).as_ref(), Ok(input));
        show(input, puzzle.record.label.as_deref());
    }
}

#[test]
fn other_tables_and_text() {
    let samurai = samurai::Generator::new(1).with_clues(200, 200).generate(0).puzzle;
    let valid = [
        "AABB\nCABD\nCCDD\nAAAD\n7 6 8 10 6\n\nAABBCABDCCDDAAAD;7,6,8,10,6\n".to_owned(),
        ".Q......\n........\n........\n........\n........\n........\n........\n........\n".to_owned(),
        format!("{samurai}\n\n{}\n", samurai.to_line()),
    ];
    fuzz(valid.map(String::into_bytes).to_vec(), |bytes| {
        for family in [Family::Killer, Family::Samurai, Family::Queens, Family::Arc] {
            for_each_puzzle(family, bytes, |_, _| {});
        }
    });
}

#[test]
fn sudoku_tables() {
    let valid = [
        format!("source,question,answer,rating\nx,{PUZZLE},{SOLUTION},12\ny,{PUZZLE},,\n"),
        format!("quizzes,solutions\n{PUZZLE},{SOLUTION}\n"),
        format!("# lines\n{PUZZLE}\n{SOLUTION}\n"),
    ];
    fuzz(valid.map(String::into_bytes).to_vec(), |bytes| {
        for_each_puzzle(Family::Sudoku, bytes, |input, label| {
            let puzzle = sudoku::decode_tokens(input).unwrap();
            assert!(puzzle.validate().is_ok());
            assert!(label.is_none_or(|l| sudoku::decode_tokens(l).unwrap().is_solution_of(&puzzle)));
        });
    });
}

#[test]
fn maze_tables_and_text() {
    let maze: Maze = "S  \n # \n  G".parse().unwrap();
    let answer: String = maze.label().unwrap().iter().map(|&t| maze::SYMBOLS[usize::from(t) - 1]).collect();
    let valid = [
        format!("source,question,answer,rating\nx,{0},{answer},4\n,{0},,\n", maze.to_line()),
        format!("question\n\"{maze}\"\n"),
        maze.to_string(),
    ];
    fuzz(valid.map(String::into_bytes).to_vec(), |bytes| {
        for_each_puzzle(Family::Maze, bytes, |_, _| {});
        if let Ok(maze) = String::from_utf8_lossy(bytes).parse::<Maze>() {
            // One row or one column have no text of their own that says so.
            if maze.rows() > 1 {
                assert_eq!(maze.to_string().parse(), Ok(maze));
            }
        }
    });
}

#[test]
fn arrays() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    npy::write_u8(&file("a"), &[3, 4], &[1; 12]).unwrap();
    npy::write_i32(&file("b"), &[0, 5, 9]).unwrap();
    let mut huge = std::fs::read(file("a")).unwrap();
    let at = huge.windows(6).position(|window| window == b"(3, 4)").unwrap();
    huge.splice(at..at + 20, b"(1000000000000, 4),}".iter().copied());
    let valid = vec![std::fs::read(file("a")).unwrap(), std::fs::read(file("b")).unwrap(), huge];
    fuzz(valid, |bytes| {
        let path = file("fuzz.npy");
        let mut arrays = vec![IntArray::from_reader(bytes, &path)];
        if bytes.starts_with(&[0x1f, 0x8b]) {
            std::fs::write(&path, bytes).unwrap();
            arrays.push(IntArray::read(&path));
        }
        for array in arrays.into_iter().flatten() {
            let cells: usize = array.shape().iter().product();
            assert!(array.clone().into_u8(255).is_none_or_len(cells));
            assert!(array.into_u32(u32::MAX).is_none_or_len(cells));
        }
    });
}

/// An array has as many elements as its shape says, if they fit the type.
trait Elements {
    fn is_none_or_len(&self, cells: usize) -> bool;
}

impl<T, E> Elements for Result<Vec<T>, E> {
    fn is_none_or_len(&self, cells: usize) -> bool {
        self.as_ref().map_or(true, |elements| elements.len() == cells)
    }
}

/// A folder with a small dataset, and the names of its files.
fn dataset(root: &Path) -> Vec<String> {
    let queens = AnyTask::new(Queens::new(5).unwrap());
    let made = queens.split(&GenerateOptions::default(), 1, (3, 0)).unwrap().train;
    queens.dataset(&made, 1, 0).unwrap().save(root, Overwrite::Yes).unwrap();
    std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn dataset_folders() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = dataset(dir.path());
    assert_eq!(names.len(), 7);
    let whole = Dataset::load(dir.path()).unwrap();
    names.retain(|name| name != "checksums.sha256");
    let sums = dir.path().join("checksums.sha256");
    // The input's first byte chooses the file that is damaged.
    let valid: Vec<Vec<u8>> = names
        .iter()
        .enumerate()
        .map(|(index, name)| [vec![index as u8], std::fs::read(dir.path().join(name)).unwrap()].concat())
        .collect();
    assert!(Dataset::load(dir.path()).is_ok());
    fuzz(valid, |bytes| {
        let Some((&first, rest)) = bytes.split_first() else { return };
        let path = dir.path().join(&names[usize::from(first) % names.len()]);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, rest).unwrap();
        // With checksums, what is read is what was written.
        assert!(Dataset::load(dir.path()).is_ok_and(|data| data == whole) || rest != good);
        if let Ok(data) = Dataset::load(dir.path()) {
            assert_eq!(data, whole);
        }
        // Without, as other programs write them, it fits together.
        let kept = std::fs::read(&sums).unwrap();
        std::fs::remove_file(&sums).unwrap();
        if let Ok(data) = Dataset::load(dir.path()) {
            assert!(data.sets().iter().all(|set| set.input(0).len() == data.metadata().seq_len));
        }
        std::fs::write(&sums, kept).unwrap();
        std::fs::write(&path, good).unwrap();
    });
    let root = tempfile::tempdir().unwrap();
    fuzz(vec![b"[\"<blank>\", \"a\"]".to_vec()], |bytes| {
        std::fs::write(root.path().join("identifiers.json"), bytes).unwrap();
        let _ = load_identifiers(root.path());
    });
}

#[test]
fn arc_files() {
    let task = r#"{"train":[{"input":[[1,2],[3,4]],"output":[[0]]}],"test":[{"input":[[3]],"output":[[4]]}],"name":"x"}"#;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tasks.json");
    let other = dir.path().join("solutions.json");
    std::fs::write(&other, r#"{"a":[[[4]]],"tasks":[[[4]]]}"#).unwrap();
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let valid = vec![task.to_owned(), format!("{{\"a\":{task}}}"), r#"{"a":[[[4]]]}"#.to_owned(), deep];
    fuzz(valid.into_iter().map(String::into_bytes).collect(), |bytes| {
        std::fs::write(&path, bytes).unwrap();
        for task in arc::load(&path).unwrap_or_default() {
            assert_eq!(arc::ArcTask::from_json(&task.id, &task.to_json()), Ok(task));
        }
        let _ = arc::load_kaggle(&path, &other);
        let _ = arc::load_kaggle(&path, &path);
    });
}

#[test]
fn killer_text_and_tokens() {
    let made = killer::Generator::new(Geometry::S9, 1).unwrap().generate(0).puzzle;
    let small = killer::Generator::new(Geometry::S4, 1).unwrap().generate(0).puzzle;
    let valid = [made.to_string(), made.to_line(), small.to_string(), small.to_line()];
    fuzz(valid.map(String::into_bytes).to_vec(), |bytes| {
        if let Ok(puzzle) = String::from_utf8_lossy(bytes).parse::<killer::Killer>() {
            assert_eq!(puzzle.to_line().parse().as_ref(), Ok(&puzzle));
            let search = puzzle.search(2, 20);
            assert!(search.first.is_none_or(|board| puzzle.faults(&board).is_empty()));
        }
    });
    for puzzle in [made, small] {
        let task = killer::KillerTask::new(puzzle.geometry()).unwrap();
        fuzz(vec![task.encode(&puzzle)], |bytes| {
            if let Ok(puzzle) = task.decode(bytes) {
                assert_eq!(task.encode(&puzzle), bytes);
            }
            let _ = task.verify(&puzzle, bytes);
            let _ = task.render(&puzzle, Some(bytes), hrm_data::render::Style::Ansi);
        });
    }
}

#[test]
fn samurai_text_and_tokens() {
    let made = samurai::Generator::new(1).with_clues(200, 200).generate(0).puzzle;
    let valid = [made.to_string(), made.to_line(), made.to_string().replace('#', " ")];
    fuzz(valid.map(String::into_bytes).to_vec(), |bytes| {
        if let Ok(puzzle) = String::from_utf8_lossy(bytes).parse::<samurai::Samurai>() {
            assert_eq!(puzzle.to_line().parse().as_ref(), Ok(&puzzle));
            let search = puzzle.search(2, 20);
            assert!(search.first.is_none_or(|boards| boards.is_solution_of(&puzzle)));
        }
    });
    let task = samurai::SamuraiTask;
    fuzz(vec![task.encode(&made)], |bytes| {
        if let Ok(puzzle) = task.decode(bytes) {
            assert_eq!(task.encode(&puzzle), bytes);
        }
        let _ = task.verify(&made, bytes);
    });
}

#[test]
fn other_tokens() {
    let sudoku = Sudoku { geometry: Geometry::S9 };
    let board: Board = PUZZLE.parse().unwrap();
    let queens = Queens::new(8).unwrap();
    let (placement, _) = queens.make(1, 0);
    let mazes = Mazes::new(3, 3);
    let maze: Maze = "S  \n # \n  G".parse().unwrap();
    fuzz(vec![sudoku.encode(&board), queens.encode(&placement), mazes.encode(&maze)], |bytes| {
        let _ =
            (sudoku.decode(bytes), queens.decode(bytes), mazes.decode(bytes), sudoku::decode_tokens(bytes));
        let _ = (sudoku.verify(&board, bytes), queens.verify(&placement, bytes), mazes.verify(&maze, bytes));
        let _ = (arc::decode(bytes), arc::crop(bytes));
        let _ = maze::draw::picture(&maze, bytes).svg();
    });
}

/// Small files that claim or unfold to a lot: refused before memory is spent on it.
#[test]
fn bombs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    // 256 MiB of zeros from 260 kB: one member many times.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 1 << 24]).unwrap();
    let member = encoder.finish().unwrap();
    npy::write_u8(&dir.path().join("head.npy"), &[0, 4], &[]).unwrap();
    let head = std::fs::read(dir.path().join("head.npy")).unwrap();
    let head =
        String::from_utf8_lossy(&head[10..]).replace("(0, 4), }             ", "(1000000000000, 4), } ");
    let mut start = b"\x93NUMPY\x01\x00".to_vec();
    start.extend((head.len() as u16).to_le_bytes());
    start.extend(head.as_bytes());
    let path = dir.path().join("bomb.npy.gz");
    std::fs::write(&path, [gz(&start), member.repeat(16)].concat()).unwrap();
    let error = IntArray::read(&path).unwrap_err().to_string();
    assert!(error.contains("unfolds to at most 64 MiB"), "{error}");
    // A record that does not end, in a table that is small on disk.
    let line = gz(&vec![b'"'; 1 << 24]);
    let table = [gz(b"question\n"), line.repeat(4)].concat();
    let path = dir.path().join("bomb.csv.gz");
    std::fs::write(&path, &table).unwrap();
    let error = read_all(Family::Sudoku, &path).unwrap_err().to_string();
    assert!(error.contains("records of at most 1048576 bytes"), "{error}");
    let error = read_all(Family::Maze, &path).unwrap_err().to_string();
    assert!(error.contains("records of at most 1048576 bytes"), "{error}");
    let path = dir.path().join("bomb.json.gz");
    std::fs::write(&path, gz(b" ").repeat(3).into_iter().chain(member.repeat(8)).collect::<Vec<u8>>())
        .unwrap();
    assert!(matches!(arc::load(&path), Err(arc::ArcError::TooLarge { .. })));
}

/// A pipe among the tasks would be waited for without end.
#[cfg(unix)]
#[test]
fn pipes_are_no_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let task = r#"{"train":[{"input":[[1]],"output":[[2]]}],"test":[{"input":[[1]],"output":[[2]]}]}"#;
    std::fs::write(dir.path().join("a.json"), task).unwrap();
    assert_eq!(arc::load(dir.path()).unwrap().len(), 1);
    let pipe = dir.path().join("b.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = arc::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("b.json") && error.contains("not a file"), "{error}");
}
