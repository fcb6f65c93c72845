//! Decoded frames as an Arrow column: the canonical extension type `arrow.variable_shape_tensor`, unsigned bytes,
//! frames × height × width × 3 (RGB).
//!
//! Bytes are written once, by the scaler, into the buffer that Arrow then owns; nothing on the way copies them, and
//! the memory lease of a clip ends when its buffer is dropped, wherever that is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Int32Array, ListArray, StructArray, UInt8Array};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, UInt8Type};

use crate::error::{Error, Result};

/// Axes of the tensor.
const AXES: i32 = 4;
/// Where Arrow keeps the parameters of an extension type.
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

/// Frames of one clip, as they come from the decoder.
#[derive(Debug)]
pub struct ClipFrames {
    /// Bytes, frames × height × width × 3.
    pub data: Buffer,
    /// Frames, height, width.
    pub shape: [usize; 3],
}

/// A view of one clip's frames.
#[derive(Debug, Clone, Copy)]
pub struct FramesView<'a> {
    /// Bytes, frames × height × width × 3.
    pub data: &'a [u8],
    /// Number of frames.
    pub frames: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

/// The field of a frames column; `shape` says how many frames, how high and how wide, where that is the same for all
/// clips.
pub fn field(name: &str, shape: [Option<usize>; 3]) -> Field {
    let [frames, height, width] = shape;
    let metadata = serde_json::json!({
        "dim_names": ["frame", "height", "width", "colour"],
        "uniform_shape": [frames, height, width, Some(3)],
    });
    let metadata = [
        ("ARROW:extension:name".to_owned(), "arrow.variable_shape_tensor".to_owned()),
        (EXTENSION_METADATA.to_owned(), metadata.to_string()),
    ];
    Field::new(name, DataType::Struct(fields()), true).with_metadata(metadata.into())
}

/// Frames, height and width that all clips of a frames column have, as far as they are the same.
pub fn uniform_shape(field: &Field) -> [Option<usize>; 3] {
    let metadata = field.metadata().get(EXTENSION_METADATA).map(String::as_str).unwrap_or_default();
    let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap_or_default();
    [0, 1, 2].map(|axis| metadata["uniform_shape"][axis].as_u64().and_then(|length| usize::try_from(length).ok()))
}

/// Whether frames of one shape are what another asks for, as far as both are known.
pub fn fits(have: [Option<usize>; 3], wanted: [Option<usize>; 3]) -> bool {
    have.iter().zip(wanted).all(|(have, wanted)| have.zip(wanted).is_none_or(|(have, wanted)| have == wanted))
}

/// Frames × height × width for people; what is not known is a question mark.
pub fn shape_text(shape: [Option<usize>; 3]) -> String {
    shape.map(|length| length.map_or_else(|| "?".to_owned(), |length| length.to_string())).join("×")
}

fn fields() -> Fields {
    Fields::from(vec![
        Field::new("data", DataType::List(Arc::new(Field::new_list_field(DataType::UInt8, false))), false),
        Field::new(
            "shape",
            DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Int32, false)), AXES),
            false,
        ),
    ])
}

/// The column of a batch of one row.
pub fn column(clip: Option<ClipFrames>) -> Result<ArrayRef> {
    let (data, shape, valid) = match clip {
        Some(ClipFrames { data, shape }) => (data, shape, true),
        None => (Buffer::from(&[] as &[u8]), [0; 3], false),
    };
    let length = i32::try_from(data.len())
        .map_err(|_| Error::internal(format!("{} bytes of frames in one clip, Arrow takes 2 GiB", data.len())))?;
    let bytes = UInt8Array::new(ScalarBuffer::from(data), None);
    let list = ListArray::new(
        Arc::new(Field::new_list_field(DataType::UInt8, false)),
        OffsetBuffer::new(vec![0, length].into()),
        Arc::new(bytes),
        None,
    );
    let [frames, height, width] = shape.map(|side| side as i32);
    let sides = FixedSizeListArray::new(
        Arc::new(Field::new_list_field(DataType::Int32, false)),
        AXES,
        Arc::new(Int32Array::from(vec![frames, height, width, 3])),
        None,
    );
    let nulls = (!valid).then(|| NullBuffer::new_null(1));
    Ok(Arc::new(StructArray::new(fields(), vec![Arc::new(list), Arc::new(sides)], nulls)))
}

/// The frames of a row; none where the row has no frames.
pub fn view(array: &dyn Array, row: usize) -> Result<Option<FramesView<'_>>> {
    let wrong = || Error::internal("a frames column is not of the tensor type");
    let tensor = array.as_struct_opt().ok_or_else(wrong)?;
    if tensor.is_null(row) {
        return Ok(None);
    }
    let list = tensor.column(0).as_list_opt::<i32>().ok_or_else(wrong)?;
    let sides = tensor.column(1).as_fixed_size_list_opt().ok_or_else(wrong)?;
    let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
    let data = &list.values().as_primitive_opt::<UInt8Type>().ok_or_else(wrong)?.values()[from..to];
    let first = sides.value_offset(row) as usize;
    let shape = &sides.values().as_primitive_opt::<Int32Type>().ok_or_else(wrong)?.values()[first..first + 3];
    let (frames, height, width) = (shape[0] as usize, shape[1] as usize, shape[2] as usize);
    Ok(Some(FramesView { data, frames, height, width }))
}
