//! The model on its device: the graphs of a training, and the state that they work on.

use std::collections::HashMap;

use super::batch::Batch;
use super::checkpoint::Checkpoint;
use super::schedule::{ema_decay, learning_rate};
use super::signature::{Parameter, Size};
use super::spec::TrainSpec;
use crate::error::{Error, Result};
use crate::model::program::{Array, DeviceState, Program};
use crate::spec::Provider;

/// Groups of the state beside the trained values: first and second moments, and the average.
const MOMENTS: [&str; 2] = ["m", "v"];
const AVERAGE: &str = "ema";
const GRADIENTS: &str = "grads";

/// A model that is trained.
#[derive(Debug)]
pub(super) struct TrainModel {
    spec: TrainSpec,
    size: Size,
    state: DeviceState,
    programs: Programs,
    loss: Program,
}

/// What makes a step: one graph, or two where gradients are added up.
#[derive(Debug)]
enum Programs {
    Step(Program),
    Accumulated { gradients: Program, apply: Program },
}

/// What a step says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StepResult {
    /// Mean over the clips.
    pub(super) loss: f64,
    /// Of each clip.
    pub(super) sample_loss: Vec<f32>,
    /// Length of the gradient.
    pub(super) grad_norm: f64,
}

impl TrainModel {
    /// Loads the graphs and makes the first state: that of a checkpoint, the weights that the training begins with, or
    /// those of the seed. Blocking.
    pub(super) fn load(
        spec: &TrainSpec,
        size: Size,
        from: Option<&Checkpoint>,
        init: Option<&Checkpoint>,
    ) -> Result<Self> {
        let threads = spec.run.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let program = |graph: &str| {
            let name = format!("{}/{graph}.onnx", size.signature.name);
            Program::load(&spec.models, &name, &size.graph(graph)?, threads)
        };
        let programs = match spec.accumulate {
            1 => Programs::Step(program("train_step")?),
            _ => Programs::Accumulated { gradients: program("gradients")?, apply: program("apply")? },
        };
        let loss = program("loss")?;
        let state = DeviceState::beside(&loss);
        let mut model = Self { spec: spec.clone(), size, state, programs, loss };
        model.fill(from, init)?;
        Ok(model)
    }

    fn fill(&mut self, from: Option<&Checkpoint>, init: Option<&Checkpoint>) -> Result<()> {
        let signature = self.size.signature.clone();
        let prefix = signature.trained_prefix.as_str();
        let seed = self.spec.seed;
        if signature.lora.is_some() {
            // Adapters change a model that stays as it is.
            let frozen = match (from, init) {
                (Some(checkpoint), _) => checkpoint.group("params")?,
                (None, Some(init)) => init.group(AVERAGE)?,
                (None, None) => {
                    return Err(Error::config(format!(
                        "model {} trains adapters of a model: name its checkpoint under init",
                        signature.name
                    )));
                }
            };
            self.put_all("params", &signature.parameters, frozen)?;
        }
        if let Some(checkpoint) = from {
            for group in [prefix, MOMENTS[0], MOMENTS[1], AVERAGE] {
                self.put_all(group, signature.trained(), checkpoint.group(group)?)?;
            }
            return Ok(());
        }
        let first: HashMap<String, Array> = match init {
            Some(init) if signature.lora.is_none() => init.group(AVERAGE)?,
            _ => signature.trained().iter().map(|tensor| (tensor.name.clone(), tensor.first_values(seed))).collect(),
        };
        for group in [prefix, AVERAGE] {
            self.put_all(group, signature.trained(), first.clone())?;
        }
        for group in MOMENTS {
            for tensor in signature.trained() {
                self.state.put(&format!("{group}/{}", tensor.name), tensor.zeros())?;
            }
        }
        Ok(())
    }

    fn put_all(&mut self, group: &str, wanted: &[Parameter], mut arrays: HashMap<String, Array>) -> Result<()> {
        for tensor in wanted {
            let array = arrays.remove(&tensor.name).filter(|array| array.dims == tensor.shape).ok_or_else(|| {
                Error::config(format!(
                    "the checkpoint has no {group}/{} of shape {:?}: it is that of another model size than {}",
                    tensor.name, tensor.shape, self.size.signature.name
                ))
            })?;
            self.state.put(&format!("{group}/{}", tensor.name), array)?;
        }
        Ok(())
    }

    /// The execution providers that run it, by graph.
    pub(super) fn providers(&self) -> Vec<(&'static str, Provider)> {
        let steps = match &self.programs {
            Programs::Step(step) => vec![("train_step", step.provider())],
            Programs::Accumulated { gradients, apply } => {
                vec![("gradients", gradients.provider()), ("apply", apply.provider())]
            }
        };
        [steps, vec![("loss", self.loss.provider())]].concat()
    }

