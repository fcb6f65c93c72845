//! What the bare parts can do with the input of a benchmark, on all cores and with no engine around them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::LimitReport;
use crate::engine::prepare;
use crate::error::{Error, Result};
use crate::model::raw;
use crate::spec::{PipelineSpec, StageSpec};
use crate::stage::decode::config::DecodeConfig;
use crate::stage::model::config::{FrameChoice, Layout, ModelInput};
use crate::stage::score::config::ScoreConfig;
use crate::stage::{decode, score, shards};
use crate::video;

/// How long a model is run.
const MODEL_TIME: Duration = Duration::from_millis(1500);

/// One measured part.
#[derive(Debug, Clone)]
pub struct Limit {
    part: String,
    /// Seconds of all cores for one clip.
    seconds_per_clip: f64,
    /// Units of the part for one clip, such as frames, and their name.
    units: f64,
    unit: &'static str,
}

/// All parts of a pipeline.
#[derive(Debug, Clone)]
pub struct Limits(Vec<Limit>);

impl Limits {
    /// The mean of two measurements.
    pub fn mean(a: &Self, b: &Self) -> Self {
        let pairs = a.0.iter().zip(&b.0);
        Self(
            pairs
                .map(|(a, b)| Limit { seconds_per_clip: (a.seconds_per_clip + b.seconds_per_clip) / 2.0, ..a.clone() })
                .collect(),
        )
    }

    /// Clips a second of all parts one after another, each on all cores.
    pub fn clips_per_s(&self) -> f64 {
        1.0 / self.0.iter().map(|limit| limit.seconds_per_clip).sum::<f64>()
    }

    /// For people and machines.
    pub fn reports(&self) -> Vec<LimitReport> {
        let report = |limit: &Limit| LimitReport {
            part: limit.part.clone(),
            clips_per_s: 1.0 / limit.seconds_per_clip,
            rate: format!("{:.1} {}/s", limit.units / limit.seconds_per_clip, limit.unit),
        };
        self.0.iter().map(report).collect()
    }
}

/// Measures the parts that a pipeline uses; blocking.
pub fn measure(spec: &PipelineSpec, files: &[PathBuf], folder: &Path) -> Result<Limits> {
    let threads = prepare::threads(spec);
    let mut limits = Vec::new();
    let mut frames_of = HashMap::new();
    for stage in &spec.stages {
        match stage {
            StageSpec::Decode(config) => {
                let (limit, frames) = decoding(stage.name(), config, files, threads)?;
                frames_of.extend(columns(config).map(|column| (column, frames)));
                limits.push(limit);
            }
            StageSpec::Score(config) => {
                let frames = frames_of.get(config.column.as_str()).copied();
                limits.extend(scoring(stage.name(), config, frames, spec, threads)?);
            }
            StageSpec::Model(config) => {
                let items = config.inputs.iter().map(|input| items_per_clip(input, &frames_of)).fold(1.0, f64::max);
                let model = &config.model;
                let rate = raw::rows_per_s(&spec.models, model, config.batch, threads, MODEL_TIME)?;
                limits.extend(rate.map(|rate| Limit {
                    part: format!("{}: ONNX Runtime, {model}", stage.name()),
                    seconds_per_clip: items / rate,
                    units: items,
                    unit: "items",
                }));
            }
            StageSpec::Split(_)
            | StageSpec::Caption(_)
            | StageSpec::Embed(_)
            | StageSpec::Measure(_)
            | StageSpec::Filter(_)
            | StageSpec::Simdrop(_) => {}
        }
    }
    limits.push(writing(files, folder)?);
    Ok(Limits(limits))
}

/// What a model sees of a clip: every frame by itself, or the clip as a whole.
fn items_per_clip(input: &ModelInput, frames_of: &HashMap<&str, f64>) -> f64 {
    let whole = matches!(input.layout, Layout::NTCHW | Layout::NTHWC) || input.frames != FrameChoice::All;
    if whole { 1.0 } else { frames_of.get(input.column.as_str()).copied().unwrap_or(1.0) }
}

fn columns(config: &DecodeConfig) -> impl Iterator<Item = &str> {
    std::iter::once(config.column.as_str()).chain(config.also.iter().map(|also| also.column.as_str()))
}

/// FFmpeg on every file, as many files at once as there are cores.
fn decoding(name: &str, config: &DecodeConfig, files: &[PathBuf], threads: usize) -> Result<(Limit, f64)> {
    let (next, frames) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A clip that cannot be decoded costs the pipeline the same.
                    if let Ok(count) = decode_file(config, file) {
                        frames.fetch_add(count, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let per_clip = frames.into_inner() as f64 / files.len() as f64;
    let limit = Limit {
        part: format!("{name}: FFmpeg"),
        seconds_per_clip: seconds / files.len() as f64,
        units: per_clip,
        unit: "frames",
    };
    Ok((limit, per_clip))
}

/// Decodes one file as the stage would; how many frames it came to.
pub fn decode_file(config: &DecodeConfig, file: &Path) -> Result<usize, video::VideoError> {
    let source = Box::new(video::FileSource::open(file)?);
    let mut reader = video::Reader::open(source, &decode::caps(config))?;
    let plan = reader.plan((None, None), &decode::sampling(config))?;
    let pictures = reader.decode(&plan, &decode::targets(config))?;
    Ok(pictures.first().map_or(0, |pictures| pictures.shape[0]))
}

/// ONNX Runtime on ready batches of every denoiser, for clips of so many frames.
fn scoring(
    name: &str,
    config: &ScoreConfig,
    frames: Option<f64>,
    spec: &PipelineSpec,
    threads: usize,
) -> Result<Vec<Limit>> {
    let mut limits = Vec::new();
    for (model, passes) in score::passes_per_clip(config)? {
        let passes = passes as f64 * windows(config, &model, frames)?;
        let rate = raw::rows_per_s(&spec.models, &model, config.batch, threads, MODEL_TIME)?;
        limits.extend(rate.map(|rate| Limit {
            part: format!("{name}: ONNX Runtime, {model}"),
            seconds_per_clip: passes / rate,
            units: passes,
            unit: "passes",
        }));
    }
    Ok(limits)
}

/// Windows of a clip of so many frames.
fn windows(config: &ScoreConfig, model: &str, frames: Option<f64>) -> Result<f64> {
    let (Some(windows), Some(frames)) = (config.windows, frames) else { return Ok(1.0) };
    let length = raw::input_axis(model, "x_t", 1)?.map_or(frames, |length| length as f64);
    Ok(1.0 + ((frames - length) / f64::from(windows.stride)).ceil().max(0.0))
}

/// The files' own bytes into one tar file.
fn writing(files: &[PathBuf], folder: &Path) -> Result<Limit> {
    let path = folder.join("raw.tar");
    let start = Instant::now();
    let mut out = std::fs::File::create(&path).map_err(Error::io("create", &path))?;
    let mut bytes = 0;
    for (number, file) in files.iter().enumerate() {
        let Ok(media) = std::fs::read(file) else { continue };
        let sample = shards::sample::encode_sample(&format!("{number:032}"), &[("mp4", &media), ("txt", b"text")])?;
        bytes += sample.len();
        std::io::Write::write_all(&mut out, &sample).map_err(Error::io("write", &path))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    let clips = files.len() as f64;
    Ok(Limit {
        part: "shards: tar".to_owned(),
        seconds_per_clip: seconds / clips,
        units: bytes as f64 / clips / 1e6,
        unit: "MB",
    })
}
