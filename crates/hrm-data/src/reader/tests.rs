use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::Write as _;

use super::*;
use crate::puzzles::{maze, sudoku};
use crate::task::write_records;
use crate::testdata::data_dir;

const Q: &str = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79";
const A: &str = "534678912672195348198342567859761423426853791713924856961537284287419635345286179";
const FOUR: &str = "1....3...2....4.";

fn read(family: Family, bytes: impl Into<Vec<u8>>) -> Result<Vec<Record>, String> {
    let reader = Reader::new(family, Cursor::new(bytes.into()), Path::new("in.csv"));
    puzzles(reader).map(|puzzle| puzzle.map(|puzzle| puzzle.record)).collect::<Result<_, _>>().map_err(told)
}

fn told(error: ReadError) -> String {
    error.to_string()
}

/// Where entries stand, with what they are: the puzzle on a line, or what is wrong.
fn entries(family: Family, text: &str) -> Vec<(u64, Result<String, String>)> {
    let reader = Reader::new(family, Cursor::new(text.as_bytes().to_vec()), Path::new("in"));
    let line = |puzzle: Puzzle| puzzle.task.line(&puzzle.record.input).unwrap();
    reader
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.line, entry.puzzle.map(line).map_err(|fault| fault.to_string())))
        .collect()
}

/// The bytes of a text one at a time, as from a slow pipe.
struct Slowly(Cursor<Vec<u8>>);

impl Read for Slowly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn every_layout_of_sudoku() {
    let read = |text: String| read(Family::Sudoku, text).unwrap();
    let full = read(format!("source,question,answer,rating\nforum,{Q},{A},12\n"));
    assert_eq!((full[0].source.as_str(), full[0].rating), ("forum", Some(12.0)));
    assert_eq!(sudoku::decode_tokens(&full[0].input).unwrap().to_line(), Q);
    assert_eq!(sudoku::decode_tokens(full[0].label.as_ref().unwrap()).unwrap().to_line(), A);
    assert_eq!(read(format!("forum,{Q},{A},12")), full, "without a header");
    assert_eq!(read(format!("\u{feff}rating,answer,question,source\r\n12,{A},{Q},forum\r\n")), full);
    assert_eq!(read(format!("id,question,answer,sukaku_explainer_rating\nforum,{Q},{A},12")), full);
    let bare = read(format!("# easy\n{Q}\n\n{Q}\n"));
    assert_eq!((bare.len(), &bare[0].label, bare[1].rating), (2, &None, None));
    assert_eq!(read(format!("{Q},{A}"))[0].label, full[0].label);
    assert_eq!(read(format!("quizzes,solutions\n{},{A}", Q.replace('.', "0")))[0].input, full[0].input);
    assert!(read(String::new()).is_empty());
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    zip.write_all(format!("forum,{Q},{A},12").as_bytes()).unwrap();
    let zipped = zip.finish().unwrap();
    assert_eq!(super::tests::read(Family::Sudoku, zipped.clone()).unwrap(), full);
    let cut = super::tests::read(Family::Sudoku, &zipped[..zipped.len() / 2]).unwrap_err();
    assert!(cut.contains("gzip"), "{cut}");
}

#[test]
fn every_layout_of_mazes() {
    let read = |text: &str| read(Family::Maze, text);
    let full = read("source,question,answer,rating\nx, S#G  #  , S#Goo#oo,6\n");
    assert!(full.unwrap_err().starts_with("in.csv, line 2, answer: no path through the maze"));
    let full = read("source,question,answer,rating\nx,S# # G  ,S#ooo G  ,4\n").unwrap_err();
    assert!(full.contains("question: expected a square number"), "{full}");
    let full = read("source,question,answer,rating\nx, S# #  G ,oS# #  G ,4\n").unwrap_err();
    assert!(full.contains("the 1 marked cells do not connect"), "{full}");
    let good = read("source,question,answer,rating\nx, S# #  G , S# #  G ,4\n");
    assert!(good.unwrap_err().contains("do not connect"));
    let good = read("source,question,answer,rating\nx,S   # G  ,Soo # G  ,\n");
    assert!(good.is_err());
    let good = read("source,question,answer,rating\nx,S   #   G,Soo #o  G,4\n").unwrap();
    assert_eq!((good[0].source.as_str(), good[0].rating), ("x", Some(4.0)));
    assert_eq!(good[0].label.as_deref(), Some([3, 5, 5, 2, 1, 5, 2, 2, 4].as_slice()));
    assert_eq!(read("x,S   #   G,Soo #o  G,4").unwrap(), good, "without a header");
    let bare = read("S   #   G\n").unwrap();
    assert_eq!((&bare[0].label, bare[0].rating), (&None, None));
    assert!(read("").unwrap().is_empty());
    assert_eq!(
        read("a,b\nc,d").unwrap_err(),
        "in.csv: expected a column named `question`, `puzzle` or `quizzes`, or a puzzle in the first row; got columns a, b"
    );
    assert_eq!(
        read("question,rating\nS   #   G,hard").unwrap_err(),
        "in.csv, line 2: expected a number as rating, got \"hard\""
    );
}

