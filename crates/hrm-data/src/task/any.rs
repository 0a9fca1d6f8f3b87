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

/// Writes [`Tokens`] and what it is for every task from one list of methods.
macro_rules! tokens {
    (
        $(#[$about:meta])*
        pub trait $Tokens:ident;
        $($(#[$doc:meta])* fn $name:ident($task:ident $(, $arg:ident: $Arg:ty)*) $(-> $Out:ty)? = $body:expr;)+
    ) => {
        $(#[$about])*
        pub trait $Tokens: fmt::Debug + fmt::Display + Send + Sync {
            $($(#[$doc])* fn $name(&self $(, $arg: $Arg)*) $(-> $Out)?;)+
        }

        impl<T: Task> $Tokens for T {
            $(
                #[allow(unused_variables, reason = "some things are those of the type")]
                fn $name(&self $(, $arg: $Arg)*) $(-> $Out)? {
                    let $task = self;
                    $body
                }
            )+
        }
    };
}

tokens! {
    /// What [`AnyTask`] can do: the methods of [`Task`] on rows of tokens, with errors in words. Every task has them; they are not
    /// implemented by hand. Where nothing else is said, a method fails if the input is no puzzle.
    #[allow(clippy::missing_errors_doc, reason = "said above, once")]
    pub trait Tokens;

    /// [`Task::NAME`].
    fn name(task) -> &'static str = T::NAME;
    /// [`Task::seq_len`].
    fn seq_len(task) -> usize = Task::seq_len(task);
    /// [`Task::vocab_size`].
    fn vocab_size(task) -> usize = Task::vocab_size(task);
    /// [`Task::HINTS`].
    fn takes_hints(task) -> bool = T::HINTS;
    /// [`Task::OPTIMAL`].
    fn wants_the_best(task) -> bool = T::OPTIMAL;
    /// [`Task::RULES`].
    fn has_rules(task) -> bool = T::RULES;
    /// [`Task::of_dataset`]. Fails if the dataset is one of other puzzles.
    fn of_dataset(task, dataset: &Dataset) -> Result<AnyTask, String>
        = Task::of_dataset(*task, dataset).map(AnyTask::new);
    /// [`Task::augmentation`].
    fn augmentation(task) -> Option<Value> = Task::augmentation(task);
    /// [`Task::augment`].
    fn augment(task, rng: &mut ChaCha8Rng, from: (&[u8], &[u8]), to: (&mut [i32], &mut [i32]))
        = Task::augment(task, rng, from, to);
    /// [`Task::groups`].
    fn groups(task) -> Option<Groups> = Task::groups(task);
    /// [`Task::symmetry`].
    fn symmetry(task, rng: &mut ChaCha8Rng) -> TokenSymmetry = Task::symmetry(task, rng);
    /// [`Task::symmetries`].
    fn symmetries(task) -> (f64, &'static str) = Task::symmetries(task);
    /// [`Task::census`].
    fn census(task) -> Option<Census> = Task::census(task);
    /// [`Task::most_copies`].
    fn most_copies(task) -> Option<usize> = Task::most_copies(task);
    /// [`Task::copy`].
    fn copy(task, number: usize, rng: &mut ChaCha8Rng) -> TokenSymmetry = Task::copy(task, number, rng);
    /// [`Task::parse`], as tokens. Fails if the text is no puzzle.
    fn parse(task, text: &str) -> Result<Vec<u8>, String> = {
        let input = task.encode(&Task::parse(task, text)?);
        match input.len() == Task::seq_len(task) {
            true => Ok(input),
            false => {
                let expected = Task::seq_len(task);
                Err(format!("expected a puzzle of {expected} tokens, got one of {}", input.len()))
            }
        }
    };
    /// [`Task::check_givens`]. Fails with what is wrong with them.
    fn check_givens(task, input: &[u8]) -> Result<(), String>
        = Task::check_givens(task, &task.decode(input)?);
    /// [`Task::parse_answer`]. Fails if the text is no right answer.
    fn parse_answer(task, input: &[u8], text: &str) -> Result<Vec<u8>, String>
        = Task::parse_answer(task, &task.decode(input)?, text);
    /// [`Task::line`].
    fn line(task, input: &[u8]) -> Result<String, String> = Ok(Task::line(task, &task.decode(input)?));
    /// [`Task::answer_line`].
    fn answer_line(task, input: &[u8], answer: &[u8]) -> Result<String, String>
        = Ok(Task::answer_line(task, &task.decode(input)?, answer));
    /// [`Task::table_text`].
    fn table_text(task, input: &[u8], answer: Option<&[u8]>) -> Result<String, String>
        = Ok(Task::table_text(task, &task.decode(input)?, answer));
    /// [`Task::class`].
    fn class(task, input: &[u8]) -> Result<Vec<u8>, String> = Ok(Task::class(task, &task.decode(input)?));
    /// [`Task::canonical_line`].
    fn canonical_line(task, input: &[u8]) -> Result<String, String>
        = Task::canonical_line(task, &task.decode(input)?);
    /// [`Task::leaks`].
    fn leaks(task, train: &[Record], test: &[Record]) -> Result<Leaks, String>
        = Task::leaks(task, train, test);
    /// [`Task::solutions`], as label tokens.
    fn solutions(task, input: &[u8]) -> Result<Solutions<Vec<u8>>, String> = {
        let puzzle = task.decode(input)?;
        Ok(Task::solutions(task, &puzzle).map(|solution| task.encode_solution(&puzzle, &solution)))
    };
    /// [`Task::proper`]. Fails with what is wrong with the puzzle.
    fn proper(task, input: &[u8]) -> Result<Option<Vec<u8>>, String> = {
        let puzzle = task.decode(input)?;
        let solution = Task::proper(task, &puzzle)?;
        Ok(solution.map(|solution| task.encode_solution(&puzzle, &solution)))
    };
    /// [`Task::search`].
    fn search(task, input: &[u8], beliefs: Option<&Beliefs>, max_nodes: u64) -> Result<Option<Exact>, String>
        = Ok(Task::search(task, &task.decode(input)?, beliefs, max_nodes));
    /// [`Task::methods`].
    fn methods(task) -> Vec<&'static str> = T::methods();
    /// [`Task::work`]. Also fails if there is no such method.
    fn work(task, input: &[u8], method: &str, trace: bool) -> Result<Worked, String>
        = Task::work(task, &task.decode(input)?, method, trace);
    /// [`Task::verify`]. Also fails with what is wrong with the answer.
    fn verify(task, input: &[u8], answer: &[u8]) -> Result<(), String>
        = Task::verify(task, &task.decode(input)?, answer);
    /// [`Task::praise`].
    fn praise(task, input: &[u8], answer: &[u8]) -> Result<String, String>
        = Ok(Task::praise(task, &task.decode(input)?, answer));
    /// [`Task::split`], from a seed and the numbers of puzzles for training and for testing. Fails if there are not so many.
    fn split(task, options: &GenerateOptions, seed: u64, wanted: (usize, usize)) -> Result<Split<Record>, String>
        = Task::split(task, options, seed, wanted);
    /// [`Task::example`].
    fn example(task) -> Option<String> = Task::example(task);
    /// [`Task::measures`].
    fn measures(task, input: &[u8], label: &[u8]) -> Result<Vec<(&'static str, f64)>, String>
        = Ok(Task::measures(task, &task.decode(input)?, label));
    /// [`Task::difficulty`].
    fn difficulty(task, puzzles: &[Record]) -> Option<String> = Task::difficulty(task, puzzles);
    /// [`Task::givens`].
    fn givens(task, input: &[u8]) -> Option<usize> = Task::givens(task, &task.decode(input).ok()?);
    /// [`Task::render`].
    fn render(task, input: &[u8], answer: Option<&[u8]>, style: Style) -> Result<String, String>
        = Ok(Task::render(task, &task.decode(input)?, answer, style));
    /// [`Task::frame`].
    fn frame(task, input: &[u8], previous: &[u8], answer: &[u8], style: Style) -> Result<String, String>
        = Ok(Task::frame(task, &task.decode(input)?, previous, answer, style));
    /// [`Task::legend`].
    fn legend(task, style: Style) -> Option<&'static str> = T::legend(style);
    /// [`Task::picture`].
    fn picture(task, input: &[u8], answer: Option<&[u8]>, label: Option<&[u8]>) -> Result<Picture, String>
        = Ok(Task::picture(task, &task.decode(input)?, answer, label));
    /// [`Task::graph`].
    fn graph(task, board: &[u8]) -> Result<Option<String>, String>
        = Ok(Task::graph(task, &task.decode(board)?));
}
