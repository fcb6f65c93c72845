//! What goes into a graph and what comes out.

use std::fmt;

use ort::value::{Outlet, TensorElementType};

/// The inputs and outputs of an ONNX graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Inputs in the graph's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs in the graph's order.
    pub outputs: Vec<TensorSpec>,
}

/// A tensor as the graph declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Its axes; none for one whose length is decided at run time.
    pub dims: Vec<Option<usize>>,
}

/// Type of a tensor's elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
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
    /// One that simdrop does not handle, by name.
    Other(String),
}

impl Graph {
    pub(super) fn of(session: &ort::session::Session) -> Self {
        let tensors = |outlets: &[Outlet]| outlets.iter().map(TensorSpec::of).collect();
        Self { inputs: tensors(session.inputs()), outputs: tensors(session.outputs()) }
    }

    /// An input by name, with its place.
    pub fn input(&self, name: &str) -> Option<(usize, &TensorSpec)> {
        self.inputs.iter().enumerate().find(|(_, tensor)| tensor.name == name)
    }

    /// An output by name.
    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|tensor| tensor.name == name)
    }

    /// Length of the batch axis, the first of every input, where the graph fixes it.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.inputs.iter().find_map(|tensor| tensor.dims.first().copied().flatten())
    }
}

impl TensorSpec {
    fn of(outlet: &Outlet) -> Self {
        let element = match outlet.dtype().tensor_type() {
            Some(TensorElementType::Float32) => Element::F32,
            Some(TensorElementType::Float16) => Element::F16,
            Some(TensorElementType::Uint8) => Element::U8,
            Some(TensorElementType::Int32) => Element::I32,
            Some(TensorElementType::Int64) => Element::I64,
            Some(other) => Element::Other(other.to_string()),
            None => Element::Other("no tensor".to_owned()),
        };
        let shape = outlet.dtype().tensor_shape();
        let dims = shape.map(|shape| shape.iter().map(|&dim| usize::try_from(dim).ok()).collect()).unwrap_or_default();
        Self { name: outlet.name().to_owned(), element, dims }
    }

    /// The axes of one row: all but the first.
    pub fn row_dims(&self) -> &[Option<usize>] {
        self.dims.get(1..).unwrap_or_default()
    }

    /// Whether a row may have these axes.
    pub fn takes(&self, row: &[usize]) -> bool {
        let dims = self.row_dims();
        dims.len() == row.len() && dims.iter().zip(row).all(|(dim, &length)| dim.is_none_or(|dim| dim == length))
    }
}

impl Element {
    /// Bytes of one.
    pub fn bytes(&self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 | Self::Other(_) => 8,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Other(name) => name,
        })
    }
}

impl fmt::Display for TensorSpec {
    /// As in `x_t f32 [?, 8, 32, 32, 3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.element, DimsText(&self.dims))
    }
}

/// Axes for people; an open one is `?`.
#[derive(Debug)]
pub struct DimsText<'a>(pub &'a [Option<usize>]);

impl fmt::Display for DimsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<_> = self.0.iter().map(|dim| dim.map_or_else(|| "?".to_owned(), |n| n.to_string())).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}
