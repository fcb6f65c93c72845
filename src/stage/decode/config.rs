//! Settings of the decode stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Decodes frames of every clip into an RGB tensor column (unsigned bytes, frames × height × width × 3).
///
/// Which frames: `frames` alone takes that many spread evenly over the clip, first and last frame included: of F frames
/// in presentation order, numbers floor(i·(F−1)/(frames−1)) for i = 0 … frames−1, as `numpy.linspace(0, F-1, frames,
/// dtype=int)` gives them; `frames: 1` takes the first. `fps` alone takes the frame on show at start + i/fps for every
/// i within the clip. Both together take the first `frames` of those. Neither takes every frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeConfig {
    /// Name of the stage. Default: `decode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Column that receives the frames.
    pub column: String,
    /// Number of frames a clip.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub frames: Option<u32>,
    /// Frames a second of clip time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 1000.0))]
    pub fps: Option<f64>,
    /// What happens to a clip with fewer frames than `frames` asks for.
    pub short: ShortClip,
    /// Width of the frames in pixels. Default: as in the clip, or in proportion to `height`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_384))]
    pub width: Option<u32>,
    /// Height of the frames in pixels. Default: as in the clip, or in proportion to `width`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_384))]
    pub height: Option<u32>,
    /// How a picture of another shape is brought to `width` × `height`.
    pub fit: Fit,
    /// Interpolation of the scaler.
    pub filter: ScaleFilter,
    /// The same frames again, in other sizes and columns, from the same pass over the clip.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<DecodeAlso>,
    /// Hardware decoding. `none` gives the same frames on every machine; `auto` takes what there is, then the processor.
    pub hwaccel: HwAccel,
    /// Most pixels in a frame of the clip; a header that claims more is refused before any memory is taken.
    #[schemars(range(min = 1))]
    pub max_pixels: u64,
    /// Longest clip in seconds.
    #[schemars(range(min = 0.001))]
    pub max_duration_s: f64,
    /// Most seconds that decoding one clip may take.
    #[schemars(range(min = 0.001))]
    pub timeout_s: f64,
}

impl Default for DecodeConfig {
    fn default() -> Self {
        Self {
            name: None,
            column: crate::schema::FRAMES.to_owned(),
            frames: None,
            fps: None,
            short: ShortClip::Fail,
            width: None,
            height: None,
            fit: Fit::Stretch,
            filter: ScaleFilter::Area,
            also: Vec::new(),
            hwaccel: HwAccel::None,
            max_pixels: 8192 * 8192,
            max_duration_s: 6.0 * 3600.0,
            timeout_s: 300.0,
        }
    }
}

/// One more size of the same frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecodeAlso {
    /// Column that receives the frames.
    pub column: String,
    /// Width in pixels. Default: as in the clip, or in proportion to `height`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_384))]
    pub width: Option<u32>,
    /// Height in pixels. Default: as in the clip, or in proportion to `width`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_384))]
    pub height: Option<u32>,
    /// How a picture of another shape is brought to `width` × `height`. Default: as the stage's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// Interpolation of the scaler. Default: as the stage's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<ScaleFilter>,
}

/// What happens to a clip that is too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShortClip {
    /// The clip fails, with both numbers in the reason.
    Fail,
    /// Frames are repeated: evenly spread where only `frames` is given, else the last one.
    Repeat,
}

/// How a picture is brought to another shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Both sides are scaled on their own; the shape changes.
    Stretch,
    /// The whole picture inside, black bars around it.
    Fit,
    /// The frame is filled, what sticks out is cut off on both sides alike.
    Fill,
}

/// Interpolation of the scaler (FFmpeg's names).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleFilter {
    /// Mean over the covered area: the right one for making pictures much smaller.
    Area,
    /// Two by two pixels.
    Bilinear,
    /// Four by four pixels.
    Bicubic,
    /// Windowed sinc.
    Lanczos,
    /// The nearest pixel.
    Point,
}

/// Hardware decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HwAccel {
    /// The first that works of CUDA and VA-API, else the processor.
    Auto,
    /// The processor.
    None,
    /// NVIDIA's decoder; a machine without one fails the run.
    Cuda,
    /// VA-API (Intel, AMD); a machine without one fails the run.
    Vaapi,
}
