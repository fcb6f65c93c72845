//! Stub.

pub mod config;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::config::CaptionConfig;
use crate::error::{Error, Result};
use crate::stage::{Operator, Stage, StageContext};

/// The caption stage.
#[derive(Debug)]
pub struct CaptionStage {
    config: CaptionConfig,
}

impl CaptionStage {
    /// The stage with these settings.
    pub fn new(config: CaptionConfig) -> Self {
        Self { config }
    }
}

impl Stage for CaptionStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("caption")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn open(&self, _context: &Arc<StageContext>, _input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        Err(Error::internal("not there yet"))
    }
}
