//! Settings of the embed stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Turns texts into numbers that denoisers take as their condition: the mean of an encoder's vectors over the text's
/// tokens, of length 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedConfig {
    /// Name of the stage. Default: `embed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The encoder: an ONNX file (`input_ids`, `attention_mask`, `token_type_ids` to one vector a token) with its
    /// tokenizer beside it: `<name>.tokenizer.json`.
    pub model: String,
    /// Column with the text; where it is null, so are the numbers.
    #[serde(default = "default_column")]
    pub column: String,
    /// Column for the numbers, a list of 32-bit floating point numbers.
    #[serde(default = "default_output")]
    pub output: String,
}

fn default_column() -> String {
    crate::schema::CAPTION.to_owned()
}

fn default_output() -> String {
    "text_embedding".to_owned()
}