#[test]
fn lines_drawings_and_tables_of_all_families() {
    let ok = |line: u64, text: &str| (line, Ok(text.to_owned()));
    assert_eq!(
        entries(Family::Sudoku, &format!("{FOUR}\n\n# a comment\n{FOUR}\n")),
        [ok(1, FOUR), ok(4, FOUR)]
    );
    assert_eq!(
        entries(Family::Sudoku, &format!("source,question,answer,rating\nx,{FOUR},,3\n")),
        [ok(2, FOUR)]
    );
    assert_eq!(entries(Family::Sudoku, &format!("x,{FOUR}\nx,{FOUR}")), [ok(1, FOUR), ok(2, FOUR)]);
    let grid = "+---+---+\n|1 .|. .|\n|. 3|. .|\n+---+---+\n|. 2|. .|\n|. .|4 .|\n+---+---+";
    assert_eq!(entries(Family::Sudoku, grid), [ok(1, FOUR)]);
    let apart = "1 .  . .\n. 3  . .\n\n. 2  . .\n. .  4 .\n";
    assert_eq!(entries(Family::Sudoku, apart), [ok(1, FOUR)], "an empty line between its bands");
    assert_eq!(entries(Family::Sudoku, &format!("{grid}\n\n{grid}\n")), [ok(1, FOUR), ok(9, FOUR)]);
    assert_eq!(entries(Family::Maze, "S   #   G\nS...#...G\n"), [ok(1, "S...#...G"), ok(2, "S...#...G")]);
    assert_eq!(entries(Family::Maze, "S  \n # \n  G\n\nS G\n   \n"), [ok(1, "S...#...G"), ok(5, "S.G/...")]);
    assert_eq!(
        entries(Family::Maze, "S..G\n....\n"),
        [ok(1, "S..G/....")],
        "its first row is a maze as well"
    );
    assert_eq!(entries(Family::Maze, "question,answer\nS   #   G,\n"), [ok(2, "S...#...G")]);
    assert_eq!(entries(Family::Maze, "question\n\"S G\n # \"\n"), [ok(2, "S.G/.#.")]);
    assert_eq!(entries(Family::Maze, "###\n#S\nG##\n").len(), 1);
    let found = entries(Family::Maze, "S   #   G\nS##G\nS#\n");
    assert_eq!((found[0].1.is_ok(), found[1].1.is_ok(), found[2].1.is_ok()), (true, true, false));
    assert_eq!(entries(Family::Queens, ".Q..\n....\n....\n....\n"), [ok(1, ".Q..............")]);
    let killer = "AABB\nCABD\nCCDD\nAAAD\n7 6 8 10 6";
    let one = "AABBCABDCCDDAAAD;7,6,8,10,6";
    let of = entries(Family::Killer, &format!("{killer}\n"));
    assert_eq!(entries(Family::Killer, &format!("{one}\n{one}\n")), [of[0].clone(), (2, of[0].1.clone())]);
    assert!(entries(Family::Samurai, "").is_empty());
}

#[test]
fn lists_rows_with_commas_and_coloured_boards() {
    let ok = |line: u64, text: &str| (line, Ok(text.to_owned()));
    for text in [
        "[[1,0,0,0],[0,3,0,0],[0,2,0,0],[0,0,4,0]]",
        "[[1,0,0,0],\n [0,3,0,0],\n [0,2,0,0],\n [0,0,4,0]]\n",
        "[\n  [\"1\",\"\",\"\",\"\"],\n  [\"\",\"3\",\"\",\"\"],\n  [\"\",\"2\",\"\",\"\"],\n  [\"\",\"\",\"4\",\"\"]\n]",
        "1,0,0,0\n0,3,0,0\n0,2,0,0\n0,0,4,0\n",
        "1,,,\n,3,,\n,2,,\n,,4,\n",
        "1   \n 3  \n 2  \n  4 \n",
        "1    3   2    4 \n",
        "1xxxx3xxx2xxxx4x",
        "\u{1b}[1m1\u{1b}[0m \u{1b}[34m.\u{1b}[0m | . .\n. 3 | . .\n----+----\n. 2 | . .\n. . | \u{1b}[1;32m4\u{1b}[0m .\n",
    ] {
        assert_eq!(entries(Family::Sudoku, text), [ok(1, FOUR)], "{text}");
    }
    for (text, line) in [
        ("S,0,0,0\n0,1,0,0\n0,0,G,0", "S.../.#../..G."),
        ("[\"S..\",\n\".#.\",\n\"..G\"]\n", "S...#...G"),
        ("\u{1b}[7mS\u{1b}[0m..\n.#.\n..G", "S...#...G"),
    ] {
        assert_eq!(entries(Family::Maze, text), [ok(1, line)], "{text}");
    }
}

