//! Settings of the output: shards and metadata.

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the dataset goes, and what a shard holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// Folder of the dataset.
    pub path: String,
    /// What a sample holds besides its caption (`.txt`) and metadata (`.json`).
    #[serde(default = "default_payload")]
    #[schemars(length(min = 1))]
    pub payload: Vec<Payload>,
    /// How a clip that is part of a file is cut out of it.
    #[serde(default)]
    pub cut: Cut,
    /// Columns that `payload: [frames]` stores, each as `<column>.npy`.
    #[serde(default = "default_frames")]
    pub frames: Vec<String>,
    /// Most samples in a shard.
    #[serde(default = "default_samples")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_samples: usize,
    /// Most bytes in a shard, such as `1GB`; one sample may pass it.
    #[serde(default = "default_bytes", with = "crate::spec::bytes")]
    #[schemars(schema_with = "crate::spec::bytes::schema")]
    pub max_bytes: ByteSize,
    /// Store the samples of dropped clips too, in shards of their own below `shards/dropped/` that no trainer reads, so
    /// that `simdrop repack` can bring them back when a threshold turns out too strict. Clips dropped before decoding
    /// have no frames and are stored only where `payload` asks for none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_dropped: bool,
}

fn default_payload() -> Vec<Payload> {
    vec![Payload::Source]
}

fn default_frames() -> Vec<String> {
    vec![crate::schema::FRAMES.to_owned()]
}

fn default_samples() -> usize {
    10_000
}

fn default_bytes() -> ByteSize {
    ByteSize::gb(3)
}

/// What a sample holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// The encoded video: the file's own bytes where the clip is the whole file, else the span cut out of it as mp4.
    Source,
    /// Decoded frames as numpy arrays (`.npy`, unsigned bytes, frames × height × width × 3).
    Frames,
}

/// How a span is cut out of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Encoded again (H.264, visually lossless): exactly the frames of the span.
    #[default]
    Encode,
    /// Copied, from the keyframe at or before the start: fast and lossless, but may begin earlier.
    Copy,
}