    /// Step number `step`, from 1, on `spec.accumulate` batches.
    pub(super) fn step(&mut self, step: u64, batches: Vec<Batch>) -> Result<StepResult> {
        let scalars = self.scalars(step);
        let shares = 1.0 / batches.len() as f64;
        let trained: Vec<Parameter> = match &self.programs {
            Programs::Step(_) => Vec::new(),
            Programs::Accumulated { .. } => self.size.signature.trained().to_vec(),
        };
        for tensor in trained {
            self.state.put(&format!("{GRADIENTS}/{}", tensor.name), tensor.zeros())?;
        }
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            let mut fed = self.feeds(batch);
            let outputs = match &mut self.programs {
                Programs::Step(program) => {
                    fed.extend(scalars.clone());
                    program.run(&mut self.state, fed)?
                }
                Programs::Accumulated { gradients, .. } => {
                    fed.push(("scale", Array::number(shares)));
                    gradients.run(&mut self.state, fed)?
                }
            };
            results.push(outputs);
        }
        let norm = match &mut self.programs {
            Programs::Step(_) => results.first().and_then(|outputs| number(outputs, "grad_norm")),
            Programs::Accumulated { apply, .. } => number(&apply.run(&mut self.state, scalars)?, "grad_norm"),
        };
        let losses: f64 = results.iter().filter_map(|outputs| number(outputs, "loss")).sum();
        let each = results.into_iter().filter_map(|mut outputs| outputs.remove("sample_loss"));
        Ok(StepResult {
            loss: losses * shares,
            sample_loss: each.flat_map(|array| array.values).collect(),
            grad_norm: norm.unwrap_or(f64::NAN),
        })
    }

    /// The losses of a batch under the averaged weights; nothing changes.
    pub(super) fn judge(&mut self, batch: Batch) -> Result<Vec<f32>> {
        let trained = format!("{}/", self.size.signature.trained_prefix);
        let averaged = |name: &str| match name.strip_prefix(&trained) {
            Some(rest) => format!("{AVERAGE}/{rest}"),
            None => name.to_owned(),
        };
        let fed = self.feeds(batch);
        let mut outputs = self.loss.run_on(&mut self.state, fed, &averaged)?;
        let losses = outputs.remove("sample_loss");
        losses.map(|array| array.values).ok_or_else(|| Error::internal("the graph loss has no output sample_loss"))
    }

    fn feeds(&self, batch: Batch) -> Vec<(&'static str, Array)> {
        let signature = &self.size.signature;
        let [frames, height, width] = signature.shape();
        let clips = vec![signature.batch, frames, height, width, 3];
        vec![
            ("x", Array::new(clips.clone(), batch.x)),
            ("noise", Array::new(clips, batch.noise)),
            ("t", Array::new([signature.batch], batch.t)),
            ("condition", Array::new([signature.batch, signature.condition], batch.condition)),
        ]
    }

    fn scalars(&self, step: u64) -> Vec<(&'static str, Array)> {
        let optimizer = &self.spec.optimizer;
        [
            ("lr", learning_rate(optimizer, step, self.spec.steps)),
            ("step", step as f64),
            ("beta1", optimizer.beta1),
            ("beta2", optimizer.beta2),
            ("epsilon", optimizer.epsilon),
            ("weight_decay", optimizer.weight_decay),
            ("clip_norm", optimizer.clip_norm),
            ("ema_decay", ema_decay(optimizer, step)),
        ]
        .map(|(name, value)| (name, Array::number(value)))
        .into()
    }

    /// The state, and which groups of it a checkpoint has.
    pub(super) fn state(&self) -> (&DeviceState, Vec<&str>) {
        let prefix = self.size.signature.trained_prefix.as_str();
        let mut groups = vec![prefix, MOMENTS[0], MOMENTS[1], AVERAGE];
        if self.size.signature.lora.is_some() {
            groups.push("params");
        }
        (&self.state, groups)
    }

    /// The averaged weights of the whole model: adapters are added to what they adapt.
    pub(super) fn averaged(&self) -> Result<Vec<(String, Array)>> {
        let signature = &self.size.signature;
        let whole = |tensor: &Parameter| {
            let Some(lora) = &signature.lora else { return self.state.get(&format!("{AVERAGE}/{}", tensor.name)) };
            let mut matrix = self.state.get(&format!("params/{}", tensor.name))?;
            let adapter = |side: &str| format!("{}/{side}", tensor.name);
            if lora.parameters.iter().any(|parameter| parameter.name == adapter("a")) {
                let a = self.state.get(&format!("{AVERAGE}/{}", adapter("a")))?;
                let b = self.state.get(&format!("{AVERAGE}/{}", adapter("b")))?;
                add_product(&mut matrix, &a, &b, lora.scale);
            }
            Ok(matrix)
        };
        signature.parameters.iter().map(|tensor| Ok((tensor.name.clone(), whole(tensor)?))).collect()
    }

    /// The size that is trained.
    pub(super) fn size(&self) -> &Size {
        &self.size
    }
}

fn number(outputs: &std::collections::BTreeMap<String, Array>, name: &str) -> Option<f64> {
    outputs.get(name)?.values.first().map(|value| f64::from(*value))
}

/// W + scale · (A @ B), for each block: the first axis.
fn add_product(w: &mut Array, a: &Array, b: &Array, scale: f64) {
    let (rows, rank, columns) = (a.dims[1], a.dims[2], b.dims[2]);
    let blocks = w.values.chunks_exact_mut(rows * columns);
    for ((w, a), b) in blocks.zip(a.values.chunks_exact(rows * rank)).zip(b.values.chunks_exact(rank * columns)) {
        for (w, a) in w.chunks_exact_mut(columns).zip(a.chunks_exact(rank)) {
            for (column, w) in w.iter_mut().enumerate() {
                let product: f64 =
                    a.iter().enumerate().map(|(k, a)| f64::from(*a) * f64::from(b[k * columns + column])).sum();
                *w = (f64::from(*w) + scale * product) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_added_block_by_block() {
        let mut w = Array::new([2, 2, 2], vec![1.0; 8]);
        let a = Array::new([2, 2, 1], vec![1.0, 2.0, 0.0, 3.0]);
        let b = Array::new([2, 1, 2], vec![10.0, 20.0, 1.0, 0.0]);
        add_product(&mut w, &a, &b, 0.5);
        assert_eq!(w.values, [6.0, 11.0, 11.0, 21.0, 1.0, 1.0, 2.5, 1.0]);
    }
}
