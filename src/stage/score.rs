//! Stub.

pub mod config;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::config::ScoreConfig;
use crate::error::{Error, Result};
use crate::stage::{Operator, Stage, StageContext};

/// The score stage.
#[derive(Debug)]
pub struct ScoreStage {
    config: ScoreConfig,
}

impl ScoreStage {
    /// The stage with these settings.
    pub fn new(config: ScoreConfig) -> Self {
        Self { config }
    }
}

impl Stage for ScoreStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("score")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn open(&self, _context: &Arc<StageContext>, _input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        Err(Error::internal("not there yet"))
    }
}
