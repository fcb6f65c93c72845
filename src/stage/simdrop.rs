//! The simdrop stage: drops the clips whose score is above a threshold.
//!
//! Enters: clips with a score. Leaves: the same clips; those above their threshold are dropped with the score as the
//! number, those that have to be judged and have no score (null or NaN) fail. A clip that `only` leaves out, or whose
//! group has no threshold, is not judged.

pub mod config;
#[cfg(test)]
mod tests;
mod threshold;

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;

use self::config::SimdropConfig;
use self::threshold::Threshold;
use crate::error::{Error, Result};
use crate::stage::clips::require_column;
use crate::stage::expression::{Expression, numbers};
use crate::stage::{ClipBatch, Fate, Operator, Stage, StageContext, StageTask};

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

    /// What needs no file is checked and made ready.
    fn prepare(&self, input: &SchemaRef) -> Result<Option<Expression>> {
        let score = require_column(self.name(), input, &self.config.score)?;
        if !score.data_type().is_numeric() {
            return Err(Error::config(format!(
                "stage {}: column {} is {}, a number was expected",
                self.name(),
                score.name(),
                score.data_type()
            )));
        }
        self.config.only.as_deref().map(|only| Expression::compile(self.name(), only, input)).transpose()
    }
}

impl Stage for SimdropStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("simdrop")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        self.prepare(input)?;
        if let Some(threshold) = threshold::from_config(self.name(), &self.config)? {
            threshold.check(self.name(), input)?;
        }
        Ok(Arc::clone(input))
    }

    fn open(&self, context: &Arc<StageContext>, input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        let only = self.prepare(input)?;
        let threshold = match threshold::from_config(self.name(), &self.config)? {
            Some(threshold) => threshold,
            None => threshold::from_file(self.name(), &self.config, &context.storage)?,
        };
        threshold.check(self.name(), input)?;
        Ok(Arc::new(SimdropOperator {
            name: self.name().to_owned(),
            score: self.config.score.clone(),
            threshold,
            only,
        }))
    }
}

/// A running simdrop stage.
#[derive(Debug)]
struct SimdropOperator {
    name: String,
    score: String,
    threshold: Threshold,
    only: Option<Expression>,
}

#[async_trait]
impl Operator for SimdropOperator {
    async fn process(&self, clips: ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let start = std::time::Instant::now();
        let settled = clips.settle(&self.name, &self.fates(&clips)?);
        task.credit(start.elapsed());
        settled
    }
}

impl SimdropOperator {
    fn fates(&self, clips: &ClipBatch) -> Result<Vec<Option<Fate>>> {
        let scores = numbers(clips.column(&self.score)?)?;
        let groups = match &self.threshold {
            Threshold::One(_) => None,
            Threshold::Groups(groups) => {
                let text = cast(clips.column(&groups.by)?, &DataType::Utf8)?;
                Some(text.as_string::<i32>().clone())
            }
        };
        let judged = match &self.only {
            Some(only) => only.judge(clips),
            None => vec![Ok(Some(true)); clips.rows()],
        };
        let judge = |(row, answer): (usize, Result<Option<bool>, String>)| match answer {
            Err(problem) => Some(Fate::failed(problem)),
            Ok(Some(true)) => {
                let score = scores.is_valid(row).then(|| scores.value(row));
                self.judge(score, groups.as_ref().and_then(|groups| text(groups, row)))
            }
            Ok(_) => None,
        };
        Ok(judged.into_iter().enumerate().map(judge).collect())
    }

    fn judge(&self, score: Option<f64>, group: Option<&str>) -> Option<Fate> {
        let limit = self.threshold.limit(group)?;
        match score {
            None => Some(Fate::failed(format!("{} is null: the clip has no score to judge it by", self.score))),
            Some(score) if score.is_nan() => {
                Some(Fate::failed(format!("{} is not a number: the clip has no score to judge it by", self.score)))
            }
            Some(score) if score > limit => {
                let reason = format!("{} above {limit}{}", self.score, self.threshold.of_group(group));
                Some(Fate::dropped(reason, Some(score)))
            }
            Some(_) => None,
        }
    }
}

fn text(array: &StringArray, row: usize) -> Option<&str> {
    array.is_valid(row).then(|| array.value(row))
}
