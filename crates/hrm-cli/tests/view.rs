//! The page of `hrm view` in a browser, with real clicks and keys: `cargo xtask web --test`, or by themselves `cargo test -p hrm-cli --test
//! view -- --ignored`. They need Chromium, on the PATH or named by $CHROMIUM. Pictures go to the folder $HRM_PICTURES, if that is set.
#![cfg(feature = "flex")]

use std::{env, fs, path::Path, process::Command};

use hrm_backend::Cpu;
use hrm_model::{ForwardDtype, Hrm, ModelConfig};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde_json::{Value, json};

/// The driver that the web demo is tested by.
#[path = "../../hrm-web/tests/browser/chromium.rs"]
#[allow(dead_code, reason = "each test program uses a part")]
mod chromium;

use chromium::Browser;

const NAME: &str = "</script><script>document.title='bad'</script><b>";

fn hrm(folder: &Path, args: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hrm"));
    let run = command.current_dir(folder).args(args.split_whitespace()).output().expect("starts");
    assert!(run.status.success(), "{args}: {}", String::from_utf8_lossy(&run.stderr));
}

fn model(path: &Path, config: ModelConfig) {
    let mut config = config.with_hidden_size(16).with_num_heads(2).with_layers(1, 1).with_cycles(1, 1);
    config.halt_max_steps = 5;
    let model: Hrm<Cpu> = config.init(&mut ChaCha8Rng::seed_from_u64(1), &Default::default()).expect("valid");
    model.save(path, ForwardDtype::F32).expect("saved");
}

fn picture(browser: &mut Browser, name: &str) {
    if let Some(folder) = env::var_os("HRM_PICTURES") {
        browser.picture(&Path::new(&folder).join(name));
    }
}

fn open(browser: &mut Browser, page: &Path) {
    browser.open("about:blank");
    browser.wait("location.href === 'about:blank'");
    browser.open(&format!("file://{}", page.display()));
    browser.wait("document.documentElement.dataset.ready");
}

fn count(browser: &mut Browser, selector: &str) -> u64 {
    browser.eval(&format!("document.querySelectorAll({}).length", json!(selector))).as_u64().expect("a count")
}

fn where_is(browser: &mut Browser) -> String {
    browser.text("#where").split(',').next().unwrap_or_default().to_owned()
}

/// Nothing is wider than the window.
fn fits(browser: &mut Browser) {
    let wide = browser.eval("document.documentElement.scrollWidth - innerWidth");
    assert!(wide.as_i64().expect("a width") <= 0, "{wide} too wide");
    let wide = browser
        .eval("document.getElementById('main').scrollWidth - document.getElementById('main').clientWidth");
    assert!(wide.as_i64().expect("a width") <= 1, "main: {wide} too wide");
}

fn grid(seed: usize, rows: usize, cols: usize) -> Value {
    (0..rows).map(|r| (0..cols).map(|c| (seed + 3 * r + 5 * c * c) % 10).collect::<Vec<_>>()).collect()
}

#[test]
#[ignore = "needs Chromium"]
fn four_hundred_arc_tasks() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = |n: usize| json!({ "input": grid(n, 20, 20), "output": grid(n + 1, 20, 18) });
    let (mut tasks, mut submission) = (json!({}), json!({}));
    for n in 0..400 {
        let name = if n == 0 { format!("{NAME}{n}") } else { format!("task{n:03}") };
        tasks[&name] = json!({ "train": [pair(n), pair(n + 2), pair(n + 5)], "test": [pair(n + 7)] });
        // Every fourth is right in the second attempt.
        let right = if n % 4 == 0 { pair(n + 7)["output"].clone() } else { grid(n, 3, 3) };
        submission[&name] = json!([{ "attempt_1": grid(n, 20, 18), "attempt_2": right }]);
    }
    for (name, value) in [("tasks.json", tasks), ("submission.json", submission)] {
        fs::write(folder.path().join(name), value.to_string()).expect("written");
    }
    hrm(folder.path(), "view submission.json --data tasks.json --out page.html");

    let mut browser = Browser::start();
    browser.size(1200, 900, false);
    open(&mut browser, &folder.path().join("page.html"));
    let ready =
        browser.eval("Number(document.documentElement.dataset.ready)").as_u64().expect("milliseconds");
    println!("400 tasks ready after {ready} ms");
    assert!(ready < 2000, "{ready} ms");
    assert_eq!(browser.text("title"), "ARC: 400 tasks");
    assert_eq!(count(&mut browser, "#list button"), 400);
    assert!(browser.text("#list button .name").starts_with(NAME), "a name is text");
    assert!(browser.text("#about").contains("score 25.0 %"));
    picture(&mut browser, "arc-400.png");

    browser.click("[data-filter=solved]");
    assert_eq!(count(&mut browser, "#list button"), 100);
    browser.key("3");
    assert_eq!(
        (count(&mut browser, "#list button"), browser.text("#name")),
        (300, "task001: wrong".to_owned())
    );
    browser.key("ArrowDown");
    browser.key("j");
    assert_eq!(browser.text("#name"), "task003: wrong");
    browser.key("k");
    assert_eq!(browser.text("#name"), "task002: wrong");
    browser.click("[data-filter=all]");
    browser.click("[data-index='8']");
    assert_eq!(browser.text("#name"), "task008: solved");
    assert_eq!((count(&mut browser, ".attempt"), count(&mut browser, ".truth")), (2, 1));
    assert_eq!(count(&mut browser, ".demonstration"), 3);
    let labels = browser.eval("[...document.querySelectorAll('.attempt canvas')].map(c => c.getAttribute('aria-label').split(':')[0])");
    assert!(labels[0].as_str().unwrap().contains("cells wrong"), "{labels}");
    assert!(labels[1].as_str().unwrap().ends_with("20 x 18, right"), "{labels}");
    browser.size(390, 800, true);
    browser.dark(true);
    open(&mut browser, &folder.path().join("page.html"));
    fits(&mut browser);
    picture(&mut browser, "arc-phone.png");
    assert_eq!(browser.errors, Vec::<String>::new());
}

