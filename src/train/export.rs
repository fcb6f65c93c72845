//! A trained model as one ONNX file: the forward graph with the weights inside.
//!
//! Protocol Buffers merge a message that is written twice, list by list. So a graph without its weights, followed by a
//! model that has nothing but weights, is the graph with its weights, and the graph need not be understood.

use bytes::Bytes;
use prost::Message;

use crate::model::program::Array;

/// `onnx.ModelProto`, as much of it as is written.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "14")]
    metadata: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `onnx.TensorProto.FLOAT`.
const FLOAT: i32 = 1;

/// The graph in `forward`, which has none of its weights, with `weights` by name, and with lines on where they come from.
pub(super) fn with_weights(forward: &[u8], weights: Vec<(String, Array)>, metadata: &[(&str, String)]) -> Bytes {
    let tensor = |(name, array): (String, Array)| Tensor {
        dims: array.dims.iter().map(|dim| *dim as i64).collect(),
        data_type: FLOAT,
        name,
        raw_data: array.values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let initializer = weights.into_iter().map(tensor).collect();
    let entry = |(key, value): &(&str, String)| Entry { key: (*key).to_owned(), value: value.clone() };
    let rest = Model { graph: Some(Graph { initializer }), metadata: metadata.iter().map(entry).collect() };
    let mut model = Vec::with_capacity(forward.len() + rest.encoded_len());
    model.extend_from_slice(forward);
    rest.encode_raw(&mut model);
    model.into()
}
