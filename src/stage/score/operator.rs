//! Runs the denoisers and makes scores of their losses.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::future::try_join_all;

use super::config::{Normalize, OfWindows, Over, ScoreConfig};
use super::loss::{frame_losses, noised, normalized, peak};
use super::noise::shared_epsilon;
use super::pairs::{Losses, Pair, Plan};
use super::{columns as names, frame_column};
use crate::error::{Error, Result};
use crate::model::graph::DimsText;
use crate::model::{Element, Graph, ModelRegistry, RowMut, Rows, Session, SessionOptions, no_such_tensor};
use crate::stage::frames;
use crate::stage::model::columns::numbers;
use crate::stage::{ClipBatch, Fate, Operator, StageTask};

/// The running score stage.
#[derive(Debug)]
pub(super) struct ScoreOperator {
    stage: String,
    config: ScoreConfig,
    plan: Plan,
    models: Vec<Denoiser>,
    shape: [Option<usize>; 3],
    noise: Mutex<Option<Arc<Noise>>>,
    output: SchemaRef,
}

/// The shape of the frames where they may be more than the denoisers take.
fn at_least(
    stage: &str,
    config: &ScoreConfig,
    have: [Option<usize>; 3],
    shape: [Option<usize>; 3],
) -> Result<[Option<usize>; 3]> {
    let Some(length) = shape[0] else {
        let message = "its denoisers take clips of any length, so there are no windows; remove windows";
        return Err(Error::config(format!("stage {stage}: {message}")));
    };
    if let Some(few) = have[0].filter(|have| *have < length) {
        let message = format!("column {} has {few} frames, a window of the denoisers takes {length}", config.column);
        return Err(Error::config(format!("stage {stage}: {message}; decode more")));
    }
    Ok([Some(length), have[1], have[2]])
}

/// A loaded denoiser.
#[derive(Debug)]
struct Denoiser {
    session: Arc<Session>,
    pairs: Arc<[Pair]>,
    inputs: Arc<[Slot]>,
    /// Length of the condition, where the graph takes one of a fixed length.
    condition: Option<usize>,
}

/// What an input of the graph receives.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Slot {
    Noised,
    Level,
    Condition,
}

pub(super) struct Models {
    plan: Plan,
    denoisers: Vec<Denoiser>,
    /// Frames, height and width that all of them take.
    pub(super) shape: [Option<usize>; 3],
}

/// Loads the denoisers and checks them against their contract; blocking.
pub(super) fn open_models(stage: &str, config: &ScoreConfig, registry: &ModelRegistry) -> Result<Models> {
    let plan = Plan::of(stage, config)?;
    let options = SessionOptions { batch: config.batch, outputs: vec!["v".to_owned()] };
    let mut shape = [None; 3];
    let mut denoisers = Vec::new();
    for model in &plan.models {
        let session = registry.session(&model.path, &options)?;
        let (denoiser, own) = check(&session, &model.pairs)?;
        for (have, own) in shape.iter_mut().zip(own) {
            if let (Some(have), Some(own)) = (*have, own)
                && have != own
            {
                return Err(Error::config(format!(
                    "stage {stage}: model {} takes frames of another size than the models before it ({own} and {have}); \
                     score them in stages of their own, each with its own frames column",
                    model.path
                )));
            }
            *have = have.or(own);
        }
        denoisers.push(denoiser);
    }
    if config.condition.is_some() && !denoisers.iter().any(|model| model.inputs.contains(&Slot::Condition)) {
        return Err(Error::config(format!(
            "stage {stage}: condition is given, but none of the denoisers has an input condition; remove it"
        )));
    }
    if config.condition.is_none() && denoisers.iter().any(Denoiser::needs_condition) {
        return Err(Error::config(format!(
            "stage {stage}: a denoiser takes a condition whose length its graph leaves open; name its column under \
             condition"
        )));
    }
    Ok(Models { plan, denoisers, shape })
}

