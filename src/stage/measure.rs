//! The measure stage: numbers of a clip's frames, without any model.
//!
//! Enters: a frames column. Leaves: a column for each measure; null where a clip has too few frames or pixels for it.

pub mod config;
mod measures;

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;

use self::config::MeasureConfig;
use self::measures::Luma;
use crate::error::Result;
use crate::stage::clips::require_frames;
use crate::stage::model::columns::with_outputs;
use crate::stage::{ClipBatch, Limits, Operator, Stage, StageContext, StageTask, frames};

/// The measure stage.
#[derive(Debug)]
pub struct MeasureStage {
    config: MeasureConfig,
}

impl MeasureStage {
    /// The stage with these settings.
    pub fn new(config: MeasureConfig) -> Self {
        Self { config }
    }
}

/// The columns that a stage makes.
pub fn columns(config: &MeasureConfig) -> Vec<String> {
    config.measures.iter().map(|measure| format!("{}{}", config.prefix, measure.as_str())).collect()
}

impl Stage for MeasureStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("measure")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        require_frames(self.name(), input, &self.config.column)?;
        let fields = columns(&self.config).into_iter().map(|name| Field::new(name, DataType::Float64, true));
        with_outputs(self.name(), input, fields)
    }

    fn limits(&self) -> Limits {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Limits { rows: 1, in_flight: 2 * cores, ..Limits::default() }
    }

    fn open(&self, _context: &Arc<StageContext>, input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        let output = self.output_schema(input)?;
        Ok(Arc::new(MeasureOperator { config: self.config.clone(), columns: columns(&self.config), output }))
    }
}

#[derive(Debug)]
struct MeasureOperator {
    config: MeasureConfig,
    columns: Vec<String>,
    output: SchemaRef,
}

#[async_trait]
impl Operator for MeasureOperator {
    async fn process(&self, clips: ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let (column, measures, rows) = (self.config.column.clone(), self.config.measures.clone(), clips.clone());
        let work = move || -> Result<Vec<Vec<Option<f64>>>> {
            let frames = rows.column(&column)?;
            let mut measured = vec![Vec::with_capacity(rows.rows()); measures.len()];
            for row in 0..rows.rows() {
                let luma = frames::view(frames, row)?.as_ref().map(Luma::of);
                for (measure, values) in measures.iter().zip(&mut measured) {
                    values.push(luma.as_ref().and_then(|luma| luma.measure(*measure)));
                }
            }
            Ok(measured)
        };
        let measured = task.blocking(work).await??;
        let columns = self.columns.iter().zip(measured);
        let columns =
            columns.map(|(name, values)| (name.as_str(), Arc::new(Float64Array::from(values)) as ArrayRef)).collect();
        clips.with_columns(&self.output, columns)
    }
}
