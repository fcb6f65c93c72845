//! Training of denoisers on datasets of ours, with ONNX Runtime: `simdrop train`.
//!
//! Enters: a [`spec::TrainSpec`], datasets with frames or videos, and the graphs of a model size (`models/README.md`).
//! Leaves: checkpoints, metrics, and the trained model as one ONNX file that the score stage takes. The flow:
//! [`index`] says which clips there are, [`order`] which one comes when, [`loader`] reads and decodes them ahead of
//! [`model`], whose state stays on the device, and [`run`] makes the steps.

mod augment;
mod batch;
mod captions;
mod check;
mod checkpoint;
mod clip;
mod export;
mod index;
mod loader;
mod metrics;
mod model;
mod order;
pub mod progress;
pub mod run;
mod schedule;
mod signature;
pub mod spec;
pub mod validate;

pub(crate) use metrics::PARQUET as METRICS;
