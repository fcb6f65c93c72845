//! Settings of the filter stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps the clips for which a SQL expression is true and drops the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// Name of the filter, stored as the reason of the clips that it drops. Where one column of numbers decides, its
    /// value is stored beside it, in `fate_value`.
    pub name: String,
    /// A boolean SQL expression over the columns so far, such as `width >= 256 and duration_s > 1`; DataFusion's functions
    /// are there, save for those that give another answer at another time. A clip for which it is null is dropped, one
    /// for which it cannot be computed fails.
    pub keep: String,
}
