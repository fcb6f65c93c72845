//! Stub.

pub mod config;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::config::ModelConfig;
use crate::error::{Error, Result};
use crate::stage::{Operator, Stage, StageContext};

/// The model stage.
#[derive(Debug)]
pub struct ModelStage {
    config: ModelConfig,
}

impl ModelStage {
    /// The stage with these settings.
    pub fn new(config: ModelConfig) -> Self {
        Self { config }
    }
}

impl Stage for ModelStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("model")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn open(&self, _context: &Arc<StageContext>, _input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        Err(Error::internal("not there yet"))
    }
}
