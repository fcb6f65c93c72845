//! Batches: enters clips' frames and captions, leaves what a step of training takes. Everything drawn is a function of
//! the seed and of the sample's number.

use std::sync::Arc;

use bytes::Bytes;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;

use super::augment;
use super::clip::Shape;
use super::order::{generator, unit};
use super::spec::{NoiseSpec, TrainSpec};

/// A clip on its way into a batch.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Number of the sample in the training.
    pub(super) number: u64,
    /// Bytes, frames × height × width × 3.
    pub(super) frames: Bytes,
    /// The caption as numbers; none where there is no caption.
    pub(super) condition: Option<Arc<[f32]>>,
    /// `real` or `synthetic`.
    pub(super) kind: Arc<str>,
}

/// What one run of a graph takes: row-major, the batch first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Batch {
    pub(super) x: Vec<f32>,
    pub(super) noise: Vec<f32>,
    pub(super) t: Vec<f32>,
    pub(super) condition: Vec<f32>,
    /// `real` or `synthetic`, by row.
    pub(super) kinds: Vec<Arc<str>>,
}

/// Makes a batch; blocking.
pub(super) fn assemble(spec: &TrainSpec, shape: Shape, condition: usize, samples: &[Sample]) -> Batch {
    let mut batch = Batch { x: vec![], noise: vec![], t: vec![], condition: vec![], kinds: vec![] };
    for sample in samples {
        let mut draws = generator(spec.seed, "sample", sample.number);
        let x = augment::x(&sample.frames, shape, &spec.clips, &mut draws);
        let t = level(&spec.noise, &mut draws);
        let is_dropped = unit(&mut draws) < spec.condition.dropout;
        push(&mut batch, sample, x, t, condition, is_dropped, &mut draws);
    }
    batch
}

/// Makes a batch to judge by: nothing is mirrored, blurred or left out, and the noise is the same at every look. The
/// levels are spread evenly over the range that the training draws from.
pub(super) fn assemble_fixed(spec: &TrainSpec, shape: Shape, condition: usize, samples: &[Sample], of: usize) -> Batch {
    let mut batch = Batch { x: vec![], noise: vec![], t: vec![], condition: vec![], kinds: vec![] };
    for sample in samples {
        let mut draws = generator(spec.seed, "validation", sample.number);
        let x = crate::stage::score::loss::normalized(&sample.frames, spec.clips.normalize);
        debug_assert_eq!(x.len(), shape.iter().product::<usize>() * 3);
        // Steps of the golden ratio spread any number of clips evenly.
        let place = (sample.number as f64 * 0.618_033_988_749_895 + 0.5 / of.max(1) as f64).fract();
        push(&mut batch, sample, x, quantile(&spec.noise, place), condition, false, &mut draws);
    }
    batch
}

fn push(
    batch: &mut Batch,
    sample: &Sample,
    x: Vec<f32>,
    t: f64,
    condition: usize,
    is_dropped: bool,
    draws: &mut Pcg64,
) {
    let normal = |_| -> f32 { StandardNormal.sample(&mut *draws) };
    batch.noise.extend((0..x.len()).map(normal));
    batch.x.extend(x);
    batch.t.push(t as f32);
    match sample.condition.as_deref().filter(|_| !is_dropped) {
        Some(numbers) => batch.condition.extend_from_slice(numbers),
        None => batch.condition.resize(batch.condition.len() + condition, 0.0),
    }
    batch.kinds.push(Arc::clone(&sample.kind));
}

fn level(noise: &NoiseSpec, draws: &mut Pcg64) -> f64 {
    match noise {
        NoiseSpec::Uniform { .. } | NoiseSpec::Levels(_) => quantile(noise, unit(draws)),
        NoiseSpec::LogitNormal { mean, std } => {
            let normal: f64 = StandardNormal.sample(draws);
            logistic(mean + std * normal)
        }
    }
}