#[test]
fn a_bad_line_does_not_end_the_file() {
    let text = format!("{FOUR}\n11..............\n1...\n1....3...2....4x\n{FOUR}");
    let found = entries(Family::Sudoku, &text);
    assert_eq!(found.len(), 5);
    let error = |i: usize| found[i].1.as_ref().err().cloned().unwrap_or_default();
    assert!(error(1).contains("value 1 stands twice in row 1 (columns 1 and 2)"), "{}", error(1));
    assert!(error(2).contains("expected"), "{}", error(2));
    assert!(error(3).contains('x'), "{}", error(3));
    assert!(found[0].1.is_ok() && found[4].1.is_ok());
    let csv = entries(Family::Sudoku, &format!("question,answer\n{FOUR},{FOUR}\n{FOUR},\n1,\n{FOUR},"));
    assert!(csv[0].1.as_ref().is_err_and(|e| e.contains("answer")), "{csv:?}");
    assert_eq!(csv.iter().map(|(_, found)| found.is_ok()).collect::<Vec<_>>(), [false, true, false, true]);
}

#[test]
fn errors_say_where_and_what() {
    let error = |text: String| read(Family::Sudoku, text).unwrap_err();
    assert_eq!(
        error("name,value\na,b".to_owned()),
        "in.csv: expected a column named `question`, `puzzle` or `quizzes`, or a puzzle in the first row; got columns name, value"
    );
    assert!(
        error(format!("question\n{Q}\n{}", &Q[1..])).starts_with("in.csv, line 3, question: expected 81")
    );
    let twice = Q.replacen("53.", "55.", 1);
    assert_eq!(
        error(format!("question\n{Q}\n{twice}")),
        "in.csv, line 3, question: the board breaks the rules: value 5 stands twice in row 1 (columns 1 and 2); value 5 stands twice in box 1 (row 1 column 1 and row 1 column 2)"
    );
    assert!(error(format!("{Q}\n{twice}")).starts_with("in.csv, line 2: the board breaks the rules"));
    assert!(error(format!("question,answer\n{Q},{Q}")).ends_with("(it has blank cells)"));
    let other: String =
        A.chars().map(|c| c.to_digit(10).map_or(c, |d| char::from(b'1' + (d % 9) as u8))).collect();
    assert!(
        error(format!("question,answer\n{Q},{other}")).ends_with("(the given 5 in row 1, column 1 became 6)")
    );
    assert_eq!(
        error(format!("question,rating\n{Q},hard")),
        "in.csv, line 2: expected a number as rating, got \"hard\""
    );
    assert!(
        error(format!("source,question\nforum,{Q}\nforum"))
            .contains("line 3: expected at least 2 fields, got 1")
    );
    assert!(error("12345".to_owned()).contains("line 1: expected"));
    let absent = Reader::open(Family::Sudoku, Path::new("/nonexistent/x.csv"));
    assert!(absent.is_err_and(|e| e.to_string().contains("/nonexistent/x.csv")));
    assert!(Reader::open(Family::Sudoku, Path::new("/")).is_err());
    // What stands before the damage is read.
    let damaged = [FOUR.as_bytes(), b"\n", FOUR.as_bytes(), b"\n\xff\n"].concat();
    let reader = Reader::new(Family::Sudoku, Cursor::new(damaged), Path::new("in"));
    assert_eq!(reader.map(|entry| entry.is_ok()).collect::<Vec<_>>(), [true, true, false]);
    assert!(read(Family::Sudoku, vec![b'1', 0xff, 0xfe, b'\n']).unwrap_err().contains("expected text"));
}

