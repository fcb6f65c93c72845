//! Stub.

/// ONNX Runtime sessions, shared by all partitions.
#[derive(Debug)]
pub struct ModelRegistry {}
