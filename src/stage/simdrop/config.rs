//! Settings of the simdrop stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::Named;

/// Drops the clips whose score is above a threshold. Exactly one of `threshold`, `thresholds` and `groups` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimdropConfig {
    /// Name of the stage. Default: `simdrop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Column with the score; a clip without one fails.
    #[serde(default = "default_score")]
    pub score: String,
    /// Largest score that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// A YAML or JSON file of thresholds: a map from the name of a score to a number, or to a [`Groups`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<String>,
    /// One threshold for each value of a column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
    /// A boolean SQL expression; only the clips for which it is true are judged (`source = 'synthetic'`). Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
}

fn default_score() -> String {
    "simdrop_score".to_owned()
}

/// One threshold for each value of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// Column whose value chooses the threshold.
    pub by: String,
    /// Largest score that is kept, by value of the column.
    pub values: Named<f64>,
    /// For all other values. Default: such clips are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<f64>,
}
