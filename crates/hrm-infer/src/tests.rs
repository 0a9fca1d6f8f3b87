use burn::tensor::{Tensor, TensorData};
use hrm_backend::HrmBackend;
use hrm_data::{
    puzzles::{
        maze::Mazes,
        sudoku::{Generator, Geometry, Sudoku, encode_tokens},
    },
    registry::{Family, Shape},
};
use hrm_model::{Hrm, ModelConfig};
use hrm_testing::for_each_backend;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

for_each_backend!(
    halting_is_learned_or_not,
    an_answer_that_breaks_the_rules_is_no_reason_to_stop,
    an_attempt_does_not_depend_on_its_batch,
    restarts_are_a_function_of_the_seed,
    views_vote,
    the_rules_end_the_attempts,
    the_first_to_halt_wins,
    the_search_finishes_what_the_model_cannot,
    wrong_queries_and_options_are_refused,
);

fn fresh_model<B: HrmBackend>() -> Hrm<B> {
    let mut config =
        ModelConfig::new(6, 16).with_hidden_size(32).with_num_heads(2).with_layers(1, 1).with_cycles(1, 1);
    config.halt_max_steps = 5;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    config.init(&mut rng, &B::Device::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn solve<B: HrmBackend>(
    model: &Hrm<B>,
    puzzles: &dyn Puzzles,
    options: InferOptions,
    queries: &[Query],
) -> Vec<Answer> {
    let solver = Solver::new(&[model], puzzles, options).unwrap_or_else(|e| panic!("{e}"));
    solver.solve(queries).unwrap_or_else(|e| panic!("{e}"))
}

/// A model whose q head reads something (that of a fresh one has weight 0), biased so that half of the queries halt at the
/// first step and the others later, if at all.
fn model_that_halts_at_different_steps<B: HrmBackend>(queries: &[Query]) -> Hrm<B> {
    let device = B::Device::default();
    let mut model = fresh_model::<B>();
    let weight: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 / 32.0 - 1.0) * 0.3).collect();
    let weight = Tensor::<B, 2>::from_data(TensorData::new(weight, [2, 32]), &device);
    model.q_head.weight = model.q_head.weight.map(|_| weight);
    let options = InferOptions { max_steps: Some(1), halting: Halting::AtLastStep, ..Default::default() };
    let first = solve(&model, &Unknown, options, queries);
    let last = |answer: &Answer| answer.trace.thoughts[0].q_halt - answer.trace.thoughts[0].q_continue;
    let mut lead: Vec<f32> = first.iter().map(last).collect();
    lead.sort_by(f32::total_cmp);
    let middle = (lead[lead.len() / 2] + lead[lead.len() / 2 - 1]) / 2.0;
    set_q_bias(model, [-middle, 0.0])
}

fn set_q_bias<B: HrmBackend>(mut model: Hrm<B>, bias: [f32; 2]) -> Hrm<B> {
    let bias = Tensor::<B, 1>::from_floats(bias, &B::Device::default());
    model.q_head.bias = model.q_head.bias.map(|old| old.map(|_| bias.clone()));
    model
}

fn query(seed: u32) -> Query {
    let tokens: Vec<u8> = (0..16u32).map(|i| ((i * 7 + seed * 5 + i * seed) % 6) as u8).collect();
    tokens.into()
}

fn halting_is_learned_or_not<B: HrmBackend>() {
    let run = |model: &Hrm<B>, max_steps, halting| {
        let options = InferOptions { max_steps, halting, keep_thoughts: true, ..Default::default() };
        solve(model, &Unknown, options, &[query(1), query(2)]).remove(0)
    };
    let model = fresh_model::<B>();
    // Initially q_halt equals q_continue, so nothing halts before the last step.
    let answer = run(&model, None, Halting::Learned);
    assert_eq!((answer.trace.steps, answer.trace.halted, answer.segments), (5, false, 5));
    assert_eq!((answer.source, answer.verified, answer.attempts), (Source::Neural, None, 1));
    assert_eq!(run(&model, Some(7), Halting::Learned).trace.thoughts.len(), 7);
    assert!((answer.trace.thoughts[0].halt_probability() - 0.0067).abs() < 1e-4);

    let eager = set_q_bias(fresh_model::<B>(), [1.0, 0.0]);
    let answer = run(&eager, None, Halting::Learned);
    assert_eq!((answer.trace.steps, answer.trace.halted), (1, true));
    assert_eq!(run(&eager, None, Halting::AtLastStep).trace.steps, 5);
    // Without rules there is nothing that an answer could break.
    assert_eq!(run(&eager, None, Halting::Unbroken).trace.steps, 1);
}

