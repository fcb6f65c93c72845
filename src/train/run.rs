//! A training from its YAML to its weights.
//!
//! Batches come from tasks, steps are made on a thread of their own. Everything drawn depends on the seed and on how
//! many samples there were, so a training that goes on from a checkpoint is the one that was never broken off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::checkpoint::{self, Checkpoint, Description};
use super::index::{self, Source};
use super::loader::Loader;
use super::metrics::{ALL, Metric, Metrics};
use super::model::{StepResult, TrainModel};
use super::progress::TrainProgress;
use super::signature::Size;
use super::spec::TrainSpec;
use super::{captions, export};
use crate::commit::{OutputLock, now};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::storage::{Location, Storage};

/// The description of a training below its output: what `simdrop sql` knows one by.
pub(crate) const DESCRIPTION: &str = "train.json";
/// The trained model below the output.
pub(crate) const MODEL: &str = "model.onnx";

/// How much of the running mean of the loss stays at each step.
const MEAN_DECAY: f64 = 0.98;
/// Steps before a loss can be called exploding.
const SETTLED: u64 = 50;
/// A loss that is so many times the running mean is exploding.
const EXPLODED: f64 = 20.0;

/// What is to be trained.
#[derive(Debug, Clone)]
pub struct TrainRequest {
    /// The training.
    pub spec: TrainSpec,
    /// Go on from the last checkpoint.
    pub resume: bool,
    /// Remove what an earlier training left at the output.
    pub overwrite: bool,
    /// Where it is counted.
    pub progress: Arc<TrainProgress>,
    /// End behind the step under way, with a checkpoint.
    pub stop: CancellationToken,
}

/// What a training came to.
#[derive(Debug, Clone, Serialize)]
pub struct TrainOutcome {
    /// Steps that are done.
    pub steps: u64,
    /// Steps that this run did.
    pub steps_now: u64,
    /// Numbers that were trained.
    pub trained_count: u64,
    /// Clips to train on, and clips that are held out.
    pub clips: [usize; 2],
    /// Clips that could not be used.
    pub unusable: u64,
    /// Running mean of the loss at the end.
    pub loss: f64,
    /// Loss of the clips that are held out, under the averaged weights.
    pub validation_loss: Option<f64>,
    /// Steps a second, without validation and checkpoints.
    pub steps_per_s: f64,
    /// Share of the time in which the device waited for data.
    pub wait_share: f64,
    /// The execution provider of each graph.
    pub providers: BTreeMap<String, String>,
    /// Folder of the output.
    pub output: String,
}

/// Trains, and writes the model.
pub async fn run(request: TrainRequest) -> Result<TrainOutcome> {
    let TrainRequest { spec, resume, overwrite, progress, stop } = request;
    let storage = Storage::new(&spec.storage);
    let root = storage.locate(&spec.output.path)?;
    let size = Size::open(&spec.model, &storage)?;
    let _lock = OutputLock::take(&root)?;
    let sources = index::sources(&spec, &storage).await?;
    let fingerprint = fingerprint(&spec, &storage).await?;
    let from = begin(&root, &fingerprint, resume, overwrite).await?;
    let init = match (&spec.init, &from) {
        (Some(init), _) => Some(Checkpoint::read(&storage.locate(init)?).await?),
        (None, _) => None,
    };
    let embedded = captions::embed(&spec, &sources, &storage, &root, size.signature.condition).await?;
    let done = from.as_ref().map_or(0, |checkpoint| checkpoint.description.step);
    let samples = from.as_ref().map_or(0, |checkpoint| checkpoint.description.samples);
    let metrics = Metrics::read(&root, done).await?;
    let loader = Arc::new(Loader::new(spec.clone(), size.signature.clone(), sources, embedded));
    let held_out = Arc::clone(&loader).held_out().await?;
    let (to, batches) = mpsc::channel(spec.run.ahead);
    let feeding = Arc::clone(&loader).feed(samples, to);
    let training = Training {
        mean: from.as_ref().and_then(|checkpoint| checkpoint.description.mean_loss),
        spec: spec.clone(),
        root: root.clone(),
        runtime: Handle::current(),
        fingerprint,
        progress,
        stop,
        metrics,
        held_out,
        done,
        samples,
        first: done,
        last_good: from.as_ref().map(|checkpoint| checkpoint.description.step),
        window: Window::default(),
        whole: Window::default(),
    };
    let work = tokio::task::spawn_blocking(move || {
        let model = TrainModel::load(&training.spec, size, from.as_ref(), init.as_ref())?;
        training.train(model, batches)
    });
    let (fed, trained) = tokio::join!(feeding, work);
    let (training, model) = trained.map_err(Error::internal)??;
    fed?;
    training.finish(&model, &loader).await
}