/// The noise level below which a share of all draws is.
fn quantile(noise: &NoiseSpec, share: f64) -> f64 {
    match noise {
        NoiseSpec::Uniform { min, max } => min + (max - min) * share,
        NoiseSpec::Levels(levels) => levels[((share * levels.len() as f64) as usize).min(levels.len() - 1)],
        NoiseSpec::LogitNormal { mean, std } => logistic(mean + std * normal_quantile(share)),
    }
}

fn logistic(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// Quantile of the normal distribution, to three digits (Abramowitz and Stegun 26.2.23): it only spreads levels.
fn normal_quantile(share: f64) -> f64 {
    let tail = share.min(1.0 - share).max(1e-9);
    let t = (-2.0 * tail.ln()).sqrt();
    let size = t
        - (2.515_517 + 0.802_853 * t + 0.010_328 * t * t)
            / (1.0 + 1.432_788 * t + 0.189_269 * t * t + 0.001_308 * t * t * t);
    if share < 0.5 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(noise: serde_json::Value) -> TrainSpec {
        serde_json::from_value(serde_json::json!({
            "name": "test", "model": "tiny", "data": [{"dataset": "x"}], "steps": 1, "output": {"path": "x"},
            "noise": noise, "condition": {"dropout": 0.5},
        }))
        .unwrap()
    }

    fn sample(number: u64) -> Sample {
        let frames = Bytes::from((0..2 * 4 * 4 * 3).map(|at| (at * 31 % 255) as u8).collect::<Vec<u8>>());
        Sample { number, frames, condition: Some(vec![1.0, 2.0].into()), kind: "real".into() }
    }

    #[test]
    fn a_sample_is_the_same_in_any_batch() {
        let spec = spec(serde_json::json!({"uniform": {"min": 0.0, "max": 1.0}}));
        let both = assemble(&spec, [2, 4, 4], 2, &[sample(3), sample(4)]);
        let alone = assemble(&spec, [2, 4, 4], 2, &[sample(4)]);
        assert_eq!(both.x[96..], alone.x);
        assert_eq!(both.noise[96..], alone.noise);
        assert_eq!((both.t[1], &both.condition[2..]), (alone.t[0], &alone.condition[..]));
        assert_ne!(both.noise[..96], both.noise[96..]);
    }

    #[test]
    fn draws_have_the_distribution_that_was_asked_for() {
        let spec = spec(serde_json::json!({"levels": [0.1, 0.9]}));
        let samples: Vec<Sample> = (0..400).map(sample).collect();
        let batch = assemble(&spec, [2, 4, 4], 2, &samples);
        assert!(batch.t.iter().all(|t| [0.1, 0.9].contains(t)));
        let low = batch.t.iter().filter(|t| **t < 0.5).count();
        assert!((150..250).contains(&low), "{low}");
        let without = batch.condition.chunks(2).filter(|numbers| numbers == &[0.0, 0.0]).count();
        assert!((150..250).contains(&without), "{without}");
        let count = batch.noise.len() as f64;
        let mean = batch.noise.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
        let square = batch.noise.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / count;
        assert!(mean.abs() < 0.03 && (square - 1.0).abs() < 0.03, "{mean} {square}");
    }

    #[test]
    fn levels_to_judge_by_are_spread() {
        assert!((normal_quantile(0.975) - 1.96).abs() < 0.001);
        assert_eq!(normal_quantile(0.3), -normal_quantile(0.7));
        let spec = spec(serde_json::json!({"logit_normal": {"mean": 0.0, "std": 1.0}}));
        let samples: Vec<Sample> = (0..50).map(sample).collect();
        let batch = assemble_fixed(&spec, [2, 4, 4], 2, &samples, 50);
        let below = batch.t.iter().filter(|t| **t < 0.5).count();
        assert!((23..28).contains(&below), "{below}");
        assert_eq!(batch, assemble_fixed(&spec, [2, 4, 4], 2, &samples, 50));
    }
}
