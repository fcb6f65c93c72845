//! What has to hold in the YAML of a training beyond the types of its fields, without any I/O.

use serde_json::Value;

use super::spec::{NoiseSpec, TrainSpec};
use crate::spec::{Document, Found, Mistake, is_name};

impl Document for TrainSpec {
    const NAME: &'static str = "a training";
    const MINIMUM: &'static str =
        "a training has at least `name`, `model`, `data`, `steps` and `output`; see pipelines/reference/base.yaml";

    fn schema() -> Value {
        crate::spec::schema::train()
    }

    fn check(&self) -> Vec<Mistake> {
        let mut found = Found(Vec::new());
        if !is_name(&self.name) {
            found.add("name", format!("`{}` is no name for a training", self.name), "letters, digits, `-` and `_`");
        }
        check_data(self, &mut found);
        check_noise(&self.noise, &mut found);
        check_optimizer(self, &mut found);
        found.0
    }
}

fn check_data(spec: &TrainSpec, found: &mut Found) {
    for (index, data) in spec.data.iter().enumerate() {
        if !data.weight.is_finite() || data.weight < 0.0 {
            let message = format!("{} is no weight", data.weight);
            found.add(format!("data[{index}].weight"), message, "a number from 0 on");
        }
        if data.keep.trim().is_empty() {
            found.add(format!("data[{index}].where"), "it is empty".to_owned(), "a SQL predicate, or leave it out");
        }
    }
    if !spec.data.iter().any(|data| data.weight > 0.0) {
        found.add("data", "no dataset has a weight".to_owned(), "give at least one a weight above 0");
    }
    if !spec.clips.blur.sigma.is_finite() {
        found.add("clips.blur.sigma", "it is no number".to_owned(), "pixels");
    }
}

fn check_noise(noise: &NoiseSpec, found: &mut Found) {
    let is_level = |t: &f64| (0.0..=1.0).contains(t);
    match noise {
        NoiseSpec::Uniform { min, max } if !(is_level(min) && is_level(max) && min <= max) => {
            let message = format!("{min} to {max} is no range of noise levels");
            found.add("noise.uniform", message, "0 <= min <= max <= 1");
        }
        NoiseSpec::LogitNormal { mean, std } if !(mean.is_finite() && std.is_finite() && *std > 0.0) => {
            found.add("noise.logit_normal", format!("mean {mean}, std {std}"), "numbers, and std above 0");
        }
        NoiseSpec::Levels(levels) if levels.is_empty() || !levels.iter().all(is_level) => {
            found.add("noise.levels", format!("{levels:?}"), "numbers from 0 to 1, at least one");
        }
        _ => {}
    }
}

fn check_optimizer(spec: &TrainSpec, found: &mut Found) {
    let optimizer = &spec.optimizer;
    for (field, value, least, below) in [
        ("learning_rate", optimizer.learning_rate, 0.0, f64::INFINITY),
        ("beta1", optimizer.beta1, 0.0, 1.0),
        ("beta2", optimizer.beta2, 0.0, 1.0),
        ("epsilon", optimizer.epsilon, f64::MIN_POSITIVE, f64::INFINITY),
        ("weight_decay", optimizer.weight_decay, 0.0, f64::INFINITY),
        ("clip_norm", optimizer.clip_norm, f64::MIN_POSITIVE, f64::INFINITY),
        ("ema", optimizer.ema, 0.0, 1.0),
    ] {
        if !(least..below).contains(&value) {
            let range = if below.is_finite() { format!("from {least} to below {below}") } else { "above 0".to_owned() };
            found.add(format!("optimizer.{field}"), format!("{value} is out of range"), range);
        }
    }
    if optimizer.warmup >= spec.steps && spec.steps > 0 {
        let message = format!("{} steps of warm-up in a training of {}", optimizer.warmup, spec.steps);
        found.add("optimizer.warmup", message, "fewer than `steps`");
    }
}
