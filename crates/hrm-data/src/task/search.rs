//! What searches find, and what may guide them.

/// A right answer, and what finding it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exact {
    /// The answer. `[seq_len]`
    pub answer: Vec<u8>,
    /// How often the search had to choose without knowing.
    pub guesses: u64,
    /// Search states.
    pub nodes: u64,
}

/// How likely a model thinks each token in each cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Beliefs {
    pub(super) vocab_size: usize,
    /// `[seq_len * vocab_size]`
    pub(super) weights: Vec<f32>,
}

impl Beliefs {
    /// Beliefs from the weights of the tokens of the first cell, of the second, and so on. `[seq_len * vocab_size]`
    pub fn new(vocab_size: usize, weights: Vec<f32>) -> Self {
        Self { vocab_size, weights }
    }

    /// Tokens that there are.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The weight of a token in a cell; 0 outside of the sequence or the vocabulary.
    pub fn weight(&self, cell: usize, token: u8) -> f32 {
        let token = usize::from(token);
        let inside = token < self.vocab_size;
        self.weights.get(cell * self.vocab_size + token).filter(|_| inside).copied().unwrap_or(0.0)
    }

    /// Adds other beliefs about the same sequence; beliefs of another shape are left out.
    pub fn add(&mut self, other: &Self) {
        if (self.vocab_size, self.weights.len()) == (other.vocab_size, other.weights.len()) {
            self.weights.iter_mut().zip(&other.weights).for_each(|(sum, weight)| *sum += weight);
        }
    }
}

/// What a search for the solutions of a puzzle found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Solutions<S> {
    /// There is none.
    None,
    /// There is exactly one.
    Unique(S),
    /// There are several; two of them.
    Several(S, S),
    /// The search gave up before it knew.
    Unknown,
}

impl<S> Solutions<S> {
    /// The same with each solution turned into something else.
    pub fn map<T>(self, image: impl Fn(S) -> T) -> Solutions<T> {
        match self {
            Self::None => Solutions::None,
            Self::Unique(only) => Solutions::Unique(image(only)),
            Self::Several(one, other) => Solutions::Several(image(one), image(other)),
            Self::Unknown => Solutions::Unknown,
        }
    }

    /// The only solution, or why there is none, in words that follow "the puzzle".
    ///
    /// # Errors
    /// The reason.
    pub fn unique(self) -> Result<S, &'static str> {
        match self {
            Self::Unique(only) => Ok(only),
            Self::None => Err("has no solution"),
            Self::Several(..) => Err("has more than one solution"),
            Self::Unknown => Err("is too open to be solved exactly"),
        }
    }
}

/// What a classical solver made of a puzzle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worked {
    /// Its answer, if it found one. `[seq_len]`
    pub answer: Option<Vec<u8>>,
    /// What came out, in words, where that is more than right or not.
    pub outcome: Option<String>,
    /// What it took: units, in the singular, with their numbers.
    pub work: Vec<(&'static str, u64)>,
    /// What else is to be told, by name.
    pub details: serde_json::Map<String, serde_json::Value>,
    /// The steps, for people and for programs.
    pub trace: Option<(String, serde_json::Value)>,
}

impl Worked {
    /// No answer, and why.
    pub fn failed(why: &str) -> Self {
        Self { outcome: Some(why.to_owned()), ..Self::default() }
    }
}