#[test]
#[ignore = "needs Chromium"]
fn votes_and_thinking_of_arc() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = |n: usize| json!({ "input": grid(n, 3, 4), "output": grid(n + 1, 4, 4) });
    let tasks = json!({
        "a": { "train": [pair(1), pair(2)], "test": [pair(3), pair(4)] },
        "b": { "train": [pair(5)], "test": [{ "input": grid(6, 4, 4) }] },
    });
    fs::write(folder.path().join("tasks.json"), tasks.to_string()).expect("written");
    let config = ModelConfig::new(12, 16).with_puzzle_emb_ndim(16);
    model(&folder.path().join("model.safetensors"), config);
    hrm(
        folder.path(),
        "arc predict tasks.json --checkpoint model.safetensors --votes 8 --adapt-steps 30 --batch 16",
    );
    hrm(folder.path(), "view submission.votes.jsonl --data tasks.json --out page.html");

    let mut browser = Browser::start();
    browser.size(1200, 900, false);
    open(&mut browser, &folder.path().join("page.html"));
    assert_eq!(where_is(&mut browser), "step 5 of 5");
    for (key, expected) in
        [("Home", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("End", 5), ("ArrowRight", 5)]
    {
        browser.key(key);
        assert_eq!(where_is(&mut browser), format!("step {expected} of 5"), "{key}");
    }
    assert!(count(&mut browser, ".vote") >= 1);
    browser.click("[data-test='1']");
    assert_eq!(
        browser.eval("document.querySelector('[data-test=\"1\"]').getAttribute('aria-pressed')"),
        "true"
    );
    browser.click("[data-filter=undecided]");
    assert_eq!((browser.text("#name"), count(&mut browser, ".truth")), ("b: undecided".to_owned(), 0));
    picture(&mut browser, "arc-votes.png");
    assert_eq!(browser.errors, Vec::<String>::new());
}

#[test]
#[ignore = "needs Chromium"]
fn the_player_of_a_sudoku() {
    let folder = tempfile::tempdir().expect("a folder");
    let puzzle = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79";
    let answer = "534678912672195348198342567859761423426853791713924856961537284287419635345286179";
    let rows: String = (0..7).map(|n| format!("x,{puzzle},{answer},{n}\n")).collect();
    fs::write(folder.path().join("p.csv"), format!("source,question,answer,rating\n{rows}"))
        .expect("written");
    model(&folder.path().join("model.safetensors"), ModelConfig::new(11, 81).with_puzzle_emb_ndim(0));
    hrm(folder.path(), "view model.safetensors --data p.csv --all-steps --out page.html");

    let mut browser = Browser::start();
    browser.size(1000, 1100, false);
    open(&mut browser, &folder.path().join("page.html"));
    let cells = "#frame .cell";
    assert_eq!((count(&mut browser, cells), count(&mut browser, "#frame .given")), (81, 30));
    assert_eq!(count(&mut browser, ".truth .cell"), 81);
    assert!(count(&mut browser, "#frame .fault") > 0, "a model with random weights makes faults");
    let colour = browser.eval("[...document.querySelectorAll('#frame .cell:not(.given)')].some(c => c.style.background.includes('rgba'))");
    assert_eq!(colour, true, "cells are coloured by certainty");
    assert_eq!(where_is(&mut browser), "step 5 of 5");
    browser.click("#back");
    assert_eq!(where_is(&mut browser), "step 4 of 5");
    browser.click("#next");
    assert_eq!(where_is(&mut browser), "step 5 of 5");
    assert_eq!(browser.eval("document.querySelector('#next').disabled"), true);
    // From the end it plays from the start.
    browser.click("#play");
    assert_eq!(browser.text("#play"), "pause");
    browser.wait("document.querySelector('#where').textContent.startsWith('step 3')");
    browser.click("#play");
    let held = where_is(&mut browser);
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert_eq!(where_is(&mut browser), held, "paused");
    browser.eval("document.activeElement.blur()");
    browser.key(" ");
    browser.wait("document.querySelector('#where').textContent.startsWith('step 5')");
    browser.wait("document.querySelector('#play').textContent === 'play'");
    // The middle of the slider.
    browser.click("#step");
    assert_eq!(where_is(&mut browser), "step 3 of 5");
    let dot = |browser: &mut Browser| {
        browser.eval("Number(document.querySelector('#dot').getAttribute('cx'))").as_f64().unwrap()
    };
    let middle = dot(&mut browser);
    browser.eval("document.activeElement.blur()");
    browser.key("Home");
    assert!(dot(&mut browser) < middle);
    assert_eq!(
        browser.eval("document.querySelector('#curve polyline').getAttribute('points').split(' ').length"),
        5
    );
    browser.click("#difficulty summary");
    assert_eq!(browser.text("#groups th"), "rating");
    assert!(count(&mut browser, "#groups tr") > 3);
    browser.key("ArrowDown");
    assert!(browser.text("#name").starts_with("puzzle 2"));
    picture(&mut browser, "sudoku-light.png");
    let paper =
        |browser: &mut Browser| browser.eval("getComputedStyle(document.body).backgroundColor").to_string();
    let light = paper(&mut browser);
    browser.click("#theme");
    assert_ne!(paper(&mut browser), light);
    browser.key("t");
    assert_eq!(paper(&mut browser), light);
    browser.dark(true);
    browser.size(390, 800, true);
    open(&mut browser, &folder.path().join("page.html"));
    assert_ne!(paper(&mut browser), light, "dark as the system says");
    fits(&mut browser);
    browser.tap("#back");
    assert_eq!(where_is(&mut browser), "step 4 of 5");
    picture(&mut browser, "sudoku-phone.png");
    assert_eq!(browser.errors, Vec::<String>::new());
}

