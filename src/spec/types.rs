//! The types of a pipeline: the YAML, the JSON Schema and what travels to a cluster, in one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stage::StageSpec;
use crate::stage::shards::config::OutputSpec;
use crate::storage::StorageSpec;
use crate::video::Isolation;

/// A pipeline: where clips come from, what happens to them, and where the dataset goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    /// Name of the pipeline and of its dataset; shards are named after it. Letters, digits, `-` and `_`.
    pub name: String,
    /// One line on what the pipeline is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where clips come from; at least one. A file that is named twice is one clip; the second row is dropped.
    #[schemars(length(min = 1))]
    pub sources: Vec<SourceSpec>,
    /// What happens to every clip, in order.
    #[serde(default)]
    pub stages: Vec<StageSpec>,
    /// Where the dataset goes.
    pub output: OutputSpec,
    /// How models are run.
    #[serde(default)]
    pub models: ModelsSpec,
    /// How the pipeline is run; nothing here changes what comes out.
    #[serde(default)]
    pub run: RunSpec,
    /// How object stores are reached.
    #[serde(default)]
    pub storage: StorageSpec,
}

/// One origin of clips: a path, or a list of URIs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// A file, a folder (searched recursively for video files) or a glob (`clips/**/*.mp4`; every match is taken), on
    /// disk or in an object store (`s3://bucket/clips`, `gs://`, `az://`); a file may also be an `https://` address.
    /// Relative paths are taken from the working directory. Exactly one of `path`, `list` and `render` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A Parquet, CSV or JSONL file with a column `uri`, one clip a row. Columns that carry the name of a clip column
    /// (`caption`, `start_s`, `licence`, …) fill it; all others come along under their own name. Relative URIs are
    /// taken from the folder of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// A file of scenes for `simdrop render`; what is not rendered yet is rendered first, its list of clips is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub render: Option<String>,
    /// Whether the clips are filmed or rendered.
    pub kind: SourceKind,
    /// Name of the collection, stored in column `dataset`. Default: the name of the folder or of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Licence of the clips, stored in column `licence` where the list has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// What made synthetic clips (`blender-4.5`, `unreal-5.4`), stored in column `generator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<String>,
}

/// Whether clips are filmed or rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Filmed by a camera.
    Real,
    /// Rendered by a computer.
    Synthetic,
}

impl SourceKind {
    /// The text stored in column `source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Synthetic => "synthetic",
        }
    }
}

/// How models are run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelsSpec {
    /// Execution providers of ONNX Runtime in order of preference; the first that works is used, and which one it was
    /// is logged and stored with the run.
    #[schemars(length(min = 1))]
    pub providers: Vec<Provider>,
    /// Refuse to run on any other provider instead of falling back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require: Option<Provider>,
    /// Number of the GPU that models and decoders use.
    pub device: u32,
}

impl Default for ModelsSpec {
    fn default() -> Self {
        Self { providers: vec![Provider::Cuda, Provider::Cpu], require: None, device: 0 }
    }
}

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// NVIDIA TensorRT: the fastest once its engine is built, which takes minutes for each model and shape.
    Tensorrt,
    /// NVIDIA CUDA.
    Cuda,
    /// The processor; always there.
    Cpu,
}

impl Provider {
    /// The name as it is written in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tensorrt => "tensorrt",
            Self::Cuda => "cuda",
            Self::Cpu => "cpu",
        }
    }
}

/// How the pipeline is run; nothing here changes what comes out, except for `clips_per_unit`, which moves the borders
/// of shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunSpec {
    /// Most memory for clips in flight and decoders, such as `4GiB`; models come on top. Default: a quarter of RAM.
    #[serde(with = "super::bytes::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::bytes::optional::schema")]
    pub memory_limit: Option<bytesize::ByteSize>,
    /// Most CPU-bound tasks at once. Default: the number of cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Source clips in one work unit, the piece that a resume repeats; units are cut where the names of the clips say,
    /// so that new clips leave most units as they are, and hold at most twice this number. The first few units are
    /// smaller, so that the first shards are there soon.
    #[schemars(range(min = 1, max = 100_000))]
    pub clips_per_unit: usize,
    /// The run ends when more clips than this have failed: a count (`10`) or a share of all clips (`0.05`). Default:
    /// no limit; failed clips are counted and stored with their reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<MaxFailures>,
    /// Where FFmpeg reads the clips.
    pub isolation: Isolation,
    /// Seconds without a clip that gets through any stage, after which the run ends and names the stage that holds clips.
    /// More than any limit on a single clip, and than the time that a GPU takes to prepare a model.
    #[schemars(range(min = 1, max = 86_400))]
    pub stall_timeout_s: u64,
}

impl Default for RunSpec {
    fn default() -> Self {
        Self {
            memory_limit: None,
            threads: None,
            clips_per_unit: 32,
            max_failures: None,
            isolation: Isolation::None,
            stall_timeout_s: 1800,
        }
    }
}

/// A number of clips, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MaxFailures {
    /// So many clips.
    Count(u64),
    /// This share of all clips, between 0 and 1.
    Share(f64),
}

/// A named map that keeps a stable order.
pub type Named<T> = BTreeMap<String, T>;
