//! Depth that grows in training (CGAR, arXiv 2511.08653, section 3.3).

use std::cmp::Ordering;

use hrm_model::Cycles;
use serde::{Deserialize, Serialize};

/// An entry of `train.curriculum`: from which share of the training on, segments have how many cycles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Share of the steps after which the stage begins, 0 for the first.
    pub from: f64,
    /// High-level updates per segment.
    pub h_cycles: usize,
    /// Low-level updates per high-level update.
    pub l_cycles: usize,
}

/// The cycles of a step, counted from 1; `None` without a curriculum.
pub fn cycles(stages: &[Stage], step: u64, total_steps: u64) -> Option<Cycles> {
    let progress = (step - 1) as f64 / total_steps.max(1) as f64;
    let stage = stages.iter().rev().find(|stage| stage.from <= progress)?;
    Some(Cycles { h_cycles: stage.h_cycles, l_cycles: stage.l_cycles })
}

/// What is wrong with a curriculum for a model of these cycles, if anything: what is expected.
pub(crate) fn problem(stages: &[Stage], full: Cycles) -> Option<String> {
    let (first, last) = (stages.first()?, stages.last()?);
    if stages.iter().any(|stage| stage.h_cycles == 0 || stage.l_cycles == 0) {
        return Some("at least 1 cycle in every stage".to_owned());
    }
    if first.from != 0.0 {
        return Some("a first stage with from = 0".to_owned());
    }
    if stages.windows(2).any(|pair| pair[0].from.partial_cmp(&pair[1].from) != Some(Ordering::Less))
        || last.from >= 1.0
    {
        return Some("stages in the order of from, which is below 1".to_owned());
    }
    let Cycles { h_cycles, l_cycles } = full;
    ((last.h_cycles, last.l_cycles) != (h_cycles, l_cycles)).then(|| {
        format!(
            "a last stage of the model's h_cycles = {h_cycles} and l_cycles = {l_cycles}, which evaluation runs"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CGAR: [Stage; 3] = [
        Stage { from: 0.0, h_cycles: 1, l_cycles: 2 },
        Stage { from: 0.3, h_cycles: 2, l_cycles: 4 },
        Stage { from: 0.6, h_cycles: 3, l_cycles: 6 },
    ];
    const FULL: Cycles = Cycles { h_cycles: 3, l_cycles: 6 };

    #[test]
    fn stages_begin_at_their_share() {
        let h_cycles = |step| cycles(&CGAR, step, 10).map(|c| c.h_cycles);
        assert_eq!((1..=10).map(h_cycles).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2, 3, 3, 3, 3].map(Some));
        assert_eq!(cycles(&[], 1, 10), None);
    }

    #[test]
    fn unusable_curricula_are_told() {
        assert_eq!(problem(&CGAR, FULL), None);
        assert_eq!(problem(&[], FULL), None);
        let told = |stages: &[Stage]| problem(stages, FULL).unwrap();
        assert!(told(&CGAR[..2]).contains("h_cycles = 3"));
        assert!(told(&CGAR[1..]).contains("from = 0"));
        assert!(told(&[CGAR[0], CGAR[2], CGAR[1]]).contains("order"));
        assert!(told(&[Stage { h_cycles: 0, ..CGAR[0] }]).contains("at least 1"));
    }
}
