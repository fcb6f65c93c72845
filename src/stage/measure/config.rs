//! Settings of the measure stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Measures clips by their frames, one column of numbers a measure: what a denoiser's score does not see, and simple
/// numbers to hold that score against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MeasureConfig {
    /// Name of the stage. Default: `measure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Column with the frames. Frames in the clip's own rate see repeated frames; a few frames spread over a clip do not.
    pub column: String,
    /// What is measured. Default: everything.
    #[schemars(length(min = 1))]
    pub measures: Vec<Measure>,
    /// What the columns' names begin with: `measure_` makes `measure_flicker` of `flicker`.
    pub prefix: String,
}

impl Default for MeasureConfig {
    fn default() -> Self {
        Self {
            name: None,
            column: crate::schema::FRAMES.to_owned(),
            measures: Measure::ALL.to_vec(),
            prefix: "measure_".to_owned(),
        }
    }
}

/// A measure over the luma Y (BT.601, 0 to 1) of a clip's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Standard deviation of Y over all pixels of all frames.
    Contrast,
    /// Mean of |Y − the mean of its four neighbours|, over the contrast: edges and texture.
    Sharpness,
    /// Standard deviation of the noise in a frame by Immerkær's filter (1996), the median over the frames.
    Noise,
    /// Mean over all pixels and pairs of neighbouring frames of |Y(t+1) − Y(t)|.
    Motion,
    /// Mean over the inner frames of |m(t+1) − 2·m(t) + m(t−1)|, m the mean of Y over a frame: light that comes and goes.
    Flicker,
    /// The largest change between neighbouring frames (mean |ΔY|) over the larger one of those before and after it, of
    /// four frames or more: a cut, a thing that teleports or pops up. What moves, moves on.
    Jump,
    /// The largest, over the inner frames, of how much farther a frame is from both its neighbours than these are from
    /// each other (means of |ΔY|): something that shows for a frame, or is gone for one.
    Blink,
    /// Share of neighbouring frames that differ by less than a tenth of the median difference, and by less than half a
    /// step of 8 bits where nothing moves: repeated frames.
    Duplicates,
    /// Share of pixels that differ from the right and the lower neighbour by less than one step of 8 bits: flat shading,
    /// empty backgrounds.
    Flatness,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Contrast,
        Self::Sharpness,
        Self::Noise,
        Self::Motion,
        Self::Flicker,
        Self::Jump,
        Self::Blink,
        Self::Duplicates,
        Self::Flatness,
    ];

    /// The word in YAML, and in the column's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contrast => "contrast",
            Self::Sharpness => "sharpness",
            Self::Noise => "noise",
            Self::Motion => "motion",
            Self::Flicker => "flicker",
            Self::Jump => "jump",
            Self::Blink => "blink",
            Self::Duplicates => "duplicates",
            Self::Flatness => "flatness",
        }
    }
}
