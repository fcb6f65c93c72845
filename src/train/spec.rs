//! The YAML of `simdrop train`.

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::render::caption::CaptionPart;
use crate::spec::ModelsSpec;
use crate::stage::decode::config::{Fit, ScaleFilter};
use crate::stage::score::config::Normalize;
use crate::storage::StorageSpec;

/// A training: which model, on which data, and how.
///
/// The model is a video diffusion transformer trained with rectified flow: x_t = (1−t)·x + t·ε, and the model predicts
/// v = ε − x from x_t, t and a condition. A step of training is one ONNX graph (`models/README.md`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Name of the training. Letters, digits, `-` and `_`.
    pub name: String,
    /// One line on what the training is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Size of the model: one that comes with simdrop (`tiny`), or a folder with the graphs of your own.
    pub model: String,
    /// Seed of the first weights and of every draw.
    #[serde(default)]
    pub seed: u64,
    /// Weights to begin with: a checkpoint (`.safetensors`) of the same size, whose averaged weights are taken. Default:
    /// drawn by the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Datasets to train on; at least one.
    #[schemars(length(min = 1))]
    pub data: Vec<TrainData>,
    /// How clips become x.
    #[serde(default)]
    pub clips: ClipsSpec,
    /// Noise levels.
    #[serde(default)]
    pub noise: NoiseSpec,
    /// What the model is told of a clip.
    #[serde(default)]
    pub condition: ConditionSpec,
    /// How weights are changed.
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// Steps of training.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Batches whose gradients are added up for one step.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 4096))]
    pub accumulate: u32,
    /// What is held out, and how often it is looked at.
    #[serde(default)]
    pub validation: ValidationSpec,
    /// What a later run goes on from.
    #[serde(default)]
    pub checkpoints: CheckpointsSpec,
    /// Where everything goes.
    pub output: TrainOutput,
    /// How models are run.
    #[serde(default)]
    pub models: ModelsSpec,
    /// How the training is run; nothing here changes what comes out.
    #[serde(default)]
    pub run: TrainRun,
    /// How object stores are reached.
    #[serde(default)]
    pub storage: StorageSpec,
}

fn one() -> u32 {
    1
}

/// A dataset of simdrop to train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainData {
    /// Folder of the dataset, on disk or in an object store. Its shards hold frames in the model's size (`output.payload:
    /// [frames]`), which are taken as they are, or encoded videos, which are decoded.
    pub dataset: String,
    /// A SQL predicate over its clips. Default: all that were kept.
    #[serde(default = "kept", rename = "where")]
    pub keep: String,
    /// Share of the samples that come from here, relative to the other datasets' weights.
    #[serde(default = "unit")]
    #[schemars(range(min = 0.0))]
    pub weight: f64,
    /// Parts to leave out of the captions of rendered clips, as a reference model does with the aspect that is wanted of
    /// the other (arXiv 2503.20822). Only for clips with a column `scene`; other captions stay whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leave_out: Vec<CaptionPart>,
}

fn kept() -> String {
    "fate = 'kept'".to_owned()
}

fn unit() -> f64 {
    1.0
}

/// How clips become x.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClipsSpec {
    /// How x is made from bytes; has to be what the score stage is told later.
    pub normalize: Normalize,
    /// How videos are brought to the model's size.
    pub fit: Fit,
    /// Filter of the scaler.
    pub filter: ScaleFilter,
    /// Share of the samples that are mirrored.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub flip: f64,
    /// Blurred samples, so that sharpness tells nothing.
    pub blur: BlurSpec,
    /// Samples that wait to be drawn, out of which each next one is drawn by chance; with at least as many as there are
    /// clips, every epoch is a fresh order of all.
    #[schemars(range(min = 1))]
    pub shuffle_buffer: usize,
}

impl Default for ClipsSpec {
    fn default() -> Self {
        Self {
            normalize: Normalize::default(),
            fit: Fit::Stretch,
            filter: ScaleFilter::Area,
            flip: 0.5,
            blur: BlurSpec::default(),
            shuffle_buffer: 10_000,
        }
    }
}

/// Blurred samples: a Gaussian over the pixels of each frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlurSpec {
    /// Share of the samples that are blurred.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// Largest standard deviation in pixels; each is drawn evenly from 0 on.
    #[schemars(range(min = 0.0, max = 16.0))]
    pub sigma: f64,
}