fn an_answer_that_breaks_the_rules_is_no_reason_to_stop<B: HrmBackend>() {
    let eager = set_q_bias(fresh_model::<B>(), [1.0, 0.0]);
    let mut generator = Generator::new(Geometry::S4, 5).with_clues(4, 7);
    let queries: Vec<Query> = (0..8).map(|i| encode_tokens(&generator.generate(i).puzzle).into()).collect();
    let rules = of_shape(Some(Shape::Sudoku(Sudoku { geometry: Geometry::S4 })), 1, 0);
    for (halting, steps) in [(Halting::Learned, 1), (Halting::Unbroken, 5)] {
        let options = InferOptions { halting, ..Default::default() };
        for (query, answer) in queries.iter().zip(solve(&eager, rules.as_ref(), options, &queries)) {
            // A fresh model knows nothing.
            assert_eq!(rules.check(query, &answer.tokens), Some(false));
            assert_eq!((answer.trace.steps, answer.trace.halted), (steps, steps == 1));
        }
    }
}

/// Neither compaction nor the attempts that take free places may mix rows up.
fn an_attempt_does_not_depend_on_its_batch<B: HrmBackend>() {
    let queries: Vec<Query> = (0..12).map(query).collect();
    let model = model_that_halts_at_different_steps::<B>(&queries);
    let options =
        InferOptions { max_steps: Some(12), keep_thoughts: true, keep_certainty: true, ..Default::default() };
    let together = solve(&model, &Unknown, options, &queries);
    let steps: Vec<usize> = together.iter().map(|answer| answer.trace.steps).collect();
    assert!(
        steps.iter().any(|s| *s != steps[0]),
        "the test needs sequences that halt at different steps, got {steps:?}"
    );
    for batch in [1, 3, 7] {
        let others = solve(&model, &Unknown, InferOptions { batch, ..options }, &queries);
        for (one, other) in together.iter().zip(&others) {
            assert_eq!(one.trace.steps, other.trace.steps);
            for (a, b) in one.trace.thoughts.iter().zip(&other.trace.thoughts) {
                assert_eq!(a.tokens, b.tokens);
                assert_eq!(a.certainty.len(), a.tokens.len());
                for (a, b) in a.certainty.iter().zip(&b.certainty) {
                    assert!((a - b).abs() < 1e-4 && *a > 0.0 && *a <= 1.0, "{a} {b}");
                }
                assert!((a.q_halt - b.q_halt).abs() < 1e-4, "{} {}", a.q_halt, b.q_halt);
            }
        }
    }
    // Only the last thought is kept unless asked for, and is the same.
    let short = solve(&model, &Unknown, InferOptions { keep_thoughts: false, ..options }, &queries);
    for (long, short) in together.iter().zip(&short) {
        assert_eq!((short.trace.thoughts.len(), short.trace.steps), (1, long.trace.steps));
        assert_eq!(short.tokens, long.tokens);
    }
}

