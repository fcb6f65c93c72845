//! Settings of the caption stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::render::caption::CaptionPart;

/// Gives every clip a caption; the first origin that has a text wins, and `caption_source` says which it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptionConfig {
    /// Name of the stage. Default: `caption`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the text comes from, in order of preference.
    #[schemars(length(min = 1))]
    pub from: Vec<CaptionOrigin>,
    /// What happens to a clip for which no origin has a text.
    #[serde(default)]
    pub missing: MissingCaption,
}

/// One origin of captions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CaptionOrigin {
    /// A text file beside the clip: `run.mp4` has `run.txt`. `.json` is read as JSON and its field `caption` taken.
    Sidecar(SidecarCaption),
    /// The elements of a clip that `simdrop render` made, from column `scene` or from `<clip>.scene.json`. The short form
    /// of a stage with this origin alone is `caption: compositional`.
    Compositional(CompositionalCaption),
    /// A column with text.
    Column(String),
    /// A template (minijinja) over the columns of the clip: `a {{ dataset }} clip of {{ duration_s | round(1) }} s`.
    /// Lists and nulls are lists and nulls; a null prints as nothing, so `{{ licence or 'no' }} licence` says what to
    /// print instead. `{{ (scene | fromjson).camera }}` reads JSON text. A clip that the template cannot be applied to
    /// fails.
    Template(String),
}

/// The phrases of a rendered scene's elements, put together: `rendered, a red metal cube spinning in a forest, the
/// camera dollies in`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompositionalCaption {
    /// Parts that are left out, as the captions of a reference model leave out the aspect that is wanted of the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leave_out: Vec<CaptionPart>,
}

/// A text file beside the clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SidecarCaption {
    /// Extension in place of the clip's, without the dot.
    pub extension: String,
    /// Field of a JSON sidecar that holds the text.
    #[serde(default = "default_field")]
    pub field: String,
}

fn default_field() -> String {
    "caption".to_owned()
}

/// What happens to a clip without a caption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingCaption {
    /// It goes on with an empty caption.
    #[default]
    Keep,
    /// It is dropped.
    Drop,
    /// It fails.
    Fail,
}
