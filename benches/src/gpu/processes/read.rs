//! What processes have printed and written, and what it means.

use serde_json::Value;

use super::process::Done;
use crate::gpu::{Outcome, Trained};

pub(super) fn last_json(lines: &[String]) -> Option<Value> {
    lines.iter().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// What a process that ran tests has printed.
pub(super) fn outcome(done: &Done) -> Outcome {
    let mut outcome = Outcome { time: done.time, ..Outcome::default() };
    let mut at = None;
    for line in &done.lines {
        if let Some(test) = line.strip_prefix("test ") {
            at = Some(test.to_owned());
        } else if let Some(test) = line.strip_prefix("passed ") {
            outcome.passed.push(test.to_owned());
            at = None;
        } else if let Some(test) = line.strip_prefix("failed ") {
            outcome.failed.push(test.to_owned());
            at = None;
        }
        let percent = line
            .contains("largest deviation")
            .then(|| line.split('%').next()?.split_whitespace().last()?.parse::<f64>().ok())
            .flatten();
        if let Some(percent) = percent {
            outcome.sets.0 += 1;
            outcome.sets.1 += usize::from(percent > 100.0 || percent.is_nan());
            if outcome.worst.as_ref().is_none_or(|(worst, _)| percent > *worst || percent.is_nan()) {
                let words: Vec<&str> = line.trim_start_matches("parity ").split_whitespace().collect();
                outcome.worst = Some((percent, words.join(" ")));
            }
        }
    }
    if let Some(trouble) = &done.trouble
        && (outcome.failed.is_empty() || at.is_some())
    {
        let at = at.map_or_else(String::new, |test| format!("{test}: "));
        outcome.unfinished = Some(format!("{at}{trouble}"));
    }
    outcome
}

/// The course of a run, from its `metrics.jsonl`: some means of losses, and all evaluations.
pub(super) fn course(metrics: &str, trained: &mut Trained) {
    const POINTS: usize = 12;
    let rows: Vec<Value> = metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let steps: Vec<&Value> = rows.iter().filter(|row| row["lm_loss"].is_number()).collect();
    for window in steps.chunks(steps.len().div_ceil(POINTS).max(1)) {
        let mean = |key: &str| {
            let values: Vec<f64> = window.iter().filter_map(|row| row[key].as_f64()).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let step = window.last().and_then(|row| row["step"].as_u64());
        if let (Some(step), Some(loss)) = (step, mean("lm_loss")) {
            trained.curve.push((step, loss, mean("exact_accuracy")));
        }
    }
    trained.evaluations.extend(
        rows.iter().filter_map(|row| Some((row["step"].as_u64()?, row["eval"]["exact_accuracy"].as_f64()?))),
    );
}

/// What is missing, in the words of somebody who can mend it.
pub(super) fn explain(done: &Done) -> String {
    let trouble = done.trouble.as_deref().unwrap_or("said nothing");
    let text = done.errors.join("\n");
    let mentions = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let missing = if mentions(&["cuBLASLt"]) {
        "cuBLASLt does not multiply: install CUDA's libcublasLt, or `pip install nvidia-cublas`"
    } else if mentions(&["libnvrtc", "nvrtc library", "\"nvrtc\""]) {
        "NVRTC is missing: install CUDA's libnvrtc, or `pip install nvidia-cuda-nvrtc`, and name its folder in LD_LIBRARY_PATH"
    } else if mentions(&["cuda_runtime.h", "cuda_fp16.h", "cuda_bf16.h", "could not open source file"]) {
        "CUDA's headers are missing: expected cuda_fp16.h in $CUDA_PATH/include, by default /usr/local/cuda/include"
    } else if mentions(&["libcuda", "\"cuda\""]) {
        "there is no CUDA driver (libcuda.so)"
    } else {
        "the first product on the GPU failed"
    };
    let said: Vec<&str> = done.errors.iter().rev().take(3).rev().map(String::as_str).collect();
    format!("{missing} (the process {trouble}; it said: {})", said.join(" / "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(lines: &[&str], trouble: Option<&str>) -> Done {
        Done {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            trouble: trouble.map(str::to_owned),
            ..Done::default()
        }
    }

    #[test]
    fn outcomes_come_from_the_output() {
        let lines = [
            "test a",
            "parity a [cuda]  76 checks, largest deviation   3.5 % of allowed: x",
            "passed a",
            "test b",
            "parity b [cuda]  76 checks, largest deviation 112.0 % of allowed: y",
            "failed b",
        ];
        let got = outcome(&done(&lines, Some("ended with exit status: 1")));
        assert_eq!((got.passed, got.failed), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!((got.sets, got.unfinished), ((2, 1), None));
        assert!(got.worst.expect("two lines").1.starts_with("b [cuda]"));
        // A crash in the middle of a test is told with its name.
        let got = outcome(&done(&["test a", "passed a", "test b"], Some("was stopped after 75 s")));
        assert_eq!(got.unfinished.as_deref(), Some("b: was stopped after 75 s"));
    }

    #[test]
    fn a_course_is_means_and_evaluations() {
        let mut text = String::new();
        for step in 1..=120 {
            text += &format!("{{\"step\": {step}, \"lm_loss\": {}, \"exact_accuracy\": 0.5}}\n", 120 - step);
        }
        text += "{\"step\": 120, \"eval\": {\"exact_accuracy\": 0.25}}\nhalf a li";
        let mut trained = Trained::default();
        course(&text, &mut trained);
        assert_eq!(trained.curve.len(), 12);
        assert_eq!(trained.curve[0], (10, 114.5, Some(0.5)));
        assert_eq!(trained.evaluations, [(120, 0.25)]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let with = |error: &str| Done {
            errors: vec![error.to_owned()],
            trouble: Some("ended".into()),
            ..Done::default()
        };
        assert!(
            explain(&with("Unable to dynamically load the \"nvrtc\" shared library"))
                .contains("NVRTC is missing")
        );
        assert!(
            explain(&with("catastrophic error: cannot open source file \"cuda_fp16.h\"")).contains("headers")
        );
        assert!(
            explain(&with("Unable to dynamically load the \"cuda\" shared library"))
                .contains("no CUDA driver")
        );
        assert!(explain(&with("no cuBLASLt, or it does not take these operands")).contains("libcublasLt"));
        assert!(explain(&with("something else")).contains("something else"));
    }
}
