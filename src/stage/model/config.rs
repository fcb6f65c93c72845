//! Settings of the model stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Runs an ONNX model over frames or columns and stores its outputs as columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Name of the stage. Default: `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The ONNX file.
    pub model: String,
    /// What is fed to the model; every input of the graph has to be named once. An input that is one value a clip is
    /// the same for all of its frames.
    #[schemars(length(min = 1))]
    pub inputs: Vec<ModelInput>,
    /// What is kept of the model's outputs.
    #[schemars(length(min = 1))]
    pub outputs: Vec<ModelOutput>,
    /// Most items (frames, or clips where a layout has a time axis) in one run of the model. A graph with a fixed
    /// batch axis overrides it. On a GPU every run has as many, so that results do not depend on what else is run; on
    /// the processor fewer are taken where its caches would not hold them.
    #[serde(default = "default_batch")]
    #[schemars(range(min = 1, max = 4096))]
    pub batch: usize,
}

fn default_batch() -> usize {
    16
}

/// One input tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelInput {
    /// Name of the graph's input.
    pub tensor: String,
    /// Column that feeds it: frames, a number (for an input with axes [batch] or [batch, 1]), or a list of numbers
    /// ([batch, n]). A clip without a value fails.
    pub column: String,
    /// Order of the axes of a frames input: N batch, T time, C colour, H height, W width. Without T every chosen frame
    /// is an item of its own; with T the chosen frames of a clip are one item. Not used for columns of numbers.
    #[serde(default)]
    pub layout: Layout,
    /// Type of the elements. Default: as the graph says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// Width and height that the frames are scaled to (bilinear, antialiased). Default: as the graph says, else as decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<[u32; 2]>,
    /// Subtracted from the byte values (0 to 255), one number or one a colour. For inputs of integers the result is
    /// rounded.
    #[serde(default)]
    pub mean: PerColour,
    /// What the difference is divided by, one number or one a colour.
    #[serde(default = "one")]
    pub std: PerColour,
    /// Order of the colours.
    #[serde(default)]
    pub colours: Colours,
    /// Which of the decoded frames.
    #[serde(default)]
    pub frames: FrameChoice,
}

/// Order of the axes of a frames input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Layout {
    /// Batch, colour, height, width: one frame an item.
    #[default]
    NCHW,
    /// Batch, height, width, colour: one frame an item.
    NHWC,
    /// Batch, time, colour, height, width: one clip an item.
    NTCHW,
    /// Batch, time, height, width, colour: one clip an item.
    NTHWC,
}

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// Unsigned bytes.
    U8,
    /// 32-bit integers.
    I32,
    /// 64-bit integers.
    I64,
}

/// One number for all colours, or one for each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PerColour {
    /// The same for all.
    All(f32),
    /// In the order of the model's colours.
    Each([f32; 3]),
}

impl Default for PerColour {
    fn default() -> Self {
        Self::All(0.0)
    }
}

fn one() -> PerColour {
    PerColour::All(1.0)
}

/// Order of the colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Colours {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// Which of the decoded frames a model sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FrameChoice {
    /// Every decoded frame.
    #[default]
    All,
    /// The first one.
    First,
    /// The one in the middle.
    Middle,
    /// The last one.
    Last,
}

/// One output that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelOutput {
    /// Name of the graph's output.
    pub tensor: String,
    /// Column that receives it; with `labels` it is a list of texts. A column that is there already has to be of the
    /// same type and is replaced.
    pub column: String,
    /// Whether the column holds a number or a list of numbers. Not used with `labels`.
    #[serde(default, rename = "type")]
    pub kind: OutputType,
    /// How the values of several frames become one a clip.
    #[serde(default)]
    pub reduce: Reduce,
    /// A JSON file, a list with the name of each class. The softmax over the classes, frame by frame, is then what is
    /// reduced, and the column holds the names of the likeliest classes, likeliest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Most names a clip, with `labels`.
    #[serde(default = "default_top")]
    #[schemars(range(min = 1, max = 1000))]
    pub top: usize,
    /// Least probability of a name, with `labels`.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub minimum: f32,
}

/// What an output's column holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// All elements of an item, row-major, as 32-bit floating point numbers.
    #[default]
    List,
    /// One 32-bit floating point number; the output has one element an item.
    Number,
}

fn default_top() -> usize {
    3
}

/// How the values of several frames become one a clip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// The mean, element by element.
    #[default]
    Mean,
    /// The largest, element by element.
    Max,
    /// The first frame's.
    First,
}
