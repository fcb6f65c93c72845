//! Stub.

pub mod config;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::config::SimdropConfig;
use crate::error::{Error, Result};
use crate::stage::{Operator, Stage, StageContext};

/// The simdrop stage.
#[derive(Debug)]
pub struct SimdropStage {
    config: SimdropConfig,
}

impl SimdropStage {
    /// The stage with these settings.
    pub fn new(config: SimdropConfig) -> Self {
        Self { config }
    }
}

impl Stage for SimdropStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("simdrop")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        Ok(Arc::clone(input))
    }

    fn open(&self, _context: &Arc<StageContext>, _input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        Err(Error::internal("not there yet"))
    }
}
