//! Tasks without their types, for programs that learn at run time which puzzle they work on.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::{
    Beliefs, Census, Exact, GenerateOptions, Leaks, Record, Solutions, Split, Task, TokenSymmetry, Worked,
};
use crate::dataset::Dataset;
use crate::groups::Groups;
use crate::names::UnknownName;
use crate::render::{Picture, Style};

/// A [`Task`] whose puzzles are known by their input tokens alone.
#[derive(Clone)]
pub struct AnyTask(Arc<dyn Tokens>);

impl AnyTask {
    /// Forgets the types of a task.
    pub fn new<T: Task>(task: T) -> Self {
        Self(Arc::new(task))
    }

    /// A dataset of puzzles; [`dataset`](super::dataset()), which also says how many had to be solved.
    ///
    /// # Errors
    /// [`BuildError`](super::BuildError) if the puzzles make none.
    pub fn dataset(
        &self,
        records: &[Record],
        copies: usize,
        seed: u64,
    ) -> Result<Dataset, super::BuildError> {
        super::dataset(self, records, copies, seed).map(|(dataset, _)| dataset)
    }
}

impl Deref for AnyTask {
    type Target = dyn Tokens + 'static;

    fn deref(&self) -> &(dyn Tokens + 'static) {
        &*self.0
    }
}

impl fmt::Debug for AnyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for AnyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", &*self.0)
    }
}