#[test]
#[ignore = "needs Chromium"]
fn mazes_and_queens() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints/maze/model.safetensors");
    fs::copy(bundled, folder.path().join("maze.safetensors")).expect("copied");
    model(&folder.path().join("queens.safetensors"), ModelConfig::new(3, 64).with_puzzle_emb_ndim(0));
    hrm(folder.path(), "data maze generate --size 8x10 --min-path 9 --train 1 --test 5 --out mazes");
    hrm(folder.path(), "data queens generate --size 8x8 --train 1 --test 5 --out queens");
    hrm(folder.path(), "view maze.safetensors --data mazes/test.csv.gz --all-steps --out maze.html");
    hrm(folder.path(), "view queens.safetensors --data queens --task queens --all-steps --out queens.html");

    let mut browser = Browser::start();
    let page = |name: &str| folder.path().join(name);
    let cells = "#frame .cell";
    let shown = |browser: &mut Browser| {
        let cells = "[...document.querySelectorAll('#frame .cell')].map(cell => cell.textContent).join()";
        browser.eval(cells).to_string()
    };
    for (name, count_of_cells, steps) in [("maze", 80, 16), ("queens", 64, 5)] {
        browser.dark(false);
        browser.size(1000, 1000, false);
        open(&mut browser, &page(&format!("{name}.html")));
        assert_eq!((count(&mut browser, cells), count(&mut browser, "#list button")), (count_of_cells, 5));
        assert!(count(&mut browser, "#frame .given") > 0);
        assert_eq!(where_is(&mut browser), format!("step {steps} of {steps}"));
        let end = shown(&mut browser);
        browser.key("Home");
        assert_eq!(browser.eval("document.querySelector('#back').disabled"), true);
        assert_ne!(shown(&mut browser), end, "{name}: the answer changes");
        picture(&mut browser, &format!("{name}-step-1.png"));
        // The slider by its own keys.
        browser.eval("document.querySelector('#step').focus()");
        browser.key("ArrowRight");
        assert_eq!(where_is(&mut browser), format!("step 2 of {steps}"));
        browser.click("#play");
        browser.wait(&format!("document.querySelector('#where').textContent.startsWith('step {steps}')"));
        assert_eq!(shown(&mut browser), end, "{name}");
        picture(&mut browser, &format!("{name}.png"));
        browser.dark(true);
        browser.size(390, 800, true);
        open(&mut browser, &page(&format!("{name}.html")));
        fits(&mut browser);
        browser.tap("#back");
        assert_eq!(where_is(&mut browser), format!("step {} of {steps}", steps - 1));
        picture(&mut browser, &format!("{name}-phone.png"));
    }
    // The bundled model solves such mazes, one with random weights no board of queens.
    browser.tap("[data-filter=solved]");
    assert_eq!(count(&mut browser, "#list button"), 0);
    open(&mut browser, &page("maze.html"));
    browser.tap("[data-filter=solved]");
    assert!(count(&mut browser, "#list button") >= 3);
    assert!(count(&mut browser, "#frame .wall") > 0 && shown(&mut browser).contains('●'));
    assert_eq!(browser.errors, Vec::<String>::new());
}