#[test]
fn puzzles_come_as_soon_as_they_are_there() {
    let text = format!("{FOUR}\n11..............\n{FOUR}\n");
    let reader = Reader::new(Family::Sudoku, Slowly(Cursor::new(text.clone().into_bytes())), Path::new("in"));
    let lines: Vec<u64> = reader.map(|entry| entry.unwrap().line).collect();
    assert_eq!(lines, [1, 2, 3]);
    // The pipe stays open: a reader that asked for more than it needs would hang.
    struct Open(Cursor<Vec<u8>>);
    impl Read for Open {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => panic!("read on, although an entry was there"),
                read => Ok(read),
            }
        }
    }
    for text in [format!("{FOUR}\n"), format!("question\n{FOUR}\n")] {
        let reader = Reader::new(Family::Sudoku, Open(Cursor::new(text.into_bytes())), Path::new("in"));
        assert!(reader.take(1).all(|entry| entry.unwrap().puzzle.is_ok()));
    }
}

/// Streams without end, or as good as: told after a bounded part of them.
#[test]
fn what_never_becomes_a_puzzle_is_told_early() {
    struct Endless(Vec<u8>, usize);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            assert!(self.1 < 8 << 20, "read on and on");
            Ok(buffer.len())
        }
    }
    for line in ["\n", "# a comment\n", " \r\n", "0"] {
        for &family in Family::ALL {
            let name = Path::new("in");
            let found = Reader::new(family, Endless(line.repeat(100).into_bytes(), 0), name).next();
            // To a family where it means something, a line is a bad puzzle.
            let told = found.is_some_and(|found| found.map_or(true, |entry| entry.puzzle.is_err()));
            assert!(told, "{family} {line:?}");
        }
    }
    // Lines so long that a drawing of them is never finished.
    let long = format!("{}\n", "0".repeat(300_000));
    let entry = Reader::new(Family::Sudoku, Endless(long.into_bytes(), 0), Path::new("in")).next();
    assert!(entry.is_some_and(|entry| entry.is_ok_and(|entry| entry.puzzle.is_err())));
}

#[test]
fn what_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut records =
        read(Family::Sudoku, format!("source,question,answer,rating\n\"a, b\",{Q},{A},12.5\nc,{Q},,"))
            .unwrap();
    let nine = Puzzle::of_text(Family::Sudoku, Q).unwrap().task;
    let open = nine.parse(&".".repeat(81)).unwrap();
    records.push(Record { input: open, ..Record::default() });
    let mut mazes = Vec::new();
    for text in ["S   #   G", "S  #\n   G"] {
        let puzzle = Puzzle::of_text(Family::Maze, text).unwrap();
        let label = puzzle.task.proper(&puzzle.record.input).unwrap();
        let with = Record { source: "a, b".to_owned(), label, rating: Some(4.0), ..puzzle.record };
        mazes.push((puzzle.task, vec![with.clone(), Record { label: None, rating: None, ..with }]));
    }
    let sudoku = (Family::Sudoku, nine.clone(), records);
    for (family, task, records) in
        mazes.into_iter().map(|(task, records)| (Family::Maze, task, records)).chain([sudoku])
    {
        for name in ["x.csv", "x.csv.gz"] {
            let path = dir.path().join(name);
            write_records(&path, &task, &records).unwrap();
            let found: Vec<Record> = read_all(family, &path).unwrap().into_iter().map(|p| p.record).collect();
            assert_eq!(found, records, "{name}");
            assert_eq!(std::fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]), name.ends_with("gz"));
        }
    }
    let error = write_records(&dir.path().join("no/x.csv"), &nine, &[]).unwrap_err().to_string();
    assert!(error.starts_with("cannot read or write "), "{error}");
}

#[test]
fn all_real_labels_of_mazes_are_reproduced() {
    let Some(dir) = data_dir() else { return };
    let mut train = Vec::new();
    for (file, count) in [("maze-30x30-hard-1k-train", 1000), ("maze-30x30-hard-test-500", 500)] {
        let records = crate::testdata::read_records(&dir.join(format!("maze/{file}.csv.gz")), "maze");
        assert_eq!(records.len(), count);
        for record in &records {
            let maze = maze::decode_tokens(30, 30, &record.input).unwrap();
            assert_eq!(maze.label(), record.label);
            assert!(maze.distance().unwrap() >= 109);
            assert!(maze.check_optimal(record.label.as_deref().unwrap()).is_ok());
        }
        if count == 1000 {
            train = records;
        }
    }
    let original = crate::dataset::Dataset::load(&dir.join("maze/npy-train")).unwrap();
    let ours = AnyTask::new(maze::Mazes::new(30, 30)).dataset(&train, 0, 0).unwrap();
    assert_eq!(ours.sets(), original.sets());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for &family in Family::ALL {
            let _ = read(family, bytes.clone());
        }
    }

    #[test]
    fn arbitrary_rows_never_panic(text in "(question\n)?[0-9.,\n\"a-h#SGo ]{0,300}") {
        for &family in Family::ALL {
            let _ = read(family, text.clone());
        }
    }
}
