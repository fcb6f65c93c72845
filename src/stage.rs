//! Stages: the steps of a pipeline.
//!
//! A [`Stage`] is a cheap description that serialises and can be read on a machine with no GPU and no model files; an
//! [`Operator`] is what runs. Enter: rows in flight (their `fate` is null). Leave: the same rows, or several for one,
//! each in flight or settled. No operator loses a row, sees a settled one, or changes its order.

pub mod caption;
pub mod clips;
pub mod context;
pub mod decode;
pub mod embed;
pub mod expression;
pub mod filter;
pub mod frames;
pub mod measure;
pub mod model;
pub mod score;
pub mod shards;
pub mod simdrop;
pub mod split;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use clips::{ClipBatch, Fate};
pub use context::{StageContext, StageTask};

use crate::error::Result;

/// One stage as it is written in YAML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StageSpec {
    /// Cuts clips into windows.
    Split(split::config::SplitConfig),
    /// Decodes frames.
    Decode(decode::config::DecodeConfig),
    /// Gives clips captions.
    Caption(caption::config::CaptionConfig),
    /// Turns texts into numbers.
    Embed(embed::config::EmbedConfig),
    /// Runs an ONNX model.
    Model(model::config::ModelConfig),
    /// Measures clips by their frames, without a model.
    Measure(measure::config::MeasureConfig),
    /// Scores clips with pairs of denoisers.
    Score(score::config::ScoreConfig),
    /// Keeps the clips for which an expression is true.
    Filter(filter::config::FilterConfig),
    /// Drops the clips whose score is above a threshold.
    Simdrop(simdrop::config::SimdropConfig),
}

impl StageSpec {
    /// The word in YAML.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Split(_) => "split",
            Self::Decode(_) => "decode",
            Self::Caption(_) => "caption",
            Self::Embed(_) => "embed",
            Self::Model(_) => "model",
            Self::Measure(_) => "measure",
            Self::Score(_) => "score",
            Self::Filter(_) => "filter",
            Self::Simdrop(_) => "simdrop",
        }
    }

    /// The name given in YAML, else the kind.
    pub fn name(&self) -> &str {
        let name = match self {
            Self::Split(config) => config.name.as_deref(),
            Self::Decode(config) => config.name.as_deref(),
            Self::Caption(config) => config.name.as_deref(),
            Self::Embed(config) => config.name.as_deref(),
            Self::Model(config) => config.name.as_deref(),
            Self::Measure(config) => config.name.as_deref(),
            Self::Score(config) => config.name.as_deref(),
            Self::Filter(config) => Some(config.name.as_str()),
            Self::Simdrop(config) => config.name.as_deref(),
        };
        name.unwrap_or(self.kind())
    }

    /// Files that the stage reads and whose content changes what comes out: models, labels, thresholds.
    pub fn files(&self) -> Vec<&str> {
        match self {
            Self::Model(config) => {
                let labels = config.outputs.iter().filter_map(|output| output.labels.as_deref());
                std::iter::once(config.model.as_str()).chain(labels).collect()
            }
            Self::Embed(config) => vec![config.model.as_str()],
            Self::Score(config) => config.models.values().map(String::as_str).collect(),
            Self::Simdrop(config) => config.thresholds.as_deref().into_iter().collect(),
            Self::Split(_) | Self::Decode(_) | Self::Caption(_) | Self::Measure(_) | Self::Filter(_) => Vec::new(),
        }
    }

    /// The stage that this describes.
    pub fn stage(&self) -> Arc<dyn Stage> {
        match self.clone() {
            Self::Split(config) => Arc::new(split::SplitStage::new(config)),
            Self::Decode(config) => Arc::new(decode::DecodeStage::new(config)),
            Self::Caption(config) => Arc::new(caption::CaptionStage::new(config)),
            Self::Embed(config) => Arc::new(embed::EmbedStage::new(config)),
            Self::Model(config) => Arc::new(model::ModelStage::new(config)),
            Self::Measure(config) => Arc::new(measure::MeasureStage::new(config)),
            Self::Score(config) => Arc::new(score::ScoreStage::new(config)),
            Self::Filter(config) => Arc::new(filter::FilterStage::new(config)),
            Self::Simdrop(config) => Arc::new(simdrop::SimdropStage::new(config)),
        }
    }
}

/// A step of a pipeline, described.
pub trait Stage: Debug + Send + Sync {
    /// Name of this stage in the pipeline.
    fn name(&self) -> &str;

    /// Columns that leave, given those that enter. No I/O; an error is a configuration error (a column that is not
    /// there, of the wrong type).
    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef>;

    /// How [`crate::plan::StageExec`] feeds the operator.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Files, models and expressions are opened here, and checked against `input`; blocking.
    ///
    /// Called once for each partition, so whatever is costly is shared through `context`.
    fn open(&self, context: &Arc<StageContext>, input: &SchemaRef) -> Result<Arc<dyn Operator>>;
}

/// A running stage.
#[async_trait]
pub trait Operator: Debug + Send + Sync {
    /// Handles rows in flight; several calls run at once, up to [`Limits::in_flight`], and their results keep the
    /// order of the calls. Anything that blocks past 500 µs goes through [`StageTask::blocking`].
    ///
    /// An error ends the run: a fault of one clip settles its row instead.
    async fn process(&self, clips: ClipBatch, task: &StageTask) -> Result<ClipBatch>;
}

/// How an operator is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most rows in one call.
    pub rows: usize,
    /// Most bytes of rows in one call; a single row may pass it.
    pub bytes: usize,
    /// Most calls at once in one partition.
    pub in_flight: usize,
}

impl Default for Limits {
    /// Cheap work on small columns: whole batches, one at a time.
    fn default() -> Self {
        Self { rows: 8192, bytes: 64 << 20, in_flight: 1 }
    }
}
