//! The embed stage: texts as numbers.
//!
//! Enters: a column of text. Leaves: a column of lists of numbers, null where the text is null.

pub mod config;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, Float32Builder, ListBuilder};
use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;

use self::config::EmbedConfig;
use crate::error::Result;
use crate::model::text::TextEncoder;
use crate::stage::clips::require_text;
use crate::stage::model::columns::with_outputs;
use crate::stage::{ClipBatch, Limits, Operator, Stage, StageContext, StageTask};

/// The embed stage.
#[derive(Debug)]
pub struct EmbedStage {
    config: EmbedConfig,
}

impl EmbedStage {
    /// The stage with these settings.
    pub fn new(config: EmbedConfig) -> Self {
        Self { config }
    }
}

fn item() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Float32, true))
}

impl Stage for EmbedStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("embed")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        require_text(self.name(), input, &self.config.column)?;
        with_outputs(self.name(), input, [Field::new(&self.config.output, DataType::List(item()), true)])
    }

    fn limits(&self) -> Limits {
        Limits { rows: 64, in_flight: 4, ..Limits::default() }
    }

    fn open(&self, context: &Arc<StageContext>, input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        let encoder = context.models.text_encoder(&self.config.model)?;
        let output = self.output_schema(input)?;
        Ok(Arc::new(EmbedOperator { config: self.config.clone(), encoder, output }))
    }
}

#[derive(Debug)]
struct EmbedOperator {
    config: EmbedConfig,
    /// One for all partitions; a text takes it milliseconds.
    encoder: Arc<Mutex<TextEncoder>>,
    output: SchemaRef,
}

#[async_trait]
impl Operator for EmbedOperator {
    async fn process(&self, clips: ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let (texts, encoder) = (clips.text(&self.config.column)?.clone(), Arc::clone(&self.encoder));
        let work = move || -> Result<ArrayRef> {
            let mut encoder = encoder.lock().unwrap_or_else(PoisonError::into_inner);
            let mut lists = ListBuilder::new(Float32Builder::new()).with_field(item());
            for row in 0..texts.len() {
                if texts.is_valid(row) {
                    lists.values().append_slice(&encoder.encode(texts.value(row))?);
                }
                lists.append(texts.is_valid(row));
            }
            Ok(Arc::new(lists.finish()))
        };
        let column = task.blocking(work).await??;
        clips.with_columns(&self.output, vec![(self.config.output.as_str(), column)])
    }
}