/// The checkpoint that a training goes on from; one of another training is refused.
async fn begin(root: &Location, fingerprint: &str, resume: bool, overwrite: bool) -> Result<Option<Checkpoint>> {
    let newest = Checkpoint::newest(root).await?;
    match newest {
        None if resume => {
            tracing::warn!("{} has no checkpoint: the training begins at its first step", root.uri());
            Ok(None)
        }
        None => Ok(None),
        Some(_) if overwrite && !resume => {
            for step in checkpoint::steps(root).await? {
                checkpoint::place(root, step).delete().await?;
            }
            Ok(None)
        }
        Some((place, found)) if resume => {
            if found.description.fingerprint != fingerprint {
                return Err(Error::config(format!(
                    "{} is of another training (its model, data, seed or settings differ): give this one another \
                     output.path, or replace it with --overwrite",
                    place.uri()
                )));
            }
            tracing::info!("going on from {}", place.uri());
            Ok(Some(found))
        }
        Some((place, _)) => Err(Error::config(format!(
            "there is a training at {} ({}): go on with --resume, or replace it with --overwrite",
            root.uri(),
            place.uri()
        ))),
    }
}

/// Hash of everything that decides what comes out. Datasets, first weights and the encoder count by what they hold: they may
/// be moved, into a bucket for example, between a training and its resume.
async fn fingerprint(spec: &TrainSpec, storage: &Storage) -> Result<String> {
    let mut identity = serde_json::to_value(spec).map_err(Error::internal)?;
    if let Some(fields) = identity.as_object_mut() {
        for field in ["description", "checkpoints", "output", "models", "run", "storage", "init"] {
            fields.shift_remove(field);
        }
    }
    for data in identity["data"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        data.shift_remove("dataset");
    }
    if let Some(condition) = identity["condition"].as_object_mut() {
        condition.shift_remove("encoder");
    }
    let mut data = Vec::new();
    for source in &spec.data {
        let dataset = Dataset::require(&storage.locate(&source.dataset)?).await?;
        let shards = dataset.shards.iter().chain(&dataset.dropped_shards).map(|shard| (&shard.path, &shard.blake3));
        let rows = dataset.clips.iter().map(|rows| (&rows.path, &rows.blake3));
        data.push(json!(shards.chain(rows).collect::<Vec<_>>()));
    }
    let init = match &spec.init {
        Some(init) => Some(blake3::hash(&storage.locate(init)?.read().await?).to_hex().to_string()),
        None => None,
    };
    let encoder = match &spec.condition.encoder {
        Some(encoder) => Some(blake3::hash(&storage.locate(encoder)?.read().await?).to_hex().to_string()),
        None => None,
    };
    let text = json!({"spec": identity, "data": data, "init": init, "encoder": encoder}).to_string();
    Ok(blake3::hash(text.as_bytes()).to_hex()[..32].to_owned())
}

/// What was measured since some moment.
#[derive(Debug, Default)]
struct Window {
    steps: u64,
    clips: u64,
    loss: f64,
    norm: f64,
    /// Sum and number of the losses by source.
    by_source: BTreeMap<Arc<str>, (f64, u64)>,
    waited: Duration,
    busy: Duration,
}

impl Window {
    fn add(&mut self, result: &StepResult, kinds: &[Arc<str>], waited: Duration, busy: Duration) {
        self.steps += 1;
        self.clips += kinds.len() as u64;
        self.loss += result.loss;
        self.norm += result.grad_norm;
        for (kind, loss) in kinds.iter().zip(&result.sample_loss) {
            let sum = self.by_source.entry(Arc::clone(kind)).or_default();
            *sum = (sum.0 + f64::from(*loss), sum.1 + 1);
        }
        self.waited += waited;
        self.busy += busy;
    }

    fn rates(&self) -> (f64, f64) {
        let time = (self.waited + self.busy).as_secs_f64().max(1e-9);
        (self.steps as f64 / time, self.waited.as_secs_f64() / time)
    }
}

