//! Which model is run on which (t, ε) pairs, and which of its losses each score is made of.

use super::config::{OfWindows, Over, PairedScore, ScoreConfig};
use crate::error::{Error, Result};
use crate::spec::suggest;

/// One (t, ε) pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Number of the pair within its score, which its ε are made of (see [`super::noise::epsilon`]).
    pub k: u64,
    /// Noise level, 0 to 1.
    pub t: f32,
}

/// The pairs of a score: every noise level in order, and at each one its draws.
pub fn pairs(score: &PairedScore) -> Vec<Pair> {
    let levels = score.t.iter().flat_map(|&t| std::iter::repeat_n(t, score.draws));
    levels.zip(0..).map(|(t, k)| Pair { k, t }).collect()
}

/// What is run, so that no model sees a pair twice.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) models: Vec<PlannedModel>,
    pub(super) scores: Vec<PlannedScore>,
}

/// An ONNX file and all pairs that some score wants from it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedModel {
    pub(super) path: String,
    pub(super) pairs: Vec<Pair>,
}

/// A score and where its losses come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedScore {
    pub(super) name: String,
    pub(super) base: Losses,
    pub(super) reference: Losses,
    pub(super) over: Over,
    pub(super) of_windows: OfWindows,
}

/// Losses of one model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Losses {
    /// Place in [`Plan::models`].
    pub(super) model: usize,
    /// Places in [`PlannedModel::pairs`], in the order of the score's pairs.
    pub(super) pairs: Vec<usize>,
}

impl Plan {
    /// Structural checks included; no I/O.
    pub(super) fn of(stage: &str, config: &ScoreConfig) -> Result<Self> {
        if config.scores.is_empty() {
            return Err(Error::config(format!("stage {stage}: there are no scores; name at least one under scores")));
        }
        let mut plan = Self { models: Vec::new(), scores: Vec::new() };
        for (name, score) in &config.scores {
            check(stage, name, score)?;
            let pairs = pairs(score);
            let [base, reference] = [&score.base, &score.reference].map(|model| {
                let path = config.models.get(model).ok_or_else(|| unknown(stage, name, model, config))?;
                Ok::<_, Error>(plan.losses(path, &pairs))
            });
            let (base, reference) = (base?, reference?);
            if base.model == reference.model {
                return Err(Error::config(format!(
                    "stage {stage}, score {name}: base and reference are the same model, so the score is always 0"
                )));
            }
            plan.scores.push(PlannedScore {
                name: name.clone(),
                base,
                reference,
                over: score.over,
                of_windows: score.of_windows,
            });
        }
        Ok(plan)
    }

    fn losses(&mut self, path: &str, pairs: &[Pair]) -> Losses {
        let model = self.models.iter().position(|model| model.path == path).unwrap_or_else(|| {
            self.models.push(PlannedModel { path: path.to_owned(), pairs: Vec::new() });
            self.models.len() - 1
        });
        let known = &mut self.models[model].pairs;
        let place = |pair: &Pair| {
            known.iter().position(|have| have == pair).unwrap_or_else(|| {
                known.push(*pair);
                known.len() - 1
            })
        };
        Losses { model, pairs: pairs.iter().map(place).collect() }
    }
}

fn check(stage: &str, name: &str, score: &PairedScore) -> Result<()> {
    let wrong = |what: String| Err(Error::config(format!("stage {stage}, score {name}: {what}")));
    if score.t.is_empty() || score.draws == 0 {
        return wrong("it has no (t, ε) pairs; give t at least one noise level and draws at least 1".to_owned());
    }
    match score.t.iter().find(|t| !(0.0..=1.0).contains(*t)) {
        Some(t) => wrong(format!("noise level {t} is not between 0 and 1")),
        None => Ok(()),
    }
}

fn unknown(stage: &str, score: &str, model: &str, config: &ScoreConfig) -> Error {
    let hint = match suggest::nearest(model, config.models.keys().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "name its ONNX file there".to_owned(),
    };
    Error::config(format!("stage {stage}, score {score}: there is no model {model} under models; {hint}"))
}
