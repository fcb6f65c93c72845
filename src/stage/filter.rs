//! The filter stage: keeps the clips for which a SQL expression is true.
//!
//! Enters: clips with the columns that the expression names. Leaves: the same clips; those for which it is false or
//! null are dropped, with the filter's name as the reason and, where one column of numbers decides, its value. A clip
//! for which the expression cannot be computed fails.

pub mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use self::config::FilterConfig;
use crate::error::Result;
use crate::stage::expression::Expression;
use crate::stage::{ClipBatch, Fate, Operator, Stage, StageContext, StageTask};

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
        Expression::compile(self.name(), &self.config.keep, input)?;
        Ok(Arc::clone(input))
    }

    fn open(&self, _context: &Arc<StageContext>, input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        let keep = Expression::compile(self.name(), &self.config.keep, input)?;
        Ok(Arc::new(FilterOperator { name: self.config.name.clone(), keep }))
    }
}

/// A running filter.
#[derive(Debug)]
struct FilterOperator {
    name: String,
    keep: Expression,
}

#[async_trait]
impl Operator for FilterOperator {
    async fn process(&self, clips: ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let start = std::time::Instant::now();
        let numbers = self.keep.numbers(&clips)?;
        let number = |row: usize| numbers.as_ref().filter(|n| n.is_valid(row)).map(|n| n.value(row));
        let fates: Vec<Option<Fate>> = self
            .keep
            .judge(&clips)
            .into_iter()
            .enumerate()
            .map(|(row, answer)| match answer {
                Ok(Some(true)) => None,
                Ok(_) => Some(Fate::dropped(&self.name, number(row))),
                Err(problem) => Some(Fate::failed(problem)),
            })
            .collect();
        let settled = clips.settle(&self.name, &fates);
        task.credit(start.elapsed());
        settled
    }
}
