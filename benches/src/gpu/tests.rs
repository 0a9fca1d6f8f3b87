use std::{cell::RefCell, path::Path};

use tempfile::TempDir;

use super::*;

/// What a test sees of the machine.
#[derive(Debug, Clone, PartialEq)]
enum Call {
    Test(Off, Vec<String>),
    Speed(Off),
    Kernels(Off, u64),
    Train(Off, u64),
}

/// A machine with a clock that only its stages move.
struct Fake {
    now: Duration,
    /// Seconds that each stage takes, if it is not stopped before.
    takes: [u64; 5],
    /// For a test, what must be off for it to pass; `None` if nothing helps.
    broken: Vec<(&'static str, Option<Off>)>,
    no_gate: bool,
    vulkan: bool,
    run: TempDir,
    calls: RefCell<Vec<Call>>,
}

impl Fake {
    fn new() -> Self {
        let run = TempDir::new().expect("a folder");
        std::fs::write(run.path().join("metrics.jsonl"), "{}\n").expect("written");
        Self {
            now: Duration::ZERO,
            takes: [5, 60, 40, 20, 10_000],
            broken: Vec::new(),
            no_gate: false,
            vulkan: false,
            run,
            calls: RefCell::default(),
        }
    }

    fn spend(&mut self, stage: usize, limit: Duration) {
        self.now += Duration::from_secs(self.takes[stage]).min(limit);
    }

    fn call(&self, call: Call) {
        self.calls.borrow_mut().push(call);
    }
}

const NAMES: [&str; 2] = ["good", "attention"];

impl Machine for Fake {
    fn elapsed(&self) -> Duration {
        self.now
    }

    fn gate(&mut self, limit: Duration) -> Result<Gate, String> {
        self.spend(0, limit);
        match self.no_gate {
            true => Err("NVRTC is missing: install it".to_owned()),
            false => Ok(Gate { device: "NVIDIA H200".to_owned(), facts: Vec::new(), vulkan: self.vulkan }),
        }
    }

    fn test(&mut self, tests: &[Tests], off: Off, limit: Duration) -> Vec<Outcome> {
        self.spend(1, limit);
        let asked = tests.iter().map(|tests| format!("{} {}", tests.group, tests.only.join(" "))).collect();
        self.call(Call::Test(off, asked));
        let run = |tests: &Tests| {
            let all: Vec<&str> = match tests.only.is_empty() {
                true => NAMES.to_vec(),
                false => {
                    NAMES.into_iter().filter(|name| tests.only.iter().any(|only| only == name)).collect()
                }
            };
            let fails = |name: &&str| {
                let at_fault =
                    self.broken.iter().find(|(broken, _)| broken == name && tests.group.ends_with("ops"));
                at_fault.is_some_and(|(_, cure)| {
                    !cure.is_some_and(|cure| (0..cure.len()).all(|i| off[i] >= cure[i]))
                })
            };
            let (failed, passed): (Vec<&str>, Vec<&str>) = all.into_iter().partition(|name| fails(name));
            Outcome {
                sets: (1, failed.len().min(1)),
                passed: passed.into_iter().map(str::to_owned).collect(),
                failed: failed.into_iter().map(str::to_owned).collect(),
                ..Outcome::default()
            }
        };
        tests.iter().map(run).collect()
    }

    fn speed(&mut self, off: Off, limit: Duration) -> Result<Speed, String> {
        self.spend(2, limit);
        self.call(Call::Speed(off));
        let row = Row {
            workload: "training_step/384".to_owned(),
            medians: vec![0.034, 0.038],
            issue: Some(0.01),
            rounds: 7,
        };
        Ok(Speed {
            names: vec!["hrm".to_owned(), "PyTorch 2 compile".to_owned()],
            rows: vec![row],
            memory: vec![Some(3_000_000_000), Some(2_000_000_000)],
            fallbacks: vec![("the attention kernel".to_owned(), 0.051)],
            recipes: vec![("configs/sudoku-9x9.toml".to_owned(), 0.0042)],
            notes: Vec::new(),
        })
    }