impl Default for BlurSpec {
    fn default() -> Self {
        Self { share: 0.0, sigma: 1.0 }
    }
}

/// Noise levels t, 0 (clean) to 1 (noise).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoiseSpec {
    /// Evenly between two levels.
    Uniform {
        /// Least.
        min: f64,
        /// Most.
        max: f64,
    },
    /// The logistic function of a normal number: most in the middle (Esser et al. 2024).
    LogitNormal {
        /// Mean of the normal number.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },
    /// One of these, each as often as the others.
    Levels(Vec<f64>),
}

impl Default for NoiseSpec {
    fn default() -> Self {
        Self::Uniform { min: 0.0, max: 1.0 }
    }
}

/// What the model is told of a clip: its caption as numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConditionSpec {
    /// The encoder: an ONNX file (`input_ids`, `attention_mask`, `token_type_ids` to one vector a token) with its
    /// tokenizer beside it (`<name>.tokenizer.json`). Default: none, the model learns without captions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// Share of the samples that are trained without their caption, so that the model can do without.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout: f64,
}

impl Default for ConditionSpec {
    fn default() -> Self {
        Self { encoder: None, dropout: 0.1 }
    }
}

/// How weights are changed: AdamW, an average of the weights beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSpec {
    /// Largest learning rate.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// Steps in which it grows from 0 to that.
    pub warmup: u64,
    /// How it falls afterwards.
    pub decay: Decay,
    /// Share of the largest rate that it falls to.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub final_share: f64,
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub epsilon: f64,
    /// Decoupled weight decay, on matrices.
    pub weight_decay: f64,
    /// Gradients longer than this are shortened to it.
    pub clip_norm: f64,
    /// How much of the average of the weights stays at each step; at first less: at most (1 + step) / (10 + step).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ema: f64,
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            warmup: 100,
            decay: Decay::default(),
            final_share: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
            ema: 0.999,
        }
    }
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Half a cosine.
    #[default]
    Cosine,
    /// A line.
    Linear,
    /// Not at all.
    Constant,
}

/// What is held out, and how often it is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationSpec {
    /// Share of the scenes and source files that are held out; all clips of one are, or none.
    #[schemars(range(min = 0.0, max = 0.9))]
    pub share: f64,
    /// Steps between two looks.
    #[schemars(range(min = 1))]
    pub every: u64,
    /// Most clips that are looked at.
    #[schemars(range(min = 1))]
    pub clips: usize,
}

impl Default for ValidationSpec {
    fn default() -> Self {
        Self { share: 0.1, every: 200, clips: 128 }
    }
}

/// What a later run goes on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointsSpec {
    /// Steps between two.
    #[schemars(range(min = 1))]
    pub every: u64,
    /// How many are kept, the newest ones.
    #[schemars(range(min = 1))]
    pub keep: usize,
}

impl Default for CheckpointsSpec {
    fn default() -> Self {
        Self { every: 500, keep: 3 }
    }
}

/// Where everything goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainOutput {
    /// Folder, on disk or in an object store: `model.onnx` (the averaged weights, ready for the score stage),
    /// `checkpoints/`, `metrics.jsonl`, `metrics.parquet`, `loss.svg` and `train.json`.
    pub path: String,
}

/// How a training is run; nothing here changes what comes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainRun {
    /// Threads of the model on the processor. Default: the number of cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Clips that are read and decoded at once. Default: the number of cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub readers: Option<usize>,
    /// Batches that are ready before the model asks for them.
    #[schemars(range(min = 1, max = 64))]
    pub ahead: usize,
    /// Most memory for frames that are kept so that no clip is decoded twice.
    #[serde(with = "crate::spec::bytes")]
    #[schemars(schema_with = "crate::spec::bytes::schema")]
    pub cache: ByteSize,
    /// Steps between two lines of the metrics.
    #[schemars(range(min = 1))]
    pub log_every: u64,
}

impl Default for TrainRun {
    fn default() -> Self {
        Self { threads: None, readers: None, ahead: 3, cache: ByteSize::gib(1), log_every: 10 }
    }
}