/// A training under way, on its thread.
struct Training {
    spec: TrainSpec,
    root: Location,
    runtime: Handle,
    fingerprint: String,
    progress: Arc<TrainProgress>,
    stop: CancellationToken,
    metrics: Metrics,
    held_out: Vec<(Batch, usize)>,
    /// Steps and samples so far, and steps before this run.
    done: u64,
    samples: u64,
    first: u64,
    mean: Option<f64>,
    /// Step of the last checkpoint.
    last_good: Option<u64>,
    window: Window,
    whole: Window,
}

impl Training {
    /// All steps; blocking.
    fn train(mut self, mut model: TrainModel, mut batches: mpsc::Receiver<Batch>) -> Result<(Self, TrainModel)> {
        for (graph, provider) in model.providers() {
            tracing::info!(graph, provider = provider.as_str(), "graph loaded");
        }
        let per_step = model.size().signature.batch as u64 * u64::from(self.spec.accumulate);
        self.progress.begin(self.done, self.spec.steps, per_step);
        while self.done < self.spec.steps && !self.stop.is_cancelled() {
            let begin = Instant::now();
            let mut taken = Vec::with_capacity(self.spec.accumulate as usize);
            while taken.len() < self.spec.accumulate as usize {
                match batches.blocking_recv() {
                    Some(batch) => taken.push(batch),
                    // The reader has an error to tell.
                    None => return Ok((self, model)),
                }
            }
            let waited = begin.elapsed();
            let kinds: Vec<Arc<str>> = taken.iter().flat_map(|batch| batch.kinds.iter().cloned()).collect();
            let result = model.step(self.done + 1, taken)?;
            self.check(&result)?;
            self.done += 1;
            self.samples += per_step;
            let busy = begin.elapsed() - waited;
            self.window.add(&result, &kinds, waited, busy);
            self.whole.add(&result, &[], waited, busy);
            let mean = self.mean.map_or(result.loss, |mean| MEAN_DECAY * mean + (1.0 - MEAN_DECAY) * result.loss);
            self.mean = Some(mean);
            self.progress.step(self.done, mean, self.whole.waited.as_secs_f64());
            self.after_step(&mut model)?;
        }
        Ok((self, model))
    }

    /// Logs, looks at what is held out and writes a checkpoint, each when it is time.
    fn after_step(&mut self, model: &mut TrainModel) -> Result<()> {
        let is_last = self.done == self.spec.steps || self.stop.is_cancelled();
        if is_last || self.done.is_multiple_of(self.spec.run.log_every) {
            self.log();
        }
        let is_look = self.done == self.spec.steps || self.done.is_multiple_of(self.spec.validation.every);
        if is_look && !self.held_out.is_empty() {
            self.validate(model)?;
        }
        if is_last || self.done.is_multiple_of(self.spec.checkpoints.every) {
            self.checkpoint(model)?;
        }
        Ok(())
    }

    /// A step whose numbers have left the finite ones behind, or the loss all bounds, ends the training.
    fn check(&self, result: &StepResult) -> Result<()> {
        let problem = if !result.loss.is_finite() || !result.grad_norm.is_finite() {
            format!("loss {} and gradient norm {} are no numbers any more", result.loss, result.grad_norm)
        } else {
            match self.mean {
                Some(mean) if self.done > SETTLED && result.loss > EXPLODED * mean => {
                    format!("the loss is {:.4}, its running mean {mean:.4}", result.loss)
                }
                _ => return Ok(()),
            }
        };
        let good = match self.last_good {
            Some(step) => format!("the last good checkpoint is {}", checkpoint::place(&self.root, step).uri()),
            None => "there is no checkpoint yet".to_owned(),
        };
        Err(Error::State(format!(
            "step {}: {problem}; {good}. Lower optimizer.learning_rate, or look at the data",
            self.done + 1
        )))
    }

