//! Draws one of everything into a folder, as SVG and PNG: `cargo run -p hrm-data --example pictures -- FOLDER [ARC.json]`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use hrm_data::puzzles::arc::{self, ArcTask};
use hrm_data::puzzles::maze::{self, Mazes};
use hrm_data::puzzles::queens::Queens;
use hrm_data::puzzles::sudoku::{self, Board, Generator, Geometry};
use hrm_data::puzzles::{killer, samurai};
use hrm_data::render::Picture;
use hrm_data::task::{GenerateOptions, Task};

fn save(folder: &Path, name: &str, picture: &Picture) -> Result<(), Box<dyn Error>> {
    fs::write(folder.join(name).with_extension("svg"), picture.svg())?;
    fs::write(folder.join(name).with_extension("png"), picture.png(2.0)?)?;
    Ok(())
}

/// The solution with every fifth cell emptied and a digit changed, if it is not a given.
fn attempt(puzzle: &Board, solution: &Board) -> Result<Board, Box<dyn Error>> {
    let side = puzzle.side();
    let mut board = solution.clone();
    for cell in (0..side * side).filter(|&cell| puzzle.cells()[cell] == 0) {
        match cell % 10 {
            0 | 5 => board.set(cell / side, cell % side, 0)?,
            7 => board.set(cell / side, cell % side, solution.cells()[cell] % side as u8 + 1)?,
            _ => {}
        }
    }
    Ok(board)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("expected a folder")?;
    fs::create_dir_all(&folder)?;
    for geometry in [Geometry::S4, Geometry::S6, Geometry::S9, Geometry::S16] {
        let clues = geometry.cells() / 2;
        let made = Generator::new(geometry, 1).with_clues(clues, clues).generate(0);
        let answer = attempt(&made.puzzle, &made.solution)?;
        let name = format!("sudoku-{}", geometry.side());
        save(&folder, &name, &sudoku::draw::picture(&made.puzzle, Some(&answer), None))?;
        let judged = sudoku::draw::picture(&made.puzzle, Some(&answer), Some(&made.solution));
        save(&folder, &format!("{name}-judged"), &judged)?;
    }
    let options = GenerateOptions {
        kind: Some("unique".to_owned()),
        min_path: Some(40),
        max_path: Some(120),
        ..GenerateOptions::default()
    };
    let (maze, path) = Mazes::new(21, 21).generate(&options, 1, 0)?;
    let mut answer = maze.mark(&path);
    save(&folder, "maze", &maze::draw::picture(&maze, &answer))?;
    answer.iter_mut().step_by(37).for_each(|token| *token = 5);
    save(&folder, "maze-faulty", &maze::draw::picture(&maze, &answer))?;
    let made = killer::Generator::new(Geometry::S9, 1)?.generate(0);
    save(&folder, "killer", &killer::draw::picture(&made.puzzle, None, None))?;
    let answer = attempt(&Board::empty(Geometry::S9), &made.solution)?;
    save(&folder, "killer-answer", &killer::draw::picture(&made.puzzle, Some(&answer), None))?;
    fs::write(folder.join("killer.txt"), made.puzzle.to_string())?;
    let made = samurai::Generator::new(1).with_clues(160, 160).generate(0);
    save(&folder, "samurai", &samurai::draw::picture(&made.puzzle, None, None))?;
    save(&folder, "samurai-solved", &samurai::draw::picture(&made.puzzle, Some(&made.solution), None))?;
    let queens = Queens::new(8)?;
    let (puzzle, solution) = queens.make(1, 0);
    save(&folder, "queens", &queens.picture(&puzzle, Some(&queens.encode(&solution)), None))?;
    let letters = "0123456789\nABCDEFGHIJKLM\nNOPQRSTUVWXYZ\n. , : ! ? - + = * < > / | ( ) _ ' \" #";
    save(&folder, "letters", &Picture::of_text(letters))?;
    if let Some(file) = arguments.next() {
        let tasks = arc::load(&file)?;
        for task in tasks.iter().take(2) {
            save(&folder, &format!("arc-{}", task.id), &arc::draw::task_picture(task))?;
        }
        let withheld = |task: &ArcTask| {
            let mut task = task.clone();
            task.test.iter_mut().for_each(|pair| pair.output = None);
            task
        };
        if let Some(task) = tasks.get(2).map(withheld) {
            save(&folder, &format!("arc-{}-withheld", task.id), &arc::draw::task_picture(&task))?;
        }
    }
    Ok(())
}
