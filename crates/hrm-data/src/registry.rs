//! Every family of puzzles: the one place that lists them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{self, UnknownName};
use crate::puzzles::{
    arc::Arc, killer::KillerTask, maze::Mazes, queens::Queens, samurai::SamuraiTask, sudoku::Sudoku,
};
use crate::task::{AnyTask, Size, Task};

/// Writes [`Family`] and [`Shape`] from a list of names and tasks.
macro_rules! families {
    ($($(#[$meta:meta])* $family:ident($task:ty)),+ $(,)?) => {
        /// A family of puzzles, whatever their size.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "lowercase")]
        pub enum Family {
            $($(#[$meta])* $family),+
        }

        impl Family {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$family),+];

            /// Its name, as recipes and the command line write it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$family => <$task>::NAME),+ }
            }

            /// What its puzzles are, in a few words; [`Task::ABOUT`].
            pub const fn about(self) -> &'static str {
                match self { $(Self::$family => <$task>::ABOUT),+ }
            }

            /// The usual rows and columns, if there are several sizes; [`Task::SIZE`].
            pub const fn usual_size(self) -> Option<(usize, usize)> {
                match self { $(Self::$family => <$task>::SIZE),+ }
            }

            /// The options of generation that it takes; [`Task::OPTIONS`].
            pub const fn options(self) -> &'static [&'static str] {
                match self { $(Self::$family => <$task>::OPTIONS),+ }
            }

            /// Whether spaces around its puzzles mean nothing; [`Task::LOOSE`].
            pub const fn is_loose(self) -> bool {
                match self { $(Self::$family => <$task>::LOOSE),+ }
            }

            /// Whether the text of its puzzles may hold commas; [`Task::COMMAS`].
            pub const fn has_commas(self) -> bool {
                match self { $(Self::$family => <$task>::COMMAS),+ }
            }

            /// Whether blanks may be filled in from the solution; [`Task::HINTS`].
            pub const fn takes_hints(self) -> bool {
                match self { $(Self::$family => <$task>::HINTS),+ }
            }

            /// Whether answers are judged by rules, one by one; [`Task::RULES`].
            pub const fn has_rules(self) -> bool {
                match self { $(Self::$family => <$task>::RULES),+ }
            }

            /// How subsets of files are drawn; [`Task::RESERVOIR`].
            pub const fn draws_as_it_reads(self) -> bool {
                match self { $(Self::$family => <$task>::RESERVOIR),+ }
            }

            /// The classical solvers that it has, the usual one first; [`Task::methods`].
            pub fn methods(self) -> Vec<&'static str> {
                match self { $(Self::$family => <$task>::methods()),+ }
            }
        }

        /// A puzzle family of one size, with its task.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Shape {
            $(#[allow(missing_docs, reason = "said at the family")] $family($task)),+
        }

        impl Shape {
            /// Its family.
            pub const fn family(self) -> Family {
                match self { $(Self::$family(_) => Family::$family),+ }
            }

            /// Its task.
            pub fn task(self) -> AnyTask {
                match self { $(Self::$family(task) => AnyTask::new(task)),+ }
            }

            /// Rows and columns, if the family has several sizes.
            pub fn size(self) -> Option<(usize, usize)> {
                match self { $(Self::$family(task) => Task::size(&task)),+ }
            }

            /// The shape of a size.
            ///
            /// # Errors
            /// If the family has no puzzles of that size.
            pub fn of_size(family: Family, size: Size) -> Result<Self, String> {
                match family {
                    $(Family::$family => <$task>::of_size(size).map(Self::$family)),+
                }
            }

            /// The shape whose rows have these sizes, as far as they tell: mazes count as square, and 16 tokens of 6 kinds
            /// are a 4x4 Sudoku rather than a 4x4 maze. With `family`, only that one is looked at.
            pub fn of(seq_len: usize, vocab_size: usize, family: Option<Family>) -> Option<Self> {
                let is_asked = |known| family.is_none_or(|family| family == known);
                $(if is_asked(Family::$family) && let Some(task) = <$task>::of_tokens(seq_len, vocab_size) {
                    return Some(Self::$family(task));
                })+
                None
            }

            /// The shape of a puzzle given as text, so that the task that reads it can be picked.
            ///
            /// # Errors
            /// If the text is no puzzle of the family. What is wrong with a puzzle of a known shape is told by the task.
            pub fn of_text(family: Family, text: &str) -> Result<Self, String> {
                match family {
                    $(Family::$family => <$task>::of_text(text).map(Self::$family)),+
                }
            }
        }

        impl fmt::Display for Shape {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$family(task) => task.fmt(f)),+ }
            }
        }
    };
}

families! {
    /// Sudoku of any size.
    #[default]
    Sudoku(Sudoku),
    /// Mazes; any shortest path is right.
    Maze(Mazes),
    /// The Abstraction and Reasoning Corpus. Its tasks have several examples, and its answers are judged by a vote.
    Arc(Arc),
    /// Sudoku without givens, cages with sums instead.
    Killer(KillerTask),
    /// Five Sudokus that overlap.
    Samurai(SamuraiTask),
    /// n-queens completion.
    Queens(Queens),
}

impl Family {
    /// Whether a few numbers say what to generate: all families whose puzzles are not of different kinds.
    pub fn is_made_by_numbers(self) -> bool {
        self.has_rules() && !self.options().contains(&"kind")
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        names::find(Self::ALL, Self::name, text)
    }
}

impl Shape {
    /// Tokens of a row and number of token values.
    pub fn tokens(self) -> (usize, usize) {
        let task = self.task();
        (task.seq_len(), task.vocab_size())
    }

    /// A name for folders: `sudoku-9x9`, `maze-10x10`, `samurai`.
    pub fn folder(self) -> String {
        match self.size() {
            Some((rows, cols)) => format!("{}-{rows}x{cols}", self.family()),
            None => self.family().to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
