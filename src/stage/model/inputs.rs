//! What feeds each input of the graph, checked against it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::columns::numbers;
use super::config::{Dtype, FrameChoice, Layout, ModelConfig, ModelInput, PerColour};
use super::pixels::{FrameWriter, Pixels};
use crate::error::{Error, Result};
use crate::model::graph::DimsText;
use crate::model::{Element, Graph, RowMut, TensorSpec, no_such_tensor};
use crate::schema;
use crate::stage::clips::require_column;
use crate::stage::{ClipBatch, frames};

/// What feeds one input of the graph.
#[derive(Debug)]
pub(super) struct Feed {
    tensor: TensorSpec,
    config: ModelInput,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Frames {
        writer: Arc<FrameWriter>,
        /// Height and width that frames are scaled to.
        size: Option<[usize; 2]>,
    },
    Numbers,
}

/// What one clip feeds into one input.
#[derive(Debug)]
pub(super) enum Values {
    Frames { writer: Arc<FrameWriter>, pixels: Pixels, layout: Layout, dims: Vec<usize> },
    Numbers { values: Vec<f64>, dims: Vec<usize> },
}

/// The feeds in the graph's order: every input once.
pub(super) fn feeds(stage: &str, config: &ModelConfig, graph: &Graph, input: &SchemaRef) -> Result<Vec<Feed>> {
    for feed in &config.inputs {
        graph.input(&feed.tensor).ok_or_else(|| no_such_tensor(&config.model, "input", &feed.tensor, &graph.inputs))?;
    }
    let feed = |tensor: &TensorSpec| {
        let wrong = |what: &str| Err(Error::config(format!("stage {stage}: input {tensor} of the model {what}")));
        let mut named = config.inputs.iter().filter(|feed| feed.tensor == tensor.name);
        let Some(feed) = named.next() else {
            return wrong("is fed by nothing; name it under inputs");
        };
        if named.next().is_some() {
            return wrong("is fed twice; name it once under inputs");
        }
        let column = require_column(stage, input, &feed.column)?;
        if schema::is_frames(column) {
            check_shape(stage, feed, tensor, frames::uniform_shape(column))?;
        }
        Feed::new(stage, feed, tensor, schema::is_frames(column))
    };
    graph.inputs.iter().map(feed).collect()
}

/// What is known of the frames before any is decoded has to be what the graph takes.
fn check_shape(stage: &str, feed: &ModelInput, tensor: &TensorSpec, shape: [Option<usize>; 3]) -> Result<()> {
    let rest = tensor.dims.get(1..).unwrap_or_default();
    let axes = axes(feed.layout);
    if rest.len() != axes.len() {
        return Ok(());
    }
    let wanted = |axis: Axis| axes.iter().position(|have| *have == axis).and_then(|at| rest[at]);
    // Height and width are scaled to what the graph takes; frames are what they are.
    let frames = if feed.frames == FrameChoice::All { shape[0] } else { Some(1) };
    let (have, wanted) = ([frames, None, None], [wanted(Axis::Frames), None, None]);
    if has_time(feed.layout) && !frames::fits(have, wanted) {
        return Err(Error::config(format!(
            "stage {stage}: input {tensor} of the model takes {} frames a clip, column {} has {}; decode as many",
            wanted[0].unwrap_or_default(),
            feed.column,
            frames::shape_text(have).split('×').next().unwrap_or_default()
        )));
    }
    Ok(())
}

fn dtype_of(element: &Element) -> Option<Dtype> {
    match element {
        Element::F32 => Some(Dtype::F32),
        Element::F16 => Some(Dtype::F16),
        Element::U8 => Some(Dtype::U8),
        Element::I32 => Some(Dtype::I32),
        Element::I64 => Some(Dtype::I64),
        Element::Other(_) => None,
    }
}

fn has_time(layout: Layout) -> bool {
    matches!(layout, Layout::NTCHW | Layout::NTHWC)
}

/// Axes of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Axis {
    Frames,
    Colour,
    Height,
    Width,
}

fn axes(layout: Layout) -> &'static [Axis] {
    match layout {
        Layout::NCHW => &[Axis::Colour, Axis::Height, Axis::Width],
        Layout::NHWC => &[Axis::Height, Axis::Width, Axis::Colour],
        Layout::NTCHW => &[Axis::Frames, Axis::Colour, Axis::Height, Axis::Width],
        Layout::NTHWC => &[Axis::Frames, Axis::Height, Axis::Width, Axis::Colour],
    }
}

fn dims(layout: Layout, [frames, height, width]: [usize; 3]) -> Vec<usize> {
    let length = |axis: &Axis| match axis {
        Axis::Frames => frames,
        Axis::Colour => 3,
        Axis::Height => height,
        Axis::Width => width,
    };
    axes(layout).iter().map(length).collect()
}