/// The contract of `schemas/denoiser.md`.
fn check(session: &Arc<Session>, pairs: &[Pair]) -> Result<(Denoiser, [Option<usize>; 3])> {
    let (model, graph) = (session.model(), session.graph());
    let wrong = |what: String| Error::config(format!("model {model} is no denoiser: {what}; see schemas/denoiser.md"));
    for needed in ["x_t", "t"] {
        graph.input(needed).ok_or_else(|| no_such_tensor(model, "input", needed, &graph.inputs))?;
    }
    let mut inputs = Vec::new();
    let (mut shape, mut condition) = ([None; 3], None);
    for input in &graph.inputs {
        let (slot, rank) = match input.name.as_str() {
            "x_t" => (Slot::Noised, 5),
            "t" => (Slot::Level, 1),
            "condition" => (Slot::Condition, 2),
            _ => return Err(wrong(format!("nothing feeds its input {input}"))),
        };
        if input.element != Element::F32 || input.dims.len() != rank {
            return Err(wrong(format!("its input {input} should be f32 with {rank} axes")));
        }
        match slot {
            Slot::Noised if input.dims[4].is_some_and(|colours| colours != 3) => {
                return Err(wrong(format!("the last axis of its input {input} should be the 3 colours")));
            }
            Slot::Noised => shape = [input.dims[1], input.dims[2], input.dims[3]],
            Slot::Condition => condition = input.dims[1],
            Slot::Level => {}
        }
        inputs.push(slot);
    }
    check_output(graph).map_err(wrong)?;
    let (session, pairs) = (Arc::clone(session), pairs.into());
    Ok((Denoiser { session, pairs, inputs: inputs.into(), condition }, shape))
}

/// The output has the shape of x_t, as far as the graph says.
fn check_output(graph: &Graph) -> Result<(), String> {
    let (Some(output), Some((_, input))) = (graph.output("v"), graph.input("x_t")) else { return Ok(()) };
    let same = |(a, b): (&Option<usize>, &Option<usize>)| a.is_none() || b.is_none() || a == b;
    if output.dims.len() == input.dims.len() && output.dims.iter().zip(&input.dims).skip(1).all(same) {
        return Ok(());
    }
    Err(format!("its output {output} should have the shape of its input {input}"))
}

/// The ε of all pairs for clips of one size, made by the first run that needs them.
#[derive(Debug)]
struct Noise {
    seed: u64,
    length: usize,
    by_pair: Vec<OnceLock<Arc<[f32]>>>,
}

impl Noise {
    fn of(&self, k: u64) -> &[f32] {
        self.by_pair[k as usize].get_or_init(|| shared_epsilon(self.seed, k, self.length))
    }
}

/// A clip, or a window of one, that is being scored, shared by its models.
#[derive(Debug)]
struct Clip {
    /// Holds the frames, which stay where the decoder put them.
    frames: ArrayRef,
    row: usize,
    /// The first frame.
    from: usize,
    /// Frames, height, width, colours.
    shape: [usize; 4],
    normalize: Normalize,
    /// Made by the first run that needs it, so that clips that wait take no more memory than their bytes.
    x: OnceLock<Vec<f32>>,
    condition: Option<Vec<f32>>,
    noise: Arc<Noise>,
}

impl Clip {
    fn x(&self) -> &[f32] {
        self.x.get_or_init(|| match frames::view(&self.frames, self.row) {
            Ok(Some(view)) => {
                let [count, height, width, colours] = self.shape;
                let of_frame = height * width * colours;
                normalized(&view.data[self.from * of_frame..][..count * of_frame], self.normalize)
            }
            // Whoever made this clip has looked.
            _ => Vec::new(),
        })
    }
}

/// The pairs of one clip and one model.
#[derive(Debug)]
struct Denoising {
    clip: Arc<Clip>,
    pairs: Arc<[Pair]>,
    inputs: Arc<[Slot]>,
    condition: [usize; 1],
    /// Of each pair the loss of each frame.
    losses: Vec<OnceLock<Vec<f64>>>,
}

impl Rows for Denoising {
    fn count(&self) -> usize {
        self.pairs.len()
    }

    fn inputs(&self) -> usize {
        self.inputs.len()
    }

    fn dims(&self, input: usize) -> &[usize] {
        match self.inputs[input] {
            Slot::Noised => &self.clip.shape,
            Slot::Level => &[],
            Slot::Condition => &self.condition,
        }
    }

    fn fill(&self, row: usize, input: usize, into: RowMut<'_>) {
        let RowMut::F32(into) = into else { return };
        let Pair { k, t } = self.pairs[row];
        match (self.inputs[input], &self.clip.condition) {
            (Slot::Noised, _) => noised(self.clip.x(), self.clip.noise.of(k), t, into),
            (Slot::Level, _) => into.fill(t),
            (Slot::Condition, Some(condition)) => into.copy_from_slice(condition),
            (Slot::Condition, None) => into.fill(0.0),
        }
    }

    fn take(&self, row: usize, outputs: &[&[f32]]) {
        let clip = &self.clip;
        let made = frame_losses(clip.x(), clip.noise.of(self.pairs[row].k), outputs[0], clip.shape[0]);
        // A row is run once.
        let _ = self.losses[row].set(made);
    }
}

