//! Settings of the score stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::Named;

/// Scores every clip with pairs of denoisers: by how much the reference model explains it better than the base model.
///
/// For a model m, L_m(x) is the mean over fixed pairs (t, ε) and over all elements of (v − V_m(x_t, t))², with
/// x_t = (1−t)·x + t·ε and v = ε − x; the score is L_base(x) − L_reference(x). This filter is simdrop's addition to
/// arXiv 2503.20822, where SimDrop is guidance at sampling time. `schemas/denoiser.md` has the contract of the graphs,
/// the normalisation of x and the generator of ε.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreConfig {
    /// Name of the stage. Default: `score`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Column with the frames, in the size that the denoisers take.
    #[serde(default = "default_column")]
    pub column: String,
    /// The denoisers by name: ONNX files.
    pub models: Named<String>,
    /// The scores by name, which is also their column. The two losses are stored beside each score, in
    /// `<score>_base_loss` and `<score>_reference_loss`.
    pub scores: Named<PairedScore>,
    /// Seed of the ε.
    #[serde(default)]
    pub seed: u64,
    /// How x is made from the bytes of a clip.
    #[serde(default)]
    pub normalize: Normalize,
    /// Column with the condition (a list of numbers) for denoisers that take one; zeros where it is null. Default:
    /// zeros, no condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Scores clips with more frames than the denoisers take in windows of so many. Decode with the `fps` that the
    /// denoisers were trained on. Default: clips have as many frames as the denoisers take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Windows>,
    /// Most (clip, t, ε) items in one run of a model. On a GPU every run has as many, so that results do not depend on
    /// what else is scored; on the processor fewer are taken where its caches would not hold them.
    #[serde(default = "default_batch")]
    #[schemars(range(min = 2, max = 4096))]
    pub batch: usize,
}

/// The windows of a clip: the first begins with it, the last ends with it. The number of the first frame of the window
/// with the largest score, from 0, is stored beside each score, in `<score>_frame`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// Frames from the beginning of one window to that of the next. Half of a window, and what happens at the edge of one
    /// is in the middle of another.
    #[schemars(range(min = 1, max = 100_000))]
    pub stride: u32,
}

impl Windows {
    /// The first frames of the windows of `length` frames in a clip of `frames`, which has at least as many.
    pub fn starts(self, frames: usize, length: usize) -> impl Iterator<Item = usize> {
        let last = frames.saturating_sub(length);
        (0..last).step_by(self.stride.max(1) as usize).chain([last])
    }
}

fn default_column() -> String {
    crate::schema::FRAMES.to_owned()
}

fn default_batch() -> usize {
    48
}

/// One score: the paired loss difference of two denoisers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PairedScore {
    /// Model whose loss counts positive.
    pub base: String,
    /// Model whose loss counts negative; clips that it explains better score higher.
    pub reference: String,
    /// Noise levels, each between 0 (clean) and 1 (noise).
    #[serde(default = "default_levels")]
    #[schemars(length(min = 1))]
    pub t: Vec<f32>,
    /// Draws of ε at each noise level.
    #[serde(default = "default_draws")]
    #[schemars(range(min = 1, max = 1000))]
    pub draws: usize,
    /// What is made of a clip's frames.
    #[serde(default)]
    pub over: Over,
    /// What is made of a clip's windows, where it has such.
    #[serde(default, skip_serializing_if = "OfWindows::is_default")]
    pub of_windows: OfWindows,
}

/// How the scores of a clip's windows make its score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfWindows {
    /// The largest, with its losses: for what may show at one moment only.
    #[default]
    Largest,
    /// The mean, of the losses as well: for what a clip is as a whole.
    Mean,
}

impl OfWindows {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the losses of a clip's frames make its score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// The mean of all: L_base − L_reference. For what the whole clip has, such as noise.
    #[default]
    Mean,
    /// By how much one frame exceeds the clip's median frame in the reference's gain, 1 − L_reference / L_base. For what a
    /// moment has, such as a thing that vanishes: what the scene itself does to the losses, it does in all frames.
    Peak,
}

fn default_levels() -> Vec<f32> {
    vec![0.05, 0.12, 0.25]
}

fn default_draws() -> usize {
    2
}

/// How x is made from bytes b: first b/127.5 − 1, then as named here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// (x − mean) / max(standard deviation, 0.06) · 0.5, both over all values of the clip (the deviation divides by
    /// their number): without it a score mostly measures contrast and sharpness.
    #[default]
    PerClip,
    /// Nothing more.
    None,
}