/// What [`AnyTask`] can do: the methods of [`Task`] on rows of tokens, with errors in words. Every task has them; they are not
/// implemented by hand. Where nothing else is said, a method fails if the input is no puzzle.
#[allow(clippy::missing_errors_doc, reason = "said above, once")]
pub trait Tokens: fmt::Debug + fmt::Display + Send + Sync {
    /// [`Task::NAME`].
    fn name(&self) -> &'static str;
    /// [`Task::seq_len`].
    fn seq_len(&self) -> usize;
    /// [`Task::vocab_size`].
    fn vocab_size(&self) -> usize;
    /// [`Task::HINTS`].
    fn takes_hints(&self) -> bool;
    /// [`Task::OPTIMAL`].
    fn wants_the_best(&self) -> bool;
    /// [`Task::RULES`].
    fn has_rules(&self) -> bool;
    /// [`Task::of_dataset`]. Fails if the dataset is one of other puzzles.
    fn of_dataset(&self, dataset: &Dataset) -> Result<AnyTask, String>;
    /// [`Task::augmentation`].
    fn augmentation(&self) -> Option<Value>;
    /// [`Task::augment`].
    fn augment(&self, rng: &mut ChaCha8Rng, from: (&[u8], &[u8]), to: (&mut [i32], &mut [i32]));
    /// [`Task::groups`].
    fn groups(&self) -> Option<Groups>;
    /// [`Task::symmetry`].
    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry;
    /// [`Task::symmetries`].
    fn symmetries(&self) -> (f64, &'static str);
    /// [`Task::census`].
    fn census(&self) -> Option<Census>;
    /// [`Task::most_copies`].
    fn most_copies(&self) -> Option<usize>;
    /// [`Task::copy`].
    fn copy(&self, number: usize, rng: &mut ChaCha8Rng) -> TokenSymmetry;
    /// [`Task::parse`], as tokens. Fails if the text is no puzzle.
    fn parse(&self, text: &str) -> Result<Vec<u8>, String>;
    /// [`Task::check_givens`]. Fails with what is wrong with them.
    fn check_givens(&self, input: &[u8]) -> Result<(), String>;
    /// [`Task::parse_answer`]. Fails if the text is no right answer.
    fn parse_answer(&self, input: &[u8], text: &str) -> Result<Vec<u8>, String>;
    /// [`Task::line`].
    fn line(&self, input: &[u8]) -> Result<String, String>;
    /// [`Task::answer_line`].
    fn answer_line(&self, input: &[u8], answer: &[u8]) -> Result<String, String>;
    /// [`Task::table_text`].
    fn table_text(&self, input: &[u8], answer: Option<&[u8]>) -> Result<String, String>;
    /// [`Task::class`].
    fn class(&self, input: &[u8]) -> Result<Vec<u8>, String>;
    /// [`Task::canonical_line`].
    fn canonical_line(&self, input: &[u8]) -> Result<String, String>;
    /// [`Task::leaks`].
    fn leaks(&self, train: &[Record], test: &[Record]) -> Result<Leaks, String>;
    /// [`Task::solutions`], as label tokens.
    fn solutions(&self, input: &[u8]) -> Result<Solutions<Vec<u8>>, String>;
    /// [`Task::proper`]. Fails with what is wrong with the puzzle.
    fn proper(&self, input: &[u8]) -> Result<Option<Vec<u8>>, String>;
    /// [`Task::search`].
    fn search(
        &self,
        input: &[u8],
        beliefs: Option<&Beliefs>,
        max_nodes: u64,
    ) -> Result<Option<Exact>, String>;
    /// [`Task::methods`].
    fn methods(&self) -> Vec<&'static str>;
    /// [`Task::work`]. Also fails if there is no such method.
    fn work(&self, input: &[u8], method: &str, trace: bool) -> Result<Worked, String>;
    /// [`Task::verify`]. Also fails with what is wrong with the answer.
    fn verify(&self, input: &[u8], answer: &[u8]) -> Result<(), String>;
    /// [`Task::praise`].
    fn praise(&self, input: &[u8], answer: &[u8]) -> Result<String, String>;
    /// [`Task::split`], from a seed and the numbers of puzzles for training and for testing. Fails if there are not so many.
    fn split(
        &self,
        options: &GenerateOptions,
        seed: u64,
        wanted: (usize, usize),
    ) -> Result<Split<Record>, String>;
    /// [`Task::example`].
    fn example(&self) -> Option<String>;
    /// [`Task::measures`].
    fn measures(&self, input: &[u8], label: &[u8]) -> Result<Vec<(&'static str, f64)>, String>;
    /// [`Task::difficulty`].
    fn difficulty(&self, puzzles: &[Record]) -> Option<String>;
    /// [`Task::givens`].
    fn givens(&self, input: &[u8]) -> Option<usize>;
    /// [`Task::render`].
    fn render(&self, input: &[u8], answer: Option<&[u8]>, style: Style) -> Result<String, String>;
    /// [`Task::frame`].
    fn frame(&self, input: &[u8], previous: &[u8], answer: &[u8], style: Style) -> Result<String, String>;
    /// [`Task::legend`].
    fn legend(&self, style: Style) -> Option<&'static str>;
    /// [`Task::picture`].
    fn picture(&self, input: &[u8], answer: Option<&[u8]>, label: Option<&[u8]>) -> Result<Picture, String>;
    /// [`Task::graph`].
    fn graph(&self, board: &[u8]) -> Result<Option<String>, String>;
}

impl<T: Task> Tokens for T {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn seq_len(&self) -> usize {
        Task::seq_len(self)
    }

    fn vocab_size(&self) -> usize {
        Task::vocab_size(self)
    }

    fn takes_hints(&self) -> bool {
        T::HINTS
    }

    fn wants_the_best(&self) -> bool {
        T::OPTIMAL
    }

    fn has_rules(&self) -> bool {
        T::RULES
    }

    fn of_dataset(&self, dataset: &Dataset) -> Result<AnyTask, String> {
        Task::of_dataset(*self, dataset).map(AnyTask::new)
    }

    fn augmentation(&self) -> Option<Value> {
        Task::augmentation(self)
    }

    fn augment(&self, rng: &mut ChaCha8Rng, from: (&[u8], &[u8]), to: (&mut [i32], &mut [i32])) {
        Task::augment(self, rng, from, to);
    }

    fn groups(&self) -> Option<Groups> {
        Task::groups(self)
    }

    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        Task::symmetry(self, rng)
    }

    fn symmetries(&self) -> (f64, &'static str) {
        Task::symmetries(self)
    }

    fn census(&self) -> Option<Census> {
        Task::census(self)
    }

    fn most_copies(&self) -> Option<usize> {
        Task::most_copies(self)
    }

    fn copy(&self, number: usize, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        Task::copy(self, number, rng)
    }

    fn parse(&self, text: &str) -> Result<Vec<u8>, String> {
        let input = self.encode(&Task::parse(self, text).map_err(told)?);
        match input.len() == Task::seq_len(self) {
            true => Ok(input),
            false => {
                let expected = Task::seq_len(self);
                Err(format!("expected a puzzle of {expected} tokens, got one of {}", input.len()))
            }
        }
    }

    fn check_givens(&self, input: &[u8]) -> Result<(), String> {
        Task::check_givens(self, &puzzle(self, input)?)
    }

    fn parse_answer(&self, input: &[u8], text: &str) -> Result<Vec<u8>, String> {
        Task::parse_answer(self, &puzzle(self, input)?, text)
    }

    fn line(&self, input: &[u8]) -> Result<String, String> {
        Ok(Task::line(self, &puzzle(self, input)?))
    }

    fn answer_line(&self, input: &[u8], answer: &[u8]) -> Result<String, String> {
        Ok(Task::answer_line(self, &puzzle(self, input)?, answer))
    }

    fn table_text(&self, input: &[u8], answer: Option<&[u8]>) -> Result<String, String> {
        Ok(Task::table_text(self, &puzzle(self, input)?, answer))
    }

    fn class(&self, input: &[u8]) -> Result<Vec<u8>, String> {
        Ok(Task::class(self, &puzzle(self, input)?))
    }

    fn canonical_line(&self, input: &[u8]) -> Result<String, String> {
        Task::canonical_line(self, &puzzle(self, input)?)
    }

    fn leaks(&self, train: &[Record], test: &[Record]) -> Result<Leaks, String> {
        Task::leaks(self, train, test)
    }

    fn solutions(&self, input: &[u8]) -> Result<Solutions<Vec<u8>>, String> {
        let puzzle = puzzle(self, input)?;
        Ok(Task::solutions(self, &puzzle).map(|solution| self.encode_solution(&puzzle, &solution)))
    }

    fn proper(&self, input: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let puzzle = puzzle(self, input)?;
        let solution = Task::proper(self, &puzzle)?;
        Ok(solution.map(|solution| self.encode_solution(&puzzle, &solution)))
    }

    fn search(
        &self,
        input: &[u8],
        beliefs: Option<&Beliefs>,
        max_nodes: u64,
    ) -> Result<Option<Exact>, String> {
        Ok(Task::search(self, &puzzle(self, input)?, beliefs, max_nodes))
    }

    fn methods(&self) -> Vec<&'static str> {
        T::methods()
    }

