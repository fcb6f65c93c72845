//! simdrop: a streaming data engine that turns real and synthetic video into training shards.
//!
//! In the order of the flow: [`spec`] reads the pipeline, [`manifest`] lists the clips and cuts them into work units,
//! [`plan`] makes a DataFusion plan of the stages, [`engine`] runs it, [`stage`] holds what happens to the clips,
//! [`commit`] turns the receipts of the units into a dataset, [`sql`] asks questions of it,
//! and [`verify`] checks it. [`video`] and [`model`]
//! are the boundaries to FFmpeg and ONNX Runtime. [`render`] makes synthetic clips before any of this.

pub mod bench;
pub mod cli;
pub mod commit;
pub mod dataset;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod manifest;
pub mod model;
pub mod plan;
pub mod progress;
pub mod render;
pub mod repack;
pub mod schema;
pub mod spec;
pub mod sql;
pub mod stage;
pub mod storage;
pub mod summary;
pub mod train;
pub mod verify;
pub mod video;
