//! The model stage: any ONNX model over frames or columns of numbers.
//!
//! Enters: clips with the columns that feed the model. Leaves: the same clips with the model's outputs as columns, one
//! value a clip.

pub mod columns;
pub mod config;
mod inputs;
mod operator;
mod outputs;
mod pixels;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::columns::{require_numbers, with_outputs};
use self::config::ModelConfig;
use self::operator::ModelOperator;
use crate::error::{Error, Result};
use crate::schema;
use crate::stage::clips::require_column;
use crate::stage::{Limits, Operator, Stage, StageContext};

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
        if self.config.inputs.is_empty() || self.config.outputs.is_empty() {
            let stage = self.name();
            return Err(Error::config(format!("stage {stage}: it needs at least one of inputs and one of outputs")));
        }
        for feed in &self.config.inputs {
            if !schema::is_frames(require_column(self.name(), input, &feed.column)?) {
                require_numbers(self.name(), input, &feed.column)?;
            }
        }
        let fields = self.config.outputs.iter().map(|output| outputs::field(self.name(), output));
        with_outputs(self.name(), input, fields.collect::<Result<Vec<_>>>()?)
    }

    fn limits(&self) -> Limits {
        Limits { rows: 64, bytes: 64 << 20, in_flight: 64 }
    }

    fn open(&self, context: &Arc<StageContext>, input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        let output = self.output_schema(input)?;
        Ok(Arc::new(ModelOperator::open(self.name(), &self.config, &context.models, input, output)?))
    }
}
