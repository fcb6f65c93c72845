//! Stub.

pub mod config;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::config::DecodeConfig;
use crate::error::{Error, Result};
use crate::stage::{Operator, Stage, StageContext};

/// The decode stage.
#[derive(Debug)]
pub struct DecodeStage {
    config: DecodeConfig,
}

impl DecodeStage {
    /// The stage with these settings.
    pub fn new(config: DecodeConfig) -> Self {
        Self { config }
    }
}

impl Stage for DecodeStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("decode")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn open(&self, _context: &Arc<StageContext>, _input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        Err(Error::internal("not there yet"))
    }
}