impl Denoising {
    /// The loss of each frame, the mean over some of the pairs.
    fn frame_losses(&self, losses: &Losses) -> Vec<f64> {
        let of = |pair: usize, frame: usize| self.losses[pair].get().and_then(|frames| frames.get(frame)).copied();
        let mean_of = |frame| mean(losses.pairs.iter().map(|&pair| of(pair, frame).unwrap_or(f64::NAN)));
        (0..self.clip.shape[0]).map(mean_of).collect()
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// A score of a clip or of a window.
#[derive(Debug, Clone, Copy)]
struct Score {
    value: f64,
    base: f64,
    reference: f64,
    /// The window's first frame.
    from: usize,
}

/// The score of a clip of the scores of its windows; the first window goes before its equals.
fn of_windows(how: OfWindows, windows: impl ExactSizeIterator<Item = Score> + Clone) -> Option<Score> {
    let largest = windows.clone().reduce(|a, b| if b.value > a.value { b } else { a })?;
    Some(match how {
        OfWindows::Largest => largest,
        OfWindows::Mean => Score {
            value: mean(windows.clone().map(|score| score.value)),
            base: mean(windows.clone().map(|score| score.base)),
            reference: mean(windows.map(|score| score.reference)),
            from: largest.from,
        },
    })
}

/// The scores of a clip, or why there are none.
type Scored = std::result::Result<Vec<Score>, String>;

impl ScoreOperator {
    /// Loads the denoisers for frames of the shape that `have` says, as far as it is known; blocking.
    pub(super) fn open(
        stage: &str,
        config: &ScoreConfig,
        models: &ModelRegistry,
        have: [Option<usize>; 3],
        output: SchemaRef,
    ) -> Result<Self> {
        let Models { plan, denoisers, shape } = open_models(stage, config, models)?;
        let have = if config.windows.is_some() { at_least(stage, config, have, shape)? } else { have };
        if !frames::fits(have, shape) {
            return Err(Error::config(format!(
                "stage {stage}: column {} has frames × height × width {}, the denoisers take {}; decode to that size",
                config.column,
                frames::shape_text(have),
                frames::shape_text(shape)
            )));
        }
        let (stage, config, noise) = (stage.to_owned(), config.clone(), Mutex::default());
        Ok(Self { stage, config, plan, models: denoisers, shape, noise, output })
    }

    async fn score(&self, clips: &ClipBatch, row: usize, task: &StageTask) -> Result<Scored> {
        let windows = match self.windows(clips, row)? {
            Ok(windows) => windows,
            Err(reason) => return Ok(Err(reason)),
        };
        let scored = try_join_all(windows.into_iter().map(|clip| self.score_window(clip, task))).await?;
        let scored = match scored.into_iter().collect::<std::result::Result<Vec<_>, String>>() {
            Ok(scored) => scored,
            Err(reason) => return Ok(Err(reason)),
        };
        let scores = self.plan.scores.iter().enumerate();
        let of_clip = scores.map(|(at, score)| of_windows(score.of_windows, scored.iter().map(|scores| scores[at])));
        of_clip.collect::<Option<_>>().map(Ok).ok_or_else(|| Error::internal("a clip without a window"))
    }

    async fn score_window(&self, clip: Clip, task: &StageTask) -> Result<Scored> {
        let clip = Arc::new(clip);
        let runs = self.models.iter().map(|model| {
            let clip = Arc::clone(&clip);
            async move {
                let rows = Arc::new(model.denoising(clip));
                task.credit(model.session.infer(Arc::<Denoising>::clone(&rows)).await?);
                Ok::<_, Error>(rows)
            }
        });
        let runs = try_join_all(runs).await?;
        let scores = self.plan.scores.iter().map(|score| {
            let frames = [&score.base, &score.reference].map(|losses| runs[losses.model].frame_losses(losses));
            let [base, reference] = [&frames[0], &frames[1]].map(|frames| mean(frames.iter().copied()));
            if !base.is_finite() || !reference.is_finite() {
                let at = if base.is_finite() { &score.reference } else { &score.base };
                return Err(format!("model {} gives numbers that are not finite", self.plan.models[at.model].path));
            }
            let value = match score.over {
                Over::Mean => base - reference,
                Over::Peak => peak(
                    &frames[0].iter().zip(&frames[1]).map(|(&base, &reference)| [base, reference]).collect::<Vec<_>>(),
                ),
            };
            Ok(Score { value, base, reference, from: clip.from })
        });
        Ok(scores.collect())
    }

    /// The clip of a row, or its windows; the inner error is why it cannot be scored.
    fn windows(&self, clips: &ClipBatch, row: usize) -> Result<std::result::Result<Vec<Clip>, String>> {
        let frames = clips.column(&self.config.column)?;
        let Some(view) = frames::view(frames, row)? else {
            return Ok(Err(format!("the clip has no frames in column {}", self.config.column)));
        };
        let (count, starts): (usize, Vec<usize>) = match (self.config.windows, self.shape[0]) {
            (Some(_), Some(length)) if view.frames < length => {
                return Ok(Err(format!("it has {} frames, a window of the denoisers takes {length}", view.frames)));
            }
            (Some(windows), Some(length)) => (length, windows.starts(view.frames, length).collect()),
            _ => (view.frames, vec![0]),
        };
        let have = [count, view.height, view.width];
        if self.shape.iter().zip(have).any(|(wanted, have)| wanted.is_some_and(|wanted| wanted != have)) {
            return Ok(Err(format!(
                "its frames are {have:?} (frames, height, width), the denoisers take {}; set frames, height and width \
                 of the decode stage",
                DimsText(&self.shape)
            )));
        }
        if view.data.is_empty() {
            return Ok(Err("its frames are empty".to_owned()));
        }
        let condition = match &self.config.condition {
            Some(column) => numbers(clips.column(column)?, row)?,
            None => None,
        };
        let condition: Option<Vec<f32>> = condition.map(|values| values.iter().map(|&value| value as f32).collect());
        if let Some(condition) = &condition {
            let wanted =
                self.models.iter().find_map(|model| model.condition.filter(|&wanted| wanted != condition.len()));
            if let Some(wanted) = wanted {
                let have = condition.len();
                return Ok(Err(format!("its condition has {have} numbers, the denoisers take {wanted}")));
            }
        }
        if condition.is_none() && self.models.iter().any(Denoiser::needs_condition) {
            return Ok(Err(
                "it has no condition, and a denoiser takes one whose length its graph leaves open".to_owned()
            ));
        }
        let noise = self.noise(count * view.height * view.width * 3);
        let clip = |from: usize| Clip {
            frames: Arc::clone(frames),
            row,
            from,
            shape: [count, view.height, view.width, 3],
            normalize: self.config.normalize,
            x: OnceLock::new(),
            condition: condition.clone(),
            noise: Arc::clone(&noise),
        };
        Ok(Ok(starts.into_iter().map(clip).collect()))
    }

    /// The ε for clips of `length` values; those of the size before are forgotten.
    fn noise(&self, length: usize) -> Arc<Noise> {
        let mut noise = self.noise.lock().unwrap_or_else(PoisonError::into_inner);
        match noise.as_ref().filter(|noise| noise.length == length) {
            Some(noise) => Arc::clone(noise),
            None => {
                let all = self.models.iter().flat_map(|model| model.pairs.iter());
                let count = all.map(|pair| pair.k + 1).max().unwrap_or(0);
                let by_pair = (0..count).map(|_| OnceLock::new()).collect();
                let made = Arc::new(Noise { seed: self.config.seed, length, by_pair });
                *noise = Some(Arc::clone(&made));
                made
            }
        }
    }
}

impl Denoiser {
    /// Whether zeros cannot stand for no condition, since it is not known how many.
    fn needs_condition(&self) -> bool {
        self.inputs.contains(&Slot::Condition) && self.condition.is_none()
    }

    fn denoising(&self, clip: Arc<Clip>) -> Denoising {
        let condition = clip.condition.as_ref().map(Vec::len).or(self.condition).unwrap_or(1);
        let losses = self.pairs.iter().map(|_| OnceLock::new()).collect();
        let (pairs, inputs) = (Arc::clone(&self.pairs), Arc::clone(&self.inputs));
        Denoising { clip, pairs, inputs, condition: [condition], losses }
    }
}

#[async_trait]
impl Operator for ScoreOperator {
    async fn process(&self, clips: ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let scored = try_join_all((0..clips.rows()).map(|row| self.score(&clips, row, task))).await?;
        let of_all = |score: usize| scored.iter().map(move |clip| clip.as_ref().ok().map(|scores| scores[score]));
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for (at, score) in self.plan.scores.iter().enumerate() {
            let parts = [|score: Score| score.value, |score: Score| score.base, |score: Score| score.reference];
            for (name, part) in names(&score.name).into_iter().zip(parts) {
                columns.push((name, Arc::new(of_all(at).map(|score| score.map(part)).collect::<Float64Array>())));
            }
            if self.config.windows.is_some() {
                let first = of_all(at).map(|score| score.map(|score| score.from as i64));
                columns.push((frame_column(&score.name), Arc::new(first.collect::<Int64Array>())));
            }
        }
        let columns = columns.iter().map(|(name, values)| (name.as_str(), Arc::clone(values))).collect();
        let fates: Vec<_> = scored.iter().map(|clip| clip.as_ref().err().map(Fate::failed)).collect();
        clips.with_columns(&self.output, columns)?.settle(&self.stage, &fates)
    }
}