impl Feed {
    fn new(stage: &str, config: &ModelInput, tensor: &TensorSpec, is_frames: bool) -> Result<Self> {
        let wrong = |what: String| Err(Error::config(format!("stage {stage}: input {tensor} of the model: {what}")));
        let Some(dtype) = dtype_of(&tensor.element) else {
            return wrong(format!("its type {} cannot be fed", tensor.element));
        };
        if config.dtype.is_some_and(|wanted| wanted != dtype) {
            return wrong(format!("dtype is given as another type than the graph's {}; remove it", tensor.element));
        }
        let made = |kind| Ok(Self { tensor: tensor.clone(), config: config.clone(), kind });
        if !is_frames {
            if tensor.dims.len() > 2 {
                return wrong(format!("column {} is of numbers, which feed one or two axes", config.column));
            }
            return made(Kind::Numbers);
        }
        let is_zero = match config.std {
            PerColour::All(value) => value == 0.0,
            PerColour::Each(values) => values.contains(&0.0),
        };
        if is_zero {
            return wrong("std is 0, which nothing can be divided by".to_owned());
        }
        let axes = axes(config.layout);
        if tensor.dims.len() != axes.len() + 1 {
            return wrong(format!("layout {:?} has {} axes", config.layout, axes.len() + 1));
        }
        let length =
            |axis| axes.iter().zip(tensor.row_dims()).find(|(have, _)| **have == axis).and_then(|(_, dim)| *dim);
        if length(Axis::Colour).is_some_and(|colours| colours != 3) {
            return wrong(format!("layout {:?} does not fit, its colours are not 3", config.layout));
        }
        let graph_size = [length(Axis::Height), length(Axis::Width)];
        let asked = config.resize.map(|[width, height]| [height as usize, width as usize]);
        if let Some(asked) = asked
            && graph_size.iter().zip(asked).any(|(have, asked)| have.is_some_and(|have| have != asked) || asked == 0)
        {
            let [height, width] = asked;
            return wrong(format!(
                "resize to {width} × {height} does not fit its height and width {}; remove it",
                DimsText(&graph_size)
            ));
        }
        let size = asked.or(match graph_size {
            [Some(height), Some(width)] => Some([height, width]),
            _ => None,
        });
        made(Kind::Frames { writer: Arc::new(FrameWriter::new(config, dtype)), size })
    }

    /// What the clip of a row feeds, but for scaling; the inner error is why it cannot be run.
    pub(super) fn values(&self, clips: &ClipBatch, row: usize) -> Result<std::result::Result<Values, String>> {
        let column = clips.column(&self.config.column)?;
        let values = match &self.kind {
            Kind::Frames { writer, .. } => {
                let Some(view) = frames::view(column, row)? else {
                    return Ok(Err(format!("the clip has no frames in column {}", self.config.column)));
                };
                let pixels = Pixels::of(column, row, &view, self.config.frames);
                if pixels.shape.contains(&0) {
                    return Ok(Err(format!("the frames in column {} are empty", self.config.column)));
                }
                let (layout, dims) = (self.config.layout, dims(self.config.layout, self.final_shape(&pixels)));
                Values::Frames { writer: Arc::clone(writer), pixels, layout, dims }
            }
            Kind::Numbers => {
                let Some(values) = numbers(column, row)? else {
                    return Ok(Err(format!("column {} is null", self.config.column)));
                };
                let dims = if self.tensor.dims.len() == 1 && values.len() == 1 { vec![] } else { vec![values.len()] };
                Values::Numbers { values, dims }
            }
        };
        if self.tensor.takes(values.dims()) {
            return Ok(Ok(values));
        }
        Ok(Err(format!(
            "column {} gives {:?} for an item, input {} takes {}",
            self.config.column,
            values.dims(),
            self.tensor.name,
            DimsText(self.tensor.row_dims())
        )))
    }

    fn final_shape(&self, pixels: &Pixels) -> [usize; 3] {
        match &self.kind {
            Kind::Frames { size: Some([height, width]), .. } => [pixels.shape[0], *height, *width],
            _ => pixels.shape,
        }
    }

    /// The size that these values still have to be scaled to.
    pub(super) fn to_scale(&self, values: &Values) -> Option<[usize; 2]> {
        match (&self.kind, values) {
            (Kind::Frames { size: Some(size), .. }, Values::Frames { pixels, .. }) => {
                (pixels.shape[1..] != size[..]).then_some(*size)
            }
            _ => None,
        }
    }
}

impl Values {
    /// Axes of an item.
    pub(super) fn dims(&self) -> &[usize] {
        match self {
            Self::Frames { dims, .. } | Self::Numbers { dims, .. } => dims,
        }
    }

    /// Items in a clip; none where there is one that serves for all.
    pub(super) fn items(&self) -> Option<usize> {
        match self {
            Self::Frames { pixels, layout, .. } if !has_time(*layout) => Some(pixels.shape[0]),
            _ => None,
        }
    }

    /// The same, scaled to height × width; takes a while.
    pub(super) fn scaled(self, size: [usize; 2]) -> Result<Self> {
        match self {
            Self::Frames { writer, pixels, layout, dims } => {
                Ok(Self::Frames { writer, pixels: pixels.resized(size)?, layout, dims })
            }
            numbers => Ok(numbers),
        }
    }

    /// Writes an item.
    pub(super) fn fill(&self, item: usize, into: RowMut<'_>) {
        match self {
            Self::Frames { writer, pixels, layout, .. } => {
                let bytes = if has_time(*layout) { pixels.all() } else { pixels.frame(item) };
                writer.write(bytes, pixels.pixels(), into);
            }
            Self::Numbers { values, .. } => match into {
                RowMut::F32(into) => fill(into, values, |value| value as f32),
                RowMut::F16(into) => fill(into, values, half::f16::from_f64),
                RowMut::U8(into) => fill(into, values, |value| value.round() as u8),
                RowMut::I32(into) => fill(into, values, |value| value.round() as i32),
                RowMut::I64(into) => fill(into, values, |value| value.round() as i64),
            },
        }
    }
}

fn fill<T>(into: &mut [T], values: &[f64], of: impl Fn(f64) -> T) {
    for (to, &value) in into.iter_mut().zip(values) {
        *to = of(value);
    }
}
