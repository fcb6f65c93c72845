//! Stub.

pub mod config;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::config::SplitConfig;
use crate::error::{Error, Result};
use crate::stage::{Operator, Stage, StageContext};

/// The split stage.
#[derive(Debug)]
pub struct SplitStage {
    config: SplitConfig,
}

impl SplitStage {
    /// The stage with these settings.
    pub fn new(config: SplitConfig) -> Self {
        Self { config }
    }
}

impl Stage for SplitStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("split")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn open(&self, _context: &Arc<StageContext>, _input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        Err(Error::internal("not there yet"))
    }
}
