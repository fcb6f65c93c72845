//! Frames to tensors: which frames, their size, and the values of a row.

use std::sync::Arc;

use arrow::array::ArrayRef;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use half::f16;

use super::config::{Colours, Dtype, FrameChoice, Layout, ModelInput, PerColour};
use crate::error::{Error, Result};
use crate::model::RowMut;
use crate::stage::frames::{self, FramesView};

/// How the frames of one input are written.
#[derive(Debug)]
pub(super) struct FrameWriter {
    layout: Layout,
    colours: Colours,
    values: Values,
}

/// The value of every byte for each of the model's colours: (byte − mean) / std, in the type of the input.
#[derive(Debug)]
enum Values {
    F32(Table<f32>),
    F16(Table<f16>),
    U8(Table<u8>),
    I32(Table<i32>),
    I64(Table<i64>),
}

type Table<T> = Box<[[T; 256]; 3]>;

impl FrameWriter {
    pub(super) fn new(input: &ModelInput, dtype: Dtype) -> Self {
        let colour = |of: PerColour, colour: usize| match of {
            PerColour::All(value) => f64::from(value),
            PerColour::Each(values) => f64::from(values[colour]),
        };
        let value = |at: usize, byte: usize| (byte as f64 - colour(input.mean, at)) / colour(input.std, at);
        // A cast of a floating point number to integers saturates.
        let values = match dtype {
            Dtype::F32 => Values::F32(table(|at, byte| value(at, byte) as f32)),
            Dtype::F16 => Values::F16(table(|at, byte| f16::from_f64(value(at, byte)))),
            Dtype::U8 => Values::U8(table(|at, byte| value(at, byte).round() as u8)),
            Dtype::I32 => Values::I32(table(|at, byte| value(at, byte).round() as i32)),
            Dtype::I64 => Values::I64(table(|at, byte| value(at, byte).round() as i64)),
        };
        Self { layout: input.layout, colours: input.colours, values }
    }

    /// Writes frames (RGB bytes, one after the other, `pixels` each) into a row.
    pub(super) fn write(&self, bytes: &[u8], pixels: usize, into: RowMut<'_>) {
        match (&self.values, into) {
            (Values::F32(table), RowMut::F32(into)) => self.write_as(table, bytes, pixels, into),
            (Values::F16(table), RowMut::F16(into)) => self.write_as(table, bytes, pixels, into),
            (Values::U8(table), RowMut::U8(into)) => self.write_as(table, bytes, pixels, into),
            (Values::I32(table), RowMut::I32(into)) => self.write_as(table, bytes, pixels, into),
            (Values::I64(table), RowMut::I64(into)) => self.write_as(table, bytes, pixels, into),
            // The type is the graph's, which was looked at when the stage was opened.
            _ => {}
        }
    }

    fn write_as<T: Copy>(&self, table: &Table<T>, bytes: &[u8], pixels: usize, into: &mut [T]) {
        let source = |colour: usize| match self.colours {
            Colours::Rgb => colour,
            Colours::Bgr => 2 - colour,
        };
        for (bytes, into) in bytes.chunks_exact(pixels * 3).zip(into.chunks_exact_mut(pixels * 3)) {
            let bytes = bytes.as_chunks::<3>().0;
            match self.layout {
                Layout::NCHW | Layout::NTCHW => {
                    for (colour, plane) in into.chunks_exact_mut(pixels).enumerate() {
                        let (table, from) = (&table[colour], source(colour));
                        for (to, pixel) in plane.iter_mut().zip(bytes) {
                            *to = table[usize::from(pixel[from])];
                        }
                    }
                }
                Layout::NHWC | Layout::NTHWC => {
                    for (to, pixel) in into.as_chunks_mut::<3>().0.iter_mut().zip(bytes) {
                        *to = std::array::from_fn(|colour| table[colour][usize::from(pixel[source(colour)])]);
                    }
                }
            }
        }
    }
}

fn table<T: Copy + Default>(value: impl Fn(usize, usize) -> T) -> Table<T> {
    let mut table = Box::new([[T::default(); 256]; 3]);
    for (colour, values) in table.iter_mut().enumerate() {
        for (byte, to) in values.iter_mut().enumerate() {
            *to = value(colour, byte);
        }
    }
    table
}

/// The chosen frames of a clip in the size that the model takes.
#[derive(Debug)]
pub(super) struct Pixels {
    source: Source,
    /// Frames, height, width.
    pub(super) shape: [usize; 3],
}

#[derive(Debug)]
enum Source {
    /// As decoded, in the column's own memory, from frame number `first` on.
    Column {
        frames: ArrayRef,
        row: usize,
        first: usize,
    },
    Resized(Vec<u8>),
}

impl Pixels {
    /// The frames as they are.
    pub(super) fn of(frames: &ArrayRef, row: usize, view: &FramesView<'_>, choice: FrameChoice) -> Self {
        let (first, count) = choose(choice, view.frames);
        let source = Source::Column { frames: Arc::clone(frames), row, first };
        Self { source, shape: [count, view.height, view.width] }
    }

    /// Scaled to height × width; takes a while.
    pub(super) fn resized(self, [height, width]: [usize; 2]) -> Result<Self> {
        let [count, from_height, from_width] = self.shape;
        if [from_height, from_width] == [height, width] {
            return Ok(self);
        }
        let failed = |error: &dyn std::fmt::Display| Error::internal(format!("frames could not be scaled: {error}"));
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        let mut resizer = Resizer::new();
        let mut all = Vec::with_capacity(count * height * width * 3);
        let mut to = Image::new(width as u32, height as u32, PixelType::U8x3);
        for frame in 0..count {
            let bytes = self.frame(frame);
            let from = ImageRef::new(from_width as u32, from_height as u32, bytes, PixelType::U8x3);
            resizer
                .resize(&from.map_err(|error| failed(&error))?, &mut to, &options)
                .map_err(|error| failed(&error))?;
            all.extend_from_slice(to.buffer());
        }
        Ok(Self { source: Source::Resized(all), shape: [count, height, width] })
    }

    /// Pixels of one frame.
    pub(super) fn pixels(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// The bytes of one frame.
    pub(super) fn frame(&self, frame: usize) -> &[u8] {
        let length = self.pixels() * 3;
        &self.all()[frame * length..(frame + 1) * length]
    }

    /// The bytes of all frames.
    pub(super) fn all(&self) -> &[u8] {
        let length = self.pixels() * 3;
        match &self.source {
            Source::Resized(bytes) => bytes,
            Source::Column { frames, row, first } => match frames::view(frames, *row) {
                Ok(Some(view)) => &view.data[first * length..(first + self.shape[0]) * length],
                // There was a view when this was made.
                _ => &[],
            },
        }
    }
}

/// First frame and number of frames.
fn choose(choice: FrameChoice, frames: usize) -> (usize, usize) {
    match choice {
        FrameChoice::All => (0, frames),
        FrameChoice::First => (0, frames.min(1)),
        FrameChoice::Middle => (frames / 2, frames.min(1)),
        FrameChoice::Last => (frames.saturating_sub(1), frames.min(1)),
    }
}