    fn work(&self, input: &[u8], method: &str, trace: bool) -> Result<Worked, String> {
        Task::work(self, &puzzle(self, input)?, method, trace).map_err(|error: UnknownName| error.to_string())
    }

    fn verify(&self, input: &[u8], answer: &[u8]) -> Result<(), String> {
        Task::verify(self, &puzzle(self, input)?, answer).map_err(told)
    }

    fn praise(&self, input: &[u8], answer: &[u8]) -> Result<String, String> {
        Ok(Task::praise(self, &puzzle(self, input)?, answer))
    }

    fn split(
        &self,
        options: &GenerateOptions,
        seed: u64,
        wanted: (usize, usize),
    ) -> Result<Split<Record>, String> {
        Task::split(self, options, seed, wanted)
    }

    fn example(&self) -> Option<String> {
        Task::example(self)
    }

    fn measures(&self, input: &[u8], label: &[u8]) -> Result<Vec<(&'static str, f64)>, String> {
        Ok(Task::measures(self, &puzzle(self, input)?, label))
    }

    fn difficulty(&self, puzzles: &[Record]) -> Option<String> {
        Task::difficulty(self, puzzles)
    }

    fn givens(&self, input: &[u8]) -> Option<usize> {
        Task::givens(self, &puzzle(self, input).ok()?)
    }

    fn render(&self, input: &[u8], answer: Option<&[u8]>, style: Style) -> Result<String, String> {
        Ok(Task::render(self, &puzzle(self, input)?, answer, style))
    }

    fn frame(&self, input: &[u8], previous: &[u8], answer: &[u8], style: Style) -> Result<String, String> {
        Ok(Task::frame(self, &puzzle(self, input)?, previous, answer, style))
    }

    fn legend(&self, style: Style) -> Option<&'static str> {
        T::legend(style)
    }

    fn picture(&self, input: &[u8], answer: Option<&[u8]>, label: Option<&[u8]>) -> Result<Picture, String> {
        Ok(Task::picture(self, &puzzle(self, input)?, answer, label))
    }

    fn graph(&self, board: &[u8]) -> Result<Option<String>, String> {
        Ok(Task::graph(self, &puzzle(self, board)?))
    }
}

fn told(error: impl std::error::Error) -> String {
    error.to_string()
}

fn puzzle<T: Task>(task: &T, input: &[u8]) -> Result<T::Puzzle, String> {
    task.decode(input).map_err(told)
}
