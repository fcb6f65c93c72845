//! Stub.

pub mod config;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::config::FilterConfig;
use crate::error::{Error, Result};
use crate::stage::{Operator, Stage, StageContext};

/// The filter stage.
#[derive(Debug)]
pub struct FilterStage {
    config: FilterConfig,
}

impl FilterStage {
    /// The stage with these settings.
    pub fn new(config: FilterConfig) -> Self {
        Self { config }
    }
}

impl Stage for FilterStage {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn open(&self, _context: &Arc<StageContext>, _input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        Err(Error::internal("not there yet"))
    }
}