fn restarts_are_a_function_of_the_seed<B: HrmBackend>() {
    let queries: Vec<Query> = (0..5).map(query).collect();
    let model = model_that_halts_at_different_steps::<B>(&queries);
    let plain = solve(&model, &Unknown, InferOptions::default(), &queries);
    for noise_at in [NoiseAt::EachStep, NoiseAt::Start] {
        let options = InferOptions { restarts: 6, noise: 0.5, noise_at, ..Default::default() };
        let run = |options| solve(&model, &Unknown, options, &queries);
        let answers = run(options);
        let best = |answers: &[Answer]| -> Vec<f32> {
            answers.iter().map(|answer| answer.trace.thoughts[0].q_halt).collect()
        };
        assert!(answers.iter().all(|answer| answer.attempts == 6));
        // The first attempt has no noise, so the best of all is at least as good as it.
        assert!(best(&answers).iter().zip(best(&plain)).all(|(best, plain)| *best >= plain - 1e-5));
        assert!(answers.iter().any(|answer| answer.source == Source::Restarted));
        let again = run(InferOptions { batch: 4, ..options });
        let differences =
            best(&answers).iter().zip(best(&again)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(differences < 1e-4, "other batches, other answers: {differences}");
        assert_ne!(best(&answers), best(&run(InferOptions { seed: 1, ..options })));
    }
}

fn puzzles(count: u64) -> (Box<dyn Puzzles>, Vec<Query>) {
    let geometry = Geometry::S4;
    let mut generator = Generator::new(geometry, 3).with_clues(4, 7);
    let queries = (0..count).map(|i| encode_tokens(&generator.generate(i).puzzle).into()).collect();
    (of_shape(Some(Shape::Sudoku(Sudoku { geometry })), 9, 0), queries)
}

fn views_vote<B: HrmBackend>() {
    let (task, queries) = puzzles(4);
    assert_eq!((task.views(1), task.views(9), task.views(50)), (1, 9, 9));
    let model = fresh_model::<B>();
    let all = solve(&model, task.as_ref(), InferOptions { votes: 9, ..Default::default() }, &queries);
    for (answer, query) in all.iter().zip(&queries) {
        // By hand: each image on its own, its answer turned back.
        let images: Vec<Query> = (0..9).map(|view| task.image(query, view)).collect();
        assert!(images[1..].iter().all(|image| image != query));
        let answers: Vec<Vec<u8>> = solve(&model, &Unknown, InferOptions::default(), &images)
            .into_iter()
            .enumerate()
            .map(|(view, answer)| task.back(query, view, answer.tokens))
            .collect();
        let votes = |tokens: &[u8]| answers.iter().filter(|other| *other == tokens).count();
        assert_eq!(answer.votes, answers.iter().map(|tokens| votes(tokens)).max().unwrap_or(0));
        assert_eq!(answer.votes, votes(&answer.tokens));
        assert_eq!((answer.source, answer.attempts), (Source::Voted, 9));
    }
    // A square maze has eight symmetries, whatever is asked for.
    let task = of_shape(Some(Shape::Maze(Mazes::new(5, 5))), 9, 0);
    assert_eq!(task.views(9), 8);
    let arc = of_shape(Shape::of(900, 12, Some(Family::Arc)), 9, 0);
    assert_eq!((arc.views(9), arc.has_rules(), arc.has_search()), (1, false, false));
    let query: Query = (0..25).map(|i| (i % 6) as u8).collect::<Vec<u8>>().into();
    for view in 0..8 {
        assert_eq!(task.back(&query, view, task.image(&query, view).tokens), query.tokens);
    }
}

/// Rules that accept one answer.
struct Only(Vec<u8>);

impl Puzzles for Only {
    fn name(&self) -> &str {
        "one answer"
    }
    fn has_rules(&self) -> bool {
        true
    }
    fn check(&self, _: &Query, answer: &[u8]) -> Option<bool> {
        Some(answer == self.0)
    }
}

fn the_rules_end_the_attempts<B: HrmBackend>() {
    let model = model_that_halts_at_different_steps::<B>(&(0..6).map(query).collect::<Vec<_>>());
    let options = InferOptions {
        restarts: 6,
        noise: 1.0,
        halting: Halting::AtLastStep,
        keep_thoughts: true,
        ..Default::default()
    };
    // The answer of some restart that no attempt before it gives at any step.
    let plain = solve(&model, &Unknown, InferOptions { restarts: 1, ..options }, &[query(1)]).remove(0);
    let best = solve(&model, &Unknown, options, &[query(1)]).remove(0);
    let rules = Only(best.tokens.clone());
    let verify = InferOptions { verify: true, ..options };
    let found = solve(&model, &rules, verify, &[query(1), query(1)]);
    assert_eq!(found[0], Answer { time: found[0].time, ..found[1].clone() });
    assert_eq!((&found[0].tokens, found[0].verified), (&best.tokens, Some(true)));
    assert!(found[0].attempts <= 6 && found[0].segments <= 30);
    // The plain attempt's third answer ends it there, before the last step.
    let third = Only(plain.trace.thoughts[2].tokens.clone());
    let steps = plain.trace.thoughts.iter().position(|thought| thought.tokens == third.0).map(|i| i + 1);
    let found = solve(&model, &third, verify, &[query(1)]).remove(0);
    assert_eq!((found.source, found.attempts, Some(found.segments)), (Source::Neural, 1, steps));
    // Nothing keeps these rules: all attempts are made, and the best of them is the answer.
    let found = solve(&model, &Only(vec![9; 16]), verify, &[query(1)]).remove(0);
    assert_eq!((found.verified, found.attempts, found.segments), (Some(false), 6, 30));
    assert_eq!(found.tokens, best.tokens);
}

fn the_first_to_halt_wins<B: HrmBackend>() {
    let queries: Vec<Query> = (0..6).map(query).collect();
    let model = model_that_halts_at_different_steps::<B>(&queries);
    let options =
        InferOptions { restarts: 5, noise: 0.4, select: Some(Selection::FirstToHalt), ..Default::default() };
    let raced = solve(&model, &Unknown, options, &queries);
    for (query, answer) in queries.iter().zip(&raced) {
        // One attempt at a time, none of which can stop another.
        let alone =
            solve(&model, &Unknown, InferOptions { batch: 1, ..options }, std::slice::from_ref(query));
        assert_eq!((answer.trace.steps, &answer.tokens), (alone[0].trace.steps, &alone[0].tokens));
        let steps =
            solve(&model, &Unknown, InferOptions { restarts: 1, ..options }, std::slice::from_ref(query));
        assert!(answer.trace.steps <= steps[0].trace.steps);
        assert!(answer.segments <= 5 * answer.trace.steps, "late attempts are given up");
    }
}

fn the_search_finishes_what_the_model_cannot<B: HrmBackend>() {
    let (task, queries) = puzzles(10);
    let model = fresh_model::<B>();
    let options = InferOptions {
        verify: true,
        fallback: true,
        votes: 2,
        restarts: 2,
        max_steps: Some(2),
        batch: 3,
        ..Default::default()
    };
    let answers = solve(&model, task.as_ref(), options, &queries);
    assert_eq!(answers.len(), 10);
    for (answer, query) in answers.iter().zip(&queries) {
        assert_eq!((answer.verified, task.check(query, &answer.tokens)), (Some(true), Some(true)));
        assert_eq!(answer.source, Source::Searched, "an untrained model solves nothing");
        assert_eq!((answer.attempts, answer.segments), (4, 8));
        assert!(answer.search.is_some_and(|search| search.guesses_without.is_some()));
    }
}

fn wrong_queries_and_options_are_refused<B: HrmBackend>() {
    let model = fresh_model::<B>();
    let solver = Solver::new(&[&model], &Unknown, InferOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let refused = |query: Query| match solver.solve(&[self::query(0), query]) {
        Ok(_) => panic!("accepted"),
        Err(e) => e.to_string(),
    };
    assert_eq!(refused(vec![1; 15].into()), "sequence 1: expected 16 tokens, got 15");
    assert_eq!(refused(vec![6; 16].into()), "sequence 1, token 0: expected a token below 6, got 6");
    assert!(refused(Query { tokens: vec![1; 16], identifier: 1 }).contains("identifier below 1, got 1"));
    assert!(solver.solve(&[]).is_ok_and(|answers| answers.is_empty()));

    let default = InferOptions::default();
    let refused = |options| match Solver::new(&[&model], &Unknown, options) {
        Ok(_) => panic!("accepted"),
        Err(e) => e.to_string(),
    };
    assert!(refused(InferOptions { max_steps: Some(0), ..default }).contains("at least 1 step"));
    assert!(refused(InferOptions { votes: 0, ..default }).contains("at least 1 view"));
    assert!(
        refused(InferOptions { restarts: 3, noise: 0.0, ..default }).contains("the same attempt 3 times")
    );
    assert!(refused(InferOptions { noise: f32::NAN, ..default }).contains("NaN"));
    assert!(refused(InferOptions { verify: true, ..default }).contains("no rules are known"));
    assert!(refused(InferOptions { fallback: true, ..default }).contains("verification"));
    let no_search = InferOptions { verify: true, fallback: true, ..default };
    let only = Only(Vec::new());
    assert!(matches!(Solver::new(&[&model], &only, no_search), Err(InferError::NoSearch(_))));
    let none: [&Hrm<B>; 0] = [];
    assert!(matches!(Solver::new(&none, &Unknown, default), Err(InferError::None("checkpoint"))));
    let other = ModelConfig::new(11, 81).with_hidden_size(16).with_num_heads(2).with_layers(1, 1);
    let other: Hrm<B> = other
        .init(&mut ChaCha8Rng::seed_from_u64(1), &B::Device::default())
        .unwrap_or_else(|e| panic!("{e}"));
    let error = Solver::new(&[&model, &other], &Unknown, default).map(|_| ()).map_err(|e| e.to_string());
    assert!(error.is_err_and(|e| e.contains("checkpoint 2 of the ensemble reads 81 tokens")));
}
