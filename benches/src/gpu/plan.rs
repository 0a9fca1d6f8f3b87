//! How much time each stage has, and what it does in it.

use std::time::Duration;

use super::{SWITCHES, Tests};

/// The backend that is measured and trained on.
pub const BACKEND: &str = "cuda";

/// A plan.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How the command line names it.
    pub name: &'static str,
    /// Time for the gate.
    pub gate: Duration,
    /// For the tests; as much again if some fail.
    pub correctness: Duration,
    /// For measurements beside PyTorch.
    pub speed: Duration,
    /// For the kernels of one step.
    pub kernels: Duration,
    /// For writing down what was trained.
    pub closing: Duration,
    /// Whether kernels of later stages are compiled while the tests run: not where the processor computes.
    pub prepares: bool,
    /// Sides of the product of the gate.
    pub product: [usize; 3],
    /// Files of tests, crate and name.
    pub groups: &'static [&'static str],
    /// Tests of each that are run; all if there are none here.
    pub only: &'static [&'static str],
    /// What is measured beside PyTorch, the most important first: fallbacks and kernels are measured on that.
    pub workloads: &'static [&'static str],
    /// Rounds of it.
    pub rounds: usize,
    /// How many of the [`SWITCHES`] are compared with their fallbacks: the stand-in for a GPU cannot multiply
    /// without cuBLASLt's.
    pub fallbacks: usize,
    /// Recipes whose step is timed, with what is changed in them.
    pub recipes: &'static [(&'static str, &'static [&'static str])],
    /// What is trained if nothing else is asked for, with what is changed in it.
    pub train: (&'static str, &'static [&'static str]),
}

/// What the bundled 9x9 model's recipe is changed to: wider, and as large a batch as keeps a GPU busy.
const WIDE: &[&str] = &[
    "model.hidden_size=128",
    "model.group_width=32",
    "train.global_batch_size=256",
    "train.muon_lr=0.01",
    "train.lr=1e-3",
    "train.matmul_precision=f32",
    "train.log_interval=20",
    "train.checkpoint_interval=1000",
    "train.checkpoint_carry=false",
    "eval.interval=1000",
    "eval.batch_size=500",
    "eval.limit=1000",
];

/// On a GPU that is lent for a quarter of an hour.
const DEFAULT: Plan = Plan {
    name: "default",
    // A few seconds, unless the libraries come from a slow disk.
    gate: Duration::from_secs(30),
    correctness: Duration::from_secs(75),
    speed: Duration::from_secs(50),
    kernels: Duration::from_secs(30),
    closing: Duration::from_secs(20),
    prepares: true,
    product: [31_488, 512, 3072],
    groups: &[
        "hrm-backend/functions",
        "hrm-backend/ops",
        "hrm-model/components",
        "hrm-model/parity",
        "hrm-train/components",
        "hrm-train/parity",
    ],
    only: &[],
    workloads: &["training_step/384", "lattice_training_step/768", "act_step/384", "training_step/768"],
    rounds: 7,
    fallbacks: SWITCHES.len(),
    recipes: &[
        ("configs/sudoku-9x9.toml", WIDE),
        ("configs/sudoku-extreme-1k.toml", &[]),
        ("configs/sudoku-9x9-gpu.toml", &["train.curriculum=[]"]),
        ("configs/sic-sudoku-extreme-1k.toml", &[]),
        ("configs/maze.toml", &["train.matmul_precision=f32", "data.train_examples=256"]),
    ],
    train: ("configs/sudoku-9x9.toml", WIDE),
};

/// On the stand-in for a GPU: every stage, as little of each as there can be.
const DRY: Plan = Plan {
    name: "dry",
    gate: Duration::from_secs(120),
    correctness: Duration::from_secs(300),
    speed: Duration::from_secs(600),
    kernels: Duration::from_secs(300),
    closing: Duration::from_secs(20),
    prepares: false,
    product: [64, 32, 48],
    groups: &["hrm-backend/functions", "hrm-train/components"],
    only: &["sums", "parity_sign_sgd"],
    // A training step of the recipe below is enough for g++ to compile.
    workloads: &["product/8/16/8"],
    rounds: 1,
    fallbacks: 1,
    recipes: &[("configs/trm-4x4.toml", TINY)],
    train: ("configs/trm-4x4.toml", TINY),
};

/// A few steps of a model that is hardly one.
const TINY: &[&str] = &[
    "data.train_examples=20",
    "data.test_examples=4",
    "model.hidden_size=32",
    "model.num_heads=1",
    "model.h_cycles=1",
    "model.l_cycles=1",
    "model.l_layers=1",
    "model.halt_max_steps=2",
    "train.global_batch_size=4",
    "train.max_steps=4",
    "train.log_interval=1",
    "train.checkpoint_interval=2",
    "eval.interval=2",
    "eval.batch_size=4",
    "eval.limit=4",
];

/// The plans, by name.
pub const PLANS: [Plan; 2] = [DEFAULT, DRY];

impl Plan {
    /// The plan of a name.
    pub fn named(name: &str) -> Option<Self> {
        PLANS.into_iter().find(|plan| plan.name == name)
    }

    /// All files of tests, on CUDA and perhaps on Vulkan.
    pub fn tests(&self, vulkan: bool) -> Vec<Tests> {
        let only: Vec<String> = self.only.iter().map(|test| (*test).to_owned()).collect();
        let backends = [Some(BACKEND), vulkan.then_some("vulkan")];
        let tests = |backend: &'static str| {
            let only = only.clone();
            self.groups.iter().map(move |group| Tests {
                group: (*group).to_owned(),
                backend,
                only: only.clone(),
            })
        };
        backends.into_iter().flatten().flat_map(tests).collect()
    }
}

#[cfg(test)]
mod tests {
    use hrm_train::recipe::ResolvedRecipe;

    use super::*;

    #[test]
    fn plans_leave_most_of_the_time_for_training() {
        let plan = Plan::named("default").expect("it is there");
        let fixed = plan.gate + plan.correctness + plan.speed + plan.kernels + plan.closing;
        assert!(fixed <= Duration::from_secs(210), "{fixed:?} of 575 s");
        assert!(Plan::named("other").is_none());
    }

    #[test]
    fn recipes_of_plans_are_recipes() {
        for plan in PLANS {
            for (recipe, sets) in plan.recipes.iter().chain([&plan.train]) {
                let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
                let path = crate::root().join(recipe);
                let resolved = ResolvedRecipe::load(Some(&path), &sets);
                assert!(resolved.is_ok(), "{recipe}: {:?}", resolved.err());
            }
        }
    }

    #[test]
    fn vulkan_is_tested_where_it_is() {
        let plan = Plan::named("default").expect("it is there");
        assert_eq!(plan.tests(false).len(), plan.groups.len());
        assert_eq!(
            plan.tests(true).iter().filter(|tests| tests.backend == "vulkan").count(),
            plan.groups.len()
        );
    }
}
