//! The learning rate and the weight of the average, step by step.

use super::spec::{Decay, OptimizerSpec};

/// The learning rate of a step, from 1, in a training of `steps`.
pub(super) fn learning_rate(spec: &OptimizerSpec, step: u64, steps: u64) -> f64 {
    if step <= spec.warmup {
        return spec.learning_rate * step as f64 / spec.warmup as f64;
    }
    let done = (step - spec.warmup) as f64 / (steps.saturating_sub(spec.warmup)).max(1) as f64;
    let left = match spec.decay {
        Decay::Constant => return spec.learning_rate,
        Decay::Linear => 1.0 - done,
        Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
    };
    spec.learning_rate * (spec.final_share + (1.0 - spec.final_share) * left.max(0.0))
}

/// How much of the average of the weights stays at a step, from 1: the first weights count for little.
pub(super) fn ema_decay(spec: &OptimizerSpec, step: u64) -> f64 {
    spec.ema.min((1 + step) as f64 / (10 + step) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall() {
        let spec = OptimizerSpec { learning_rate: 1.0, warmup: 10, final_share: 0.1, ..OptimizerSpec::default() };
        let rates: Vec<f64> = (1..=100).map(|step| learning_rate(&spec, step, 100)).collect();
        assert_eq!(rates[0], 0.1);
        assert_eq!(rates[9], 1.0);
        assert!((rates[99] - 0.1).abs() < 1e-12);
        assert!(rates[..10].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rates[9..].windows(2).all(|pair| pair[0] > pair[1]));
        let none = OptimizerSpec { warmup: 0, ..spec };
        assert!(learning_rate(&none, 1, 100) > 0.99);
    }

    #[test]
    fn the_average_begins_fast() {
        let spec = OptimizerSpec { ema: 0.999, ..OptimizerSpec::default() };
        assert!(ema_decay(&spec, 1) < 0.2);
        assert_eq!(ema_decay(&spec, 100_000), 0.999);
    }
}
