//! One session of ONNX Runtime with the memory of its inputs.

use std::borrow::Cow;
use std::fmt;

use half::f16;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, TensorElementType, TensorRef};

use super::graph::{Element, Graph};
use super::queue::Batch;
use super::session::RowMut;

pub(super) struct Worker {
    session: ort::session::Session,
    options: RunOptions<HasSelectedOutputs>,
    inputs: Vec<Input>,
    outputs: Vec<String>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("session", &self.session).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Input {
    name: String,
    data: Data,
    /// Axes of a row.
    dims: Vec<usize>,
}

/// The values of one input for a whole batch.
#[derive(Debug)]
enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
    U8(Vec<u8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// The same expression for every type of element.
macro_rules! each_type {
    ($data:expr, $values:ident => $made:expr) => {
        match $data {
            Data::F32($values) => $made,
            Data::F16($values) => $made,
            Data::U8($values) => $made,
            Data::I32($values) => $made,
            Data::I64($values) => $made,
        }
    };
}

impl Worker {
    pub(super) fn new(session: ort::session::Session, graph: &Graph, outputs: &[String]) -> Result<Self, String> {
        let inputs = graph.inputs.iter().map(|input| {
            let data = match &input.element {
                Element::F32 => Data::F32(Vec::new()),
                Element::F16 => Data::F16(Vec::new()),
                Element::U8 => Data::U8(Vec::new()),
                Element::I32 => Data::I32(Vec::new()),
                Element::I64 => Data::I64(Vec::new()),
                Element::Other(other) => return Err(format!("input {} is {other}, which is not handled", input.name)),
            };
            Ok(Input { name: input.name.clone(), data, dims: Vec::new() })
        });
        let wanted = outputs.iter().fold(OutputSelector::no_default(), OutputSelector::with);
        let options = RunOptions::new().map_err(|error| error.to_string())?.with_outputs(wanted);
        let (inputs, outputs) = (inputs.collect::<Result<_, _>>()?, outputs.to_vec());
        Ok(Self { inputs, session, options, outputs })
    }

    /// Runs a batch, filled up to `rows` rows.
    pub(super) fn run(&mut self, batch: &Batch, rows: usize) -> Result<(), String> {
        let Some(first) = batch.pieces.first() else { return Ok(()) };
        for (index, input) in self.inputs.iter_mut().enumerate() {
            input.dims = first.rows.dims(index).to_vec();
            input.data.fill(batch, index, rows, input.dims.iter().product());
        }
        self.compute(rows, |outputs| {
            let mut at = 0;
            for piece in &batch.pieces {
                for row in piece.from..piece.from + piece.count {
                    let of_row = outputs.iter().map(|values| {
                        let length = values.len() / rows;
                        &values[at * length..(at + 1) * length]
                    });
                    piece.rows.take(row, &of_row.collect::<Vec<_>>());
                    at += 1;
                }
            }
        })
    }

    /// Runs the rows that the inputs hold.
    fn compute(&mut self, rows: usize, take: impl FnOnce(&[Cow<'_, [f32]>])) -> Result<(), String> {
        let tensors = self.inputs.iter().map(|input| {
            let shape: Vec<usize> = std::iter::once(rows).chain(input.dims.iter().copied()).collect();
            let value: SessionInputValue<'_> = each_type!(&input.data, values => {
                TensorRef::from_array_view((shape, values.as_slice()))?.into()
            });
            Ok((Cow::from(input.name.as_str()), value))
        });
        let tensors = tensors.collect::<ort::Result<Vec<_>>>().map_err(|error| error.to_string())?;
        let values = self.session.run_with_options(tensors, &self.options).map_err(|error| error.to_string())?;
        let outputs = self.outputs.iter().map(|name| {
            let value = values.get(name).ok_or_else(|| format!("a run gave no output {name}"))?;
            numbers(name, value, rows)
        });
        take(&outputs.collect::<Result<Vec<_>, _>>()?);
        Ok(())
    }
}

impl Data {
    fn fill(&mut self, batch: &Batch, input: usize, rows: usize, length: usize) {
        each_type!(self, values => values.resize(rows * length, Default::default()));
        let mut at = 0;
        for piece in &batch.pieces {
            for row in piece.from..piece.from + piece.count {
                let span = at * length..(at + 1) * length;
                piece.rows.fill(row, input, self.row(span));
                at += 1;
            }
        }
        // Rows that fill the batch up are copies: zeros could be an input that the model makes infinities of.
        each_type!(self, values => for row in at..rows {
            values.copy_within(..length, row * length);
        });
    }

    fn row(&mut self, span: std::ops::Range<usize>) -> RowMut<'_> {
        match self {
            Self::F32(values) => RowMut::F32(&mut values[span]),
            Self::F16(values) => RowMut::F16(&mut values[span]),
            Self::U8(values) => RowMut::U8(&mut values[span]),
            Self::I32(values) => RowMut::I32(&mut values[span]),
            Self::I64(values) => RowMut::I64(&mut values[span]),
        }
    }
}

/// An output's values, without a copy where they are f32.
fn numbers<'a>(name: &str, value: &'a DynValue, rows: usize) -> Result<Cow<'a, [f32]>, String> {
    if value.dtype().tensor_shape().and_then(|shape| shape.first().copied()) != Some(rows as i64) {
        let (wanted, given) = (rows, value.dtype());
        return Err(format!("output {name} is {given}, its first axis should be the batch of {wanted}"));
    }
    fn read<T: ort::value::PrimitiveTensorElementType>(value: &DynValue) -> Result<&[T], String> {
        value.try_extract_tensor::<T>().map(|(_, values)| values).map_err(|error| error.to_string())
    }
    Ok(match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => Cow::Borrowed(read::<f32>(value)?),
        Some(TensorElementType::Float64) => read::<f64>(value)?.iter().map(|&number| number as f32).collect(),
        Some(TensorElementType::Float16) => read::<f16>(value)?.iter().map(|number| number.to_f32()).collect(),
        Some(TensorElementType::Uint8) => read::<u8>(value)?.iter().map(|&number| f32::from(number)).collect(),
        Some(TensorElementType::Int32) => read::<i32>(value)?.iter().map(|&number| number as f32).collect(),
        Some(TensorElementType::Int64) => read::<i64>(value)?.iter().map(|&number| number as f32).collect(),
        Some(TensorElementType::Bool) => read::<bool>(value)?.iter().map(|&is| if is { 1.0 } else { 0.0 }).collect(),
        _ => return Err(format!("output {name} is {}, which is not handled", value.dtype())),
    })
}