    fn kernels(&mut self, off: Off, limit: Duration) -> Result<Kernels, String> {
        self.spend(3, limit);
        self.call(Call::Kernels(off, limit.as_secs()));
        Ok(Kernels {
            by: "nsys".to_owned(),
            rows: vec![("a|b".to_owned(), 48, 0.012), ("c".to_owned(), 1, 0.004)],
        })
    }

    fn train(&mut self, off: Off, limit: Duration) -> Result<Trained, String> {
        self.spend(4, limit);
        self.call(Call::Train(off, limit.as_secs()));
        Ok(Trained {
            run: self.run.path().to_owned(),
            recipe: "`configs/sudoku-9x9.toml`".to_owned(),
            steps: (0, 9000),
            ending: "Interrupted".to_owned(),
            trouble: None,
            curve: vec![(9000, 0.25, Some(0.5))],
            evaluations: vec![(9000, 0.871)],
        })
    }

    fn pack(&mut self, _: &Path, most: usize) -> Result<(Vec<u8>, Option<String>), String> {
        Ok((vec![1; (output::LARGEST + 1).min(most)], None))
    }
}

struct Ran {
    folder: TempDir,
    record: String,
    failures: Vec<String>,
    calls: Vec<Call>,
    ended: Duration,
}

fn run(machine: &mut Fake, seconds: u64) -> Ran {
    let folder = TempDir::new().expect("a folder");
    let mut output = Output::open(folder.path()).expect("opened");
    let plan = Plan::named("default").expect("a plan");
    let failures = check(&plan, Duration::from_secs(seconds), machine, &mut output)
        .expect("the folder can be written to");
    let record = std::fs::read_to_string(folder.path().join("record.md")).expect("a record");
    Ran { folder, record, failures, calls: machine.calls.borrow().clone(), ended: machine.now }
}

#[test]
fn a_good_machine_goes_through_all_stages_in_time() {
    let mut machine = Fake::new();
    let ran = run(&mut machine, 575);
    // 5 + 60 + 40 + 20 seconds, and 20 for the closing: training has the rest.
    assert_eq!(ran.calls.last(), Some(&Call::Train(Off::default(), 430)));
    assert_eq!(ran.ended, Duration::from_secs(555));
    assert_eq!(ran.calls.len(), 4, "nothing is run twice: {:?}", ran.calls);
    assert_eq!(ran.failures, Vec::<String>::new());
    for line in [
        "# On a GPU, ",
        "| numbers of the original, all sets | 6 of 6 sets | yes |",
        "| training_step/384, HRM 27M: at most 1.0 times PyTorch's | 0.89 times | yes |",
        "| MFU: at least 40 % | 40.8 % | yes |",
        "| memory: at most 1.1 times PyTorch's | 1.50 times | **no** |",
        "| device | NVIDIA H200 |",
        "| the attention kernel | 51 ms | 1.50 times as fast |",
        "| configs/sudoku-9x9.toml | 4.20 ms |",
        "| `a/b` | 48 | 12.000 | 75.0 % |",
        "| 9000 | 87.1 % |",
        "2 pieces, 15.7 MB in all",
        "| training | 555 | 430 |",
    ] {
        assert!(ran.record.contains(line), "{line}\nin\n{}", ran.record);
    }
    let mut files: Vec<String> = std::fs::read_dir(ran.folder.path())
        .expect("readable")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    files.sort();
    assert_eq!(files, ["kernels.csv", "log.txt", "metrics.jsonl", "record.md", "state.0", "state.1"]);
}

#[test]
fn stages_that_hang_are_cut_off_and_leave_time_to_train() {
    let mut machine = Fake::new();
    machine.takes = [10_000; 5];
    let ran = run(&mut machine, 575);
    let plan = Plan::named("default").expect("a plan");
    let before = plan.gate + plan.correctness + plan.speed + plan.kernels;
    assert_eq!(ran.ended, Duration::from_secs(575) - plan.closing);
    assert_eq!(ran.calls.last(), Some(&Call::Train(Off::default(), (ran.ended - before).as_secs())));
}

#[test]
fn what_there_is_no_time_for_is_said() {
    let mut machine = Fake::new();
    let ran = run(&mut machine, 100);
    assert!(
        ran.calls.iter().all(|call| !matches!(call, Call::Kernels(..) | Call::Train(..))),
        "{:?}",
        ran.calls
    );
    assert_eq!(ran.failures, ["kernels: there was no time left", "training: there was no time left"]);
    assert!(ran.record.contains("- kernels: there was no time left"), "{}", ran.record);
    assert!(ran.ended <= Duration::from_secs(100));
}

#[test]
fn a_machine_without_a_piece_is_told_so_and_costs_no_more_time() {
    let mut machine = Fake::new();
    machine.no_gate = true;
    let ran = run(&mut machine, 575);
    assert_eq!(ran.failures, ["gate: NVRTC is missing: install it"]);
    assert!(ran.record.contains("**Failed:**\n\n- gate: NVRTC is missing: install it\n"), "{}", ran.record);
    assert!(ran.calls.is_empty());
}

#[test]
fn what_fails_is_switched_off_and_named() {
    let (flash, cublas, both) = ([true, false], [false, true], [true, true]);
    for (cure, tries) in
        [(flash, vec![flash]), (cublas, vec![flash, cublas]), (both, vec![flash, cublas, both])]
    {
        let mut machine = Fake::new();
        machine.takes[1] = 10;
        machine.broken = vec![("attention", Some(cure))];
        let ran = run(&mut machine, 575);
        let again: Vec<&Call> = ran.calls.iter().skip(1).take(tries.len()).collect();
        let only = vec!["hrm-backend/ops attention".to_owned()];
        let expected: Vec<Call> = tries.iter().map(|off| Call::Test(*off, only.clone())).collect();
        assert_eq!(again, expected.iter().collect::<Vec<_>>(), "only what failed is run again");
        assert!(ran.calls.contains(&Call::Speed(cure)), "{:?}", ran.calls);
        assert!(matches!(ran.calls.last(), Some(Call::Train(off, _)) if *off == cure), "{:?}", ran.calls);
        assert_eq!(ran.failures, ["test hrm-backend/ops on cuda: attention"]);
        for (switch, off) in SWITCHES.iter().zip(cure) {
            let line = format!(
                "**Switched off for all that follows: {}** ({}={}).",
                switch.what, switch.variable, switch.off
            );
            assert_eq!(ran.record.contains(&line), off, "{}", ran.record);
        }
        assert!(ran.record.contains(": hrm-backend/ops: attention."), "{}", ran.record);
        assert!(ran.record.contains("| 5 of 6 sets | **no** |"), "{}", ran.record);
    }
}

#[test]
fn what_no_switch_mends_stays_on_and_is_named() {
    let mut machine = Fake::new();
    machine.takes[1] = 10;
    machine.broken = vec![("attention", None), ("good", Some([true, false]))];
    let ran = run(&mut machine, 575);
    assert_eq!(
        ran.failures,
        ["test hrm-backend/ops on cuda: good", "test hrm-backend/ops on cuda: attention"]
    );
    // What helps one of them is off, what helps none is not.
    assert!(ran.calls.contains(&Call::Speed([true, false])), "{:?}", ran.calls);
    assert!(
        ran.record.contains("Pass without the attention kernel: hrm-backend/ops: good."),
        "{}",
        ran.record
    );
}

#[test]
fn failures_on_vulkan_switch_nothing_off() {
    let mut machine = Fake::new();
    machine.vulkan = true;
    machine.broken = vec![("attention", None)];
    let plan = Plan::named("default").expect("a plan");
    let tests = plan.tests(true);
    assert_eq!(tests.len(), 2 * plan.groups.len());
    let failed = Outcome { failed: vec!["attention".to_owned()], ..Outcome::default() };
    let (cuda, vulkan) = (&tests[0], &tests[plan.groups.len()]);
    assert_eq!(failing(cuda, &failed).map(|tests| tests.only), Some(vec!["attention".to_owned()]));
    assert_eq!(failing(vulkan, &failed), None);
    // A file that crashed is run again as a whole.
    let crashed = Outcome { unfinished: Some("attention: ended".to_owned()), ..Outcome::default() };
    assert_eq!(failing(cuda, &crashed).map(|tests| tests.only), Some(Vec::new()));
}
