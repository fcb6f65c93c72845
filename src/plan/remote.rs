//! What a plan carries to machines that know neither its pipeline nor where it was written.
//!
//! Credentials are never part of it: every machine has its own, in its environment.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::{ModelsSpec, PipelineSpec, RunSpec};
use crate::storage::StorageSpec;
use crate::video::Isolation;

/// What an executor has to know of a pipeline besides its stages and its output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoteSettings {
    /// Version of simdrop that made the plan.
    pub simdrop: String,
    /// How object stores are reached.
    pub storage: StorageSpec,
    /// How models are run, where the executor was not told otherwise.
    pub models: ModelsSpec,
    /// Where FFmpeg reads the clips.
    pub isolation: Isolation,
    /// Where relative paths are taken from: the working directory of whoever started the run.
    pub folder: PathBuf,
    /// The files that the stages read, each with the hash of its content: another content would give another dataset.
    pub files: Vec<(String, String)>,
}

impl RemoteSettings {
    /// What has to travel of `spec`, whose stages read `files`.
    pub fn new(spec: &PipelineSpec, files: Vec<(String, String)>) -> Result<Self> {
        // Whoever adds a setting decides here whether executors need it.
        let PipelineSpec { name: _, description: _, sources: _, stages: _, output: _, models, run, storage } = spec;
        let RunSpec { memory_limit: _, threads: _, clips_per_unit: _, max_failures: _, isolation, stall_timeout_s: _ } =
            run;
        let folder = std::env::current_dir().map_err(Error::io("find", "the working directory"))?;
        Ok(Self {
            simdrop: env!("CARGO_PKG_VERSION").to_owned(),
            storage: storage.clone(),
            models: models.clone(),
            isolation: *isolation,
            folder,
            files,
        })
    }
}
