//! The loop: attempts of all puzzles through shared batches.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use burn::tensor::{DType, Tensor, activation, backend::Backend};
use hrm_backend::HrmBackend;
use hrm_data::task::Beliefs;
use hrm_model::{Hrm, InitState, SegmentOutput, State, act::Carry};

use crate::{
    Answer, Exactly, Halting, InferError, InferOptions, NoiseAt, Puzzles, Query, Selection, Source, Thought,
    Trace,
    attempts::{self, Attempt, Outcome},
    batch,
    guess::{Guesses, SURE},
    noise::{Key, Noise},
};

/// Solves puzzles with one or more checkpoints.
#[derive(Debug)]
pub struct Solver<'a, B: Backend> {
    models: Vec<Hrm<B>>,
    /// For each model, if the options need any.
    noises: Vec<Option<Noise<B>>>,
    puzzles: &'a dyn Puzzles,
    options: InferOptions,
    plan: Vec<Attempt>,
    select: Selection,
}

impl<'a, B: HrmBackend> Solver<'a, B> {
    /// A solver with one or more checkpoints for puzzles of a task.
    ///
    /// # Errors
    /// If the options, the task and the models do not fit together.
    pub fn new(
        models: &[&Hrm<B>],
        puzzles: &'a dyn Puzzles,
        options: InferOptions,
    ) -> Result<Self, InferError> {
        let Some(first) = models.first() else { return Err(InferError::None("checkpoint")) };
        let counts = [
            ("step", options.max_steps.unwrap_or(1)),
            ("view to vote with", options.votes),
            ("restart", options.restarts),
            ("attempt in a batch", options.batch),
        ];
        if let Some((what, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(InferError::None(what));
        }
        if !(options.noise >= 0.0 && options.noise.is_finite()) {
            return Err(InferError::Noise(options.noise));
        }
        let all_random = models.iter().all(|model| model.config().init_state == InitState::Random);
        if options.restarts > 1 && options.noise == 0.0 && !all_random {
            return Err(InferError::SameRestarts(options.restarts));
        }
        for (index, model) in models.iter().enumerate() {
            let (config, of_first) = (model.config(), first.config());
            if (config.seq_len, config.vocab_size) != (of_first.seq_len, of_first.vocab_size) {
                return Err(InferError::Ensemble {
                    number: index + 1,
                    got_len: config.seq_len,
                    got_vocab: config.vocab_size,
                    len: of_first.seq_len,
                    vocab: of_first.vocab_size,
                });
            }
            if !config.runs_on::<B>(&model.device()) {
                return Err(InferError::Dtype(format!("{:?}", config.forward_dtype)));
            }
        }
        if options.fallback && !options.verify {
            return Err(InferError::Unverified);
        }
        if options.verify && !puzzles.has_rules() {
            return Err(InferError::NoRules(puzzles.name().to_owned()));
        }
        if options.fallback && !puzzles.has_search() {
            return Err(InferError::NoSearch(puzzles.name().to_owned()));
        }
        if options.guesses > 0 && (models.len() > 1 || options.votes > 1 || options.restarts > 1) {
            return Err(InferError::GuessesOnly);
        }
        if options.guesses > 0 && puzzles.blank().is_none() {
            return Err(InferError::NoGuesses(puzzles.name().to_owned()));
        }
        let noise = |model: &&Hrm<B>| {
            let random = model.config().init_state == InitState::Random;
            (options.restarts > 1 || random).then(|| Noise::new(model, options.seed))
        };
        Ok(Self {
            models: models.iter().map(|&model| model.clone().with_converted_blocks()).collect(),
            noises: models.iter().map(noise).collect(),
            puzzles,
            options,
            plan: attempts::plan(
                models.len(),
                puzzles.views(options.votes),
                options.restarts.max(options.guesses.saturating_add(1)),
            ),
            select: attempts::selection(&options, models.len()),
        })
    }

    /// Attempts that a puzzle gets at most.
    pub fn attempts(&self) -> usize {
        self.plan.len()
    }

    /// Solves puzzles; answers come in the order of `queries`.
    ///
    /// # Errors
    /// If a query does not fit the models.
    pub fn solve(&self, queries: &[Query]) -> Result<Vec<Answer>, InferError> {
        let mut answers: Vec<Option<Answer>> = vec![None; queries.len()];
        self.solve_each(queries, |index, answer| answers[index] = Some(answer))?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Solves puzzles and gives each answer, with the place of its query, as soon as it is there: roughly in order.
    ///
    /// # Errors
    /// If a query does not fit the models; then nothing was solved.
    pub fn solve_each(
        &self,
        queries: &[Query],
        mut done: impl FnMut(usize, Answer),
    ) -> Result<(), InferError> {
        for (row, query) in queries.iter().enumerate() {
            self.check(row, query)?;
        }
        let lanes = self.models.iter().map(|_| Lane::default()).collect();
        let mut work =
            Work { solver: self, queries, lanes, admitted: 0, live: BTreeMap::new(), finished: Vec::new() };
        loop {
            for lane in 0..self.models.len() {
                work.fill(lane);
                work.step(lane);
                work.finished.drain(..).for_each(|(puzzle, answer)| done(puzzle, answer));
            }
            if work.live.is_empty() && work.admitted == queries.len() {
                return Ok(());
            }
        }
    }

    /// Whether a puzzle's attempts wait for each other.
    fn one_by_one(&self) -> bool {
        self.options.verify || self.options.guesses > 0
    }

    /// States that the hypotheses about one puzzle may hold; those beyond start afresh. All puzzles of a batch together hold 2 GiB at most.
    fn states_at_most(&self, model: usize) -> usize {
        const BYTES: usize = 2 << 30;
        let config = self.models[model].config();
        let state = 2 * 4 * config.total_len() * config.hidden_size;
        BYTES / (state * self.options.batch).max(1)
    }

    fn max_steps(&self, model: usize) -> usize {
        self.options.max_steps.unwrap_or(self.models[model].config().halt_max_steps)
    }

    fn check(&self, row: usize, query: &Query) -> Result<(), InferError> {
        for config in self.models.iter().map(|model| model.config()) {
            if query.tokens.len() != config.seq_len {
                return Err(InferError::Length { row, expected: config.seq_len, got: query.tokens.len() });
            }
            let unknown = |token: &u8| usize::from(*token) >= config.vocab_size;
            if let Some(position) = query.tokens.iter().position(unknown) {
                return Err(InferError::Token {
                    row,
                    position,
                    got: query.tokens[position],
                    vocab_size: config.vocab_size,
                });
            }
            if config.puzzle_emb_ndim > 0 && query.identifier as usize >= config.num_puzzle_identifiers {
                return Err(InferError::Identifier {
                    row,
                    got: query.identifier,
                    known: config.num_puzzle_identifiers,
                });
            }
        }
        Ok(())
    }
}

/// The attempts of one model that run together.
struct Lane<B: Backend> {
    carry: Option<Carry<B>>,
    slots: Vec<Slot>,
    /// Attempts that may start: puzzle and place in the plan.
    ready: VecDeque<(usize, usize)>,
}

impl<B: Backend> Default for Lane<B> {
    fn default() -> Self {
        Self { carry: None, slots: Vec::new(), ready: VecDeque::new() }
    }
}

/// An attempt in a batch. One that is over stays until the batch is put together anew.
struct Slot {
    puzzle: usize,
    attempt: usize,
    over: bool,
    trace: Trace,
    /// The answer that an attempt with guesses halted on, and the segments for which it must stand without them.
    claim: Option<(Vec<u8>, usize)>,
}

/// Segments for which an answer found with guesses must stand without them.
const PROOF: usize = 2;

/// A puzzle with attempts that are not over.
struct Live<B: Backend> {
    started: usize,
    outcomes: Vec<Outcome>,
    /// Attempts that will give no outcome, because others were quicker.
    given_up: usize,
    /// Fewest steps after which an attempt halted.
    quickest: Option<usize>,
    beliefs: Option<Beliefs>,
    guesses: Guesses<State<B>>,
    segments: usize,
    time: Duration,
}

impl<B: Backend> Default for Live<B> {
    fn default() -> Self {
        Self {
            started: 0,
            outcomes: Vec::new(),
            given_up: 0,
            quickest: None,
            beliefs: None,
            guesses: Guesses::default(),
            segments: 0,
            time: Duration::ZERO,
        }
    }
}

struct Work<'s, 'a, B: Backend> {
    solver: &'s Solver<'a, B>,
    queries: &'s [Query],
    lanes: Vec<Lane<B>>,
    /// Puzzles from the first on that were given their attempts.
    admitted: usize,
    live: BTreeMap<usize, Live<B>>,
    finished: Vec<(usize, Answer)>,
}

impl<B: HrmBackend> Work<'_, '_, B> {
    /// Replaces attempts that are over by waiting ones.
    fn fill(&mut self, lane: usize) {
        let slots = &self.lanes[lane].slots;
        let kept: Vec<usize> = (0..slots.len()).filter(|&slot| !slots[slot].over).collect();
        let holes = slots.len() - kept.len();
        let mut starting = Vec::new();
        while kept.len() + starting.len() < self.solver.options.batch {
            let Some(next) = self.next_ready(lane) else { break };
            starting.push(next);
        }
        // A few rows of waste cost less than moving all others.
        if starting.is_empty() && !kept.is_empty() && 8 * holes < self.lanes[lane].slots.len() {
            return;
        }
        let model = &self.solver.models[lane];
        let queries: Vec<Query> = starting
            .iter()
            .map(|&(puzzle, attempt)| {
                let mut query =
                    self.solver.puzzles.image(&self.queries[puzzle], self.solver.plan[attempt].view);
                if let Some(live) = self.live.get(&puzzle) {
                    live.guesses.give(&mut query.tokens);
                }
                query
            })
            .collect();
        let noise = self.solver.noises[lane].as_ref();
        let fresh = (!queries.is_empty()).then(|| self.go_on(&starting, batch::fresh(model, &queries)));
        let lane = &mut self.lanes[lane];
        let old = lane.carry.take().filter(|_| !kept.is_empty());
        let old = old.map(|carry| match holes {
            0 => carry,
            _ => carry.select(batch::index(&kept, &model.device())),
        });
        let new = fresh.map(|carry| {
            let Some(noise) = noise else { return carry };
            let key = |&(_, attempt): &(usize, usize)| self.solver.plan[attempt].key(0);
            let keys: Vec<Key> = starting.iter().map(key).collect();
            Carry { state: noise.initial_states(model, &keys, 1), ..carry }
        });
        lane.carry = match (old, new) {
            (Some(old), Some(new)) => Some(Carry::cat(vec![old, new])),
            (old, new) => old.or(new),
        };
        lane.slots.retain(|slot| !slot.over);
        lane.slots.extend(starting.into_iter().map(|(puzzle, attempt)| Slot {
            puzzle,
            attempt,
            over: false,
            trace: Trace::default(),
            claim: None,
        }));
    }

    /// A fresh carry, but that hypotheses go on where the attempts that they are parts of ended.
    fn go_on(&self, starting: &[(usize, usize)], mut carry: Carry<B>) -> Carry<B> {
        let from = |&(puzzle, _): &(usize, usize)| self.live.get(&puzzle)?.guesses.from();
        if starting.iter().any(|start| from(start).is_some()) {
            let fresh = |row| carry.rows(row, 1).state;
            let states: Vec<State<B>> = starting
                .iter()
                .enumerate()
                .map(|(row, start)| from(start).cloned().unwrap_or_else(|| fresh(row)))
                .collect();
            let cat =
                |of: fn(&State<B>) -> &Tensor<B, 3>| Tensor::cat(states.iter().map(of).cloned().collect(), 0);
            carry.state = State { z_h: cat(|state| &state.z_h), z_l: cat(|state| &state.z_l) };
        }
        carry
    }

    fn next_ready(&mut self, lane: usize) -> Option<(usize, usize)> {
        loop {
            while let Some((puzzle, attempt)) = self.lanes[lane].ready.pop_front() {
                // What others solved meanwhile needs no more attempts.
                if let Some(live) = self.live.get_mut(&puzzle) {
                    live.started += 1;
                    return Some((puzzle, attempt));
                }
            }
            let room = self.live.len() < self.solver.options.batch * self.lanes.len();
            if self.admitted == self.queries.len() || !room {
                return None;
            }
            let puzzle = self.admitted;
            self.admitted += 1;
            self.live.insert(puzzle, Live::default());
            // Where rules or the model itself tell when it is solved, a puzzle gets its attempts one after the other.
            let count = if self.solver.one_by_one() { 1 } else { self.solver.plan.len() };
            for attempt in 0..count {
                self.lanes[self.solver.plan[attempt].model].ready.push_back((puzzle, attempt));
            }
        }
    }

    /// Runs one segment of a lane.
    fn step(&mut self, lane: usize) {
        let solver = self.solver;
        let Some(carry) = self.lanes[lane].carry.take() else { return };
        let start = Instant::now();
        let carry = self.disturb(lane, carry);
        let (carry, output) = solver.models[lane].segment(carry);
        let Read { tokens, q_halt, q_continue, certainty } = read(&output, solver.options.keep_certainty);
        let running = self.lanes[lane].slots.iter().filter(|slot| !slot.over).count();
        let share = start.elapsed() / running.max(1) as u32;
        self.lanes[lane].carry = Some(carry);

        // First what all attempts gave, then which of them are over: that depends on the others.
        let mut noted = Vec::new();
        let cells = solver.models[lane].config().seq_len;
        let rows = tokens.chunks_exact(cells);
        for (slot, ((tokens, q_halt), q_continue)) in rows.zip(q_halt).zip(q_continue).enumerate() {
            if !self.lanes[lane].slots[slot].over {
                let certainty = certainty.chunks_exact(cells).nth(slot).unwrap_or_default();
                noted.push((slot, self.note(lane, slot, (tokens, certainty), [q_halt, q_continue], share)));
            }
        }
        let mut ended = Vec::new();
        for (slot, solved) in noted {
            if !solved && self.proves(lane, slot) {
                continue;
            }
            let doubts = self.doubt(lane, slot) > SURE;
            let Slot { puzzle, attempt, ref trace, ref claim, ref mut over } = self.lanes[lane].slots[slot];
            let quickest = self.live.get(&puzzle).and_then(|live| live.quickest);
            let early = solver.options.halting != Halting::AtLastStep;
            let halts = early && (trace.halted || attempt > 0 && doubts);
            if solved || halts || claim.is_some() || trace.steps >= solver.max_steps(lane) {
                *over = true;
                ended.push((slot, solved));
            } else if solver.select == Selection::FirstToHalt && quickest.is_some_and(|q| q <= trace.steps) {
                *over = true;
                self.give_up(puzzle);
            }
        }
        let beliefs = self.beliefs(lane, &ended, &output);
        for ((slot, solved), beliefs) in ended.into_iter().zip(beliefs) {
            self.end(lane, slot, solved, beliefs);
        }
    }

    /// Whether an attempt goes on to prove what it halts on, where guesses are allowed: the answer must stand for some more segments, and
    /// without the guesses, as one that a wrong guess led to does not. What the first attempt does not prove, it thinks on about.
    fn proves(&mut self, lane: usize, slot: usize) -> bool {
        let Solver { options, .. } = self.solver;
        // Where the rules are known to be kept, nothing is left to prove; where all steps are run, the last one judges.
        if options.guesses == 0 || options.verify || options.halting != Halting::Learned {
            return false;
        }
        let (doubts, most) = (self.doubt(lane, slot) > 0.5, self.solver.max_steps(lane));
        let lane = &mut self.lanes[lane];
        let Slot { puzzle, attempt, ref mut trace, ref mut claim, .. } = lane.slots[slot];
        match claim {
            Some((answer, left)) => {
                trace.halted &= trace.answer() == answer && !doubts;
                *left -= 1;
                if attempt == 0 && !trace.halted && trace.steps < most {
                    *claim = None;
                    return true;
                }
                trace.halted && *left > 0
            }
            None if trace.halted => {
                *claim = Some((trace.answer().to_vec(), PROOF));
                if let (Some(carry), 1..) = (&mut lane.carry, attempt) {
                    carry.batch.inputs =
                        batch::with_row(carry.batch.inputs.clone(), slot, &self.queries[puzzle].tokens);
                }
                true
            }
            None => false,
        }
    }

    /// The chance that a model with a sense of contradiction sees one in an attempt with guesses.
    fn doubt(&self, lane: usize, slot: usize) -> f32 {
        let knows = self.solver.options.guesses > 0 && self.solver.models[lane].config().conflict;
        let last = self.lanes[lane].slots[slot].trace.thoughts.last().filter(|_| knows);
        last.map_or(0.0, Thought::continue_probability)
    }

    /// Adds the noise of restarts.
    fn disturb(&self, lane: usize, mut carry: Carry<B>) -> Carry<B> {
        let Some(noise) = &self.solver.noises[lane] else { return carry };
        let options = &self.solver.options;
        let slots = self.lanes[lane].slots.iter();
        let (keys, deviations): (Vec<Key>, Vec<f32>) = slots
            .map(|slot| {
                let attempt = self.solver.plan[slot.attempt];
                let step = slot.trace.steps as u64;
                let due =
                    attempt.restart > 0 && !slot.over && (options.noise_at == NoiseAt::EachStep || step == 0);
                (attempt.key(step), if due { options.noise } else { 0.0 })
            })
            .unzip();
        carry.state = noise.add_to(carry.state, &keys, &deviations);
        carry
    }

    /// Notes a segment's answer; whether it keeps the rules.
    fn note(
        &mut self,
        lane: usize,
        slot: usize,
        (tokens, certainty): (&[u8], &[f32]),
        q: [f32; 2],
        share: Duration,
    ) -> bool {
        let solver = self.solver;
        let slot = &mut self.lanes[lane].slots[slot];
        let query = &self.queries[slot.puzzle];
        let view = solver.plan[slot.attempt].view;
        let tokens = match view {
            0 => tokens.to_vec(),
            view => solver.puzzles.back(query, view, tokens.to_vec()),
        };
        let [q_halt, q_continue] = q;
        let halts = solver.models[lane].config().halts(q_halt, q_continue);
        let stays = halts && solver.options.halting == Halting::Unbroken;
        // An answer that was wrong a segment ago is not checked again, unless the model wants to halt with it.
        let keeps_rules = (stays || solver.options.verify && slot.trace.answer() != tokens)
            .then(|| solver.puzzles.check(query, &tokens))
            .flatten();
        let solved = solver.options.verify && keeps_rules == Some(true);
        if !solver.options.keep_thoughts {
            slot.trace.thoughts.clear();
        }
        // Of the puzzle itself: symmetries move tokens, and cells with them.
        let certainty = if view == 0 { certainty.to_vec() } else { Vec::new() };
        slot.trace.thoughts.push(Thought { tokens, certainty, q_halt, q_continue });
        slot.trace.steps += 1;
        slot.trace.halted = halts && !(stays && keeps_rules == Some(false));
        if let Some(live) = self.live.get_mut(&slot.puzzle) {
            live.segments += 1;
            live.time += share;
            if slot.trace.halted {
                live.quickest = Some(live.quickest.unwrap_or(slot.trace.steps).min(slot.trace.steps));
            }
        }
        solved
    }

    /// What ended attempts at unsolved puzzles believe, should a search or a guess need it.
    fn beliefs(
        &self,
        lane: usize,
        ended: &[(usize, bool)],
        output: &SegmentOutput<B>,
    ) -> Vec<Option<Beliefs>> {
        let solver = self.solver;
        let slots: Vec<usize> = ended.iter().filter(|(_, solved)| !solved).map(|(slot, _)| *slot).collect();
        if slots.is_empty() || !(solver.options.fallback || solver.options.guesses > 0) {
            return vec![None; ended.len()];
        }
        let index = batch::index(&slots, &output.logits.device());
        let logits = output.logits.clone().select(0, index).cast(DType::F32);
        let [_, seq_len, vocab_size] = logits.dims();
        let weights: Vec<f32> = activation::softmax(logits, 2).into_data().iter().collect();
        let mut rows = weights.chunks_exact(seq_len * vocab_size);
        let of_slot = |&(slot, solved): &(usize, bool)| {
            let weights = if solved { None } else { rows.next() }?;
            let Slot { puzzle, attempt, .. } = self.lanes[lane].slots[slot];
            let beliefs = Beliefs::new(vocab_size, weights.to_vec());
            Some(match solver.plan[attempt].view {
                0 => beliefs,
                view => solver.puzzles.beliefs_back(&self.queries[puzzle], view, beliefs),
            })
        };
        ended.iter().map(of_slot).collect()
    }

    /// Files an attempt that ended, and finishes its puzzle or starts the next attempt.
    fn end(&mut self, lane: usize, slot: usize, solved: bool, beliefs: Option<Beliefs>) {
        let doubt = self.doubt(lane, slot);
        let at = slot;
        let slot = &mut self.lanes[lane].slots[at];
        let (puzzle, attempt) = (slot.puzzle, slot.attempt);
        let trace = std::mem::take(&mut slot.trace);
        let Some(live) = self.live.get_mut(&puzzle) else { return };
        let Solver { options, plan, puzzles, .. } = self.solver;
        let accepted = solved || (options.guesses > 0 && !options.verify && trace.halted);
        live.outcomes.push(Outcome { attempt, trace });
        if accepted {
            return self.finish(puzzle, Some(attempt));
        }
        let mut another = self.solver.one_by_one() && attempt + 1 < plan.len();
        if let (Some(beliefs), Some(blank)) = (&beliefs, puzzles.blank().filter(|_| options.guesses > 0)) {
            let room = live.guesses.states() < self.solver.states_at_most(lane);
            let (carry, model) = (self.lanes[lane].carry.clone().filter(|_| room), &self.solver.models[lane]);
            // A copy: a view would keep the whole batch.
            let state = || carry.map(|carry| carry.select(batch::index(&[at], &model.device())).state);
            another &= live.guesses.go_on(doubt, state, beliefs, &self.queries[puzzle].tokens, blank);
        }
        if let Some(beliefs) = beliefs {
            match &mut live.beliefs {
                Some(sum) => sum.add(&beliefs),
                none => *none = Some(beliefs),
            }
        }
        if another {
            let lane = plan[attempt + 1].model;
            self.lanes[lane].ready.push_front((puzzle, attempt + 1));
        } else if options.guesses > 0 {
            self.finish(puzzle, None);
        } else {
            self.finish_if_all_over(puzzle);
        }
    }

    fn give_up(&mut self, puzzle: usize) {
        if let Some(live) = self.live.get_mut(&puzzle) {
            live.given_up += 1;
        }
        self.finish_if_all_over(puzzle);
    }

    fn finish_if_all_over(&mut self, puzzle: usize) {
        let all = self.solver.plan.len();
        if self.live.get(&puzzle).is_some_and(|live| live.outcomes.len() + live.given_up == all) {
            self.finish(puzzle, None);
        }
    }

    /// Settles a puzzle's answer; `solved` is the attempt whose answer keeps the rules.
    fn finish(&mut self, puzzle: usize, solved: Option<usize>) {
        let Some(live) = self.live.remove(&puzzle) else { return };
        // The other attempts at it are of no more use.
        for slot in self.lanes.iter_mut().flat_map(|lane| &mut lane.slots) {
            slot.over |= slot.puzzle == puzzle;
        }
        let Solver { plan, options, select, puzzles, .. } = self.solver;
        let of_attempt = |attempt: usize| live.outcomes.iter().find(|outcome| outcome.attempt == attempt);
        let chosen = match solved.and_then(of_attempt) {
            Some(outcome) => Some((outcome, 1)),
            None => attempts::select(&live.outcomes, *select),
        };
        let Some((outcome, votes)) = chosen else { return };
        let Attempt { restart, view, model } = plan[outcome.attempt];
        let by_vote = solved.is_none() && plan.len() > 1 && *select == Selection::Votes;
        let source = match () {
            () if by_vote || (restart == 0 && (view, model) != (0, 0)) => Source::Voted,
            () if restart > 0 && options.guesses > 0 => Source::Guessed,
            () if restart > 0 => Source::Restarted,
            () => Source::Neural,
        };
        let mut answer = Answer {
            tokens: outcome.trace.answer().to_vec(),
            source,
            verified: options.verify.then_some(solved.is_some()),
            trace: match source {
                Source::Guessed => {
                    let path = live.guesses.path(outcome.attempt);
                    Trace::joined(path.into_iter().filter_map(of_attempt).map(|outcome| &outcome.trace))
                }
                _ => outcome.trace.clone(),
            },
            attempts: live.started,
            votes,
            segments: live.segments,
            search: None,
            time: live.time,
            all: Vec::new(),
        };
        if options.keep_attempts {
            let mut all: Vec<&Outcome> = live.outcomes.iter().collect();
            all.sort_by_key(|outcome| outcome.attempt);
            answer.all = all.into_iter().map(|outcome| outcome.trace.clone()).collect();
        }
        if solved.is_none() && options.fallback {
            let query = &self.queries[puzzle];
            let start = Instant::now();
            if let Some(exact) = puzzles.search(query, live.beliefs.as_ref(), u64::MAX) {
                let time = start.elapsed();
                // Only to be compared with: not worth much more than the search itself.
                let enough = 100_000.max(exact.nodes.saturating_mul(20));
                let guesses_without = puzzles.search(query, None, enough).map(|without| without.guesses);
                answer.search =
                    Some(Exactly { guesses: exact.guesses, nodes: exact.nodes, guesses_without, time });
                answer.source = Source::Searched;
                answer.verified = puzzles.check(query, &exact.answer);
                answer.votes = 0;
                answer.tokens = exact.answer;
            }
        }
        self.finished.push((puzzle, answer));
    }
}

/// What a segment made of all rows.
struct Read {
    /// `[rows, seq_len]`, flat.
    tokens: Vec<u8>,
    /// `[rows]`
    q_halt: Vec<f32>,
    /// `[rows]`
    q_continue: Vec<f32>,
    /// The probability of each token, `[rows, seq_len]`, flat; empty unless asked for.
    certainty: Vec<f32>,
}

/// Everything in one message of the device. Tokens are below the vocabulary size, which the dataset format bounds by 256.
fn read<B: Backend>(output: &SegmentOutput<B>, certainty: bool) -> Read {
    let tokens = output.predictions();
    let [rows, cells] = tokens.dims();
    let tokens = tokens.float().cast(DType::F32).reshape([rows * cells]);
    let mut parts = vec![tokens, output.q_halt.clone(), output.q_continue.clone()];
    if certainty {
        let chances = activation::softmax(output.logits.clone().cast(DType::F32), 2);
        parts.push(chances.max_dim(2).reshape([rows * cells]));
    }
    let values = Tensor::cat(parts, 0).into_data();
    let mut values = values.iter::<f32>();
    let tokens = values.by_ref().take(rows * cells).map(|token| token as u8).collect();
    let mut next = || values.by_ref().take(rows).collect();
    let (q_halt, q_continue) = (next(), next());
    Read { tokens, q_halt, q_continue, certainty: values.collect() }
}