    fn log(&mut self) {
        let window = std::mem::take(&mut self.window);
        let (steps_per_s, wait_share) = window.rates();
        let row = |source: &str, loss: f64, clips: u64| Metric {
            step: self.done,
            split: "train".to_owned(),
            source: source.to_owned(),
            loss,
            clips,
            grad_norm: None,
            learning_rate: None,
            steps_per_s: None,
            wait_share: None,
        };
        self.metrics.push(Metric {
            grad_norm: Some(window.norm / window.steps.max(1) as f64),
            learning_rate: Some(super::schedule::learning_rate(&self.spec.optimizer, self.done, self.spec.steps)),
            steps_per_s: Some(steps_per_s),
            wait_share: Some(wait_share),
            ..row(ALL, window.loss / window.steps.max(1) as f64, window.clips)
        });
        for (source, (sum, clips)) in &window.by_source {
            self.metrics.push(row(source, sum / *clips as f64, *clips));
        }
    }

    fn validate(&mut self, model: &mut TrainModel) -> Result<()> {
        let mut sums: BTreeMap<&str, (f64, u64)> = BTreeMap::new();
        for (batch, rows) in &self.held_out {
            let losses = model.judge(batch.clone())?;
            for (kind, loss) in batch.kinds.iter().zip(losses).take(*rows) {
                for source in [ALL, kind] {
                    let sum = sums.entry(source).or_default();
                    *sum = (sum.0 + f64::from(loss), sum.1 + 1);
                }
            }
        }
        for (source, (sum, clips)) in sums {
            self.metrics.push(Metric {
                step: self.done,
                split: "validation".to_owned(),
                source: source.to_owned(),
                loss: sum / clips as f64,
                clips,
                grad_norm: None,
                learning_rate: None,
                steps_per_s: None,
                wait_share: None,
            });
        }
        if let Some(loss) = self.metrics.last("validation") {
            self.progress.validated(loss);
        }
        Ok(())
    }

    fn checkpoint(&mut self, model: &TrainModel) -> Result<()> {
        let description = Description {
            simdrop: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.spec.name.clone(),
            model: model.size().signature.name.clone(),
            fingerprint: self.fingerprint.clone(),
            step: self.done,
            samples: self.samples,
            mean_loss: self.mean,
        };
        let (state, groups) = model.state();
        let bytes = checkpoint::pack(&description, state, &groups)?;
        self.runtime.block_on(async {
            // The rows of a resume are those up to the checkpoint, so they are there before it.
            self.metrics.write(&self.root, &self.spec.name).await?;
            checkpoint::write(&self.root, self.done, bytes, self.spec.checkpoints.keep).await
        })?;
        self.last_good = Some(self.done);
        Ok(())
    }

    /// Writes the model and the description of the training.
    async fn finish(self, model: &TrainModel, loader: &Loader) -> Result<TrainOutcome> {
        let signature = &model.size().signature;
        let count = |held_out: bool| loader.sources().iter().map(|source: &Source| source.count(held_out)).sum();
        let (steps_per_s, wait_share) = self.whole.rates();
        let providers = model.providers().into_iter();
        let outcome = TrainOutcome {
            steps: self.done,
            steps_now: self.done - self.first,
            trained_count: signature.trained_count,
            clips: [count(false), count(true)],
            unusable: loader.unusable(),
            loss: self.mean.unwrap_or(f64::NAN),
            validation_loss: self.metrics.last("validation"),
            steps_per_s,
            wait_share,
            providers: providers.map(|(graph, provider)| (graph.to_owned(), provider.as_str().to_owned())).collect(),
            output: self.root.uri().to_owned(),
        };
        let lines = [
            ("simdrop.training", self.spec.name.clone()),
            ("simdrop.model", signature.name.clone()),
            ("simdrop.fingerprint", self.fingerprint.clone()),
            ("simdrop.step", self.done.to_string()),
            ("simdrop.normalize", format!("{:?}", self.spec.clips.normalize)),
        ];
        let whole = export::with_weights(&model.size().graph("forward")?, model.averaged()?, &lines);
        self.root.join(MODEL).write(whole).await?;
        let description = json!({
            "simdrop": env!("CARGO_PKG_VERSION"),
            "fingerprint": self.fingerprint,
            "finished_at": now(),
            "complete": self.done == self.spec.steps,
            "training": self.spec,
            "parameters": signature.parameter_count,
            "flops_per_step": signature.flops.train_step,
            "outcome": outcome,
        });
        let text = serde_json::to_vec_pretty(&description).map_err(Error::internal)?;
        self.root.join(DESCRIPTION).write(text).await?;
        if self.done < self.spec.steps {
            return Err(Error::Cancelled);
        }
        Ok(outcome)
    }
}
