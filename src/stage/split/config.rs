//! Settings of the split stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cuts every clip into windows of a fixed length; each window goes on as a clip of its own. A clip
/// that would give 100,000 windows or more fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// Name of the stage. Default: `split`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Length of a window in seconds.
    #[schemars(range(min = 0.001))]
    pub length_s: f64,
    /// Seconds from the start of one window to the start of the next. Default: `length_s`, so that windows touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride_s: Option<f64>,
    /// Shortest last window in seconds; a shorter rest is left out, and a clip that is shorter as a whole is dropped.
    /// Default: `length_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_s: Option<f64>,
    /// Most pixels in a frame of a clip; a header that claims more is refused before any memory is taken. Default:
    /// 67,108,864, which are 8192 × 8192.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_pixels: Option<u64>,
    /// Most seconds that finding the length of one clip may take. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001))]
    pub timeout_s: Option<f64>,
}
