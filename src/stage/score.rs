//! The score stage: every clip with pairs of denoisers.
//!
//! Enters: clips with decoded frames in the size that the denoisers take. Leaves: the same clips with each score and
//! its two losses as columns. A score depends on the clip, the models and the seed alone.

pub mod config;
pub mod loss;
pub mod noise;
mod operator;
pub mod pairs;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};

use self::config::ScoreConfig;
use self::operator::ScoreOperator;
use self::pairs::Plan;
use crate::error::{Error, Result};
use crate::model::ModelRegistry;
use crate::stage::clips::{require_column, require_frames};
use crate::stage::model::columns::{require_numbers, with_outputs};
use crate::stage::{Limits, Operator, Stage, StageContext, frames};

pub use self::noise::export_noise;

/// The score stage.
#[derive(Debug)]
pub struct ScoreStage {
    config: ScoreConfig,
}

impl ScoreStage {
    /// The stage with these settings.
    pub fn new(config: ScoreConfig) -> Self {
        Self { config }
    }
}

impl Stage for ScoreStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("score")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        require_frames(self.name(), input, &self.config.column)?;
        if let Some(condition) = &self.config.condition {
            require_numbers(self.name(), input, condition)?;
        }
        let plan = Plan::of(self.name(), &self.config)?;
        let columns = plan.scores.iter().flat_map(|score| columns(&score.name));
        let numbers = columns.map(|name| Field::new(name, DataType::Float64, true));
        let windowed = plan.scores.iter().filter(|_| self.config.windows.is_some());
        let places = windowed.map(|score| Field::new(frame_column(&score.name), DataType::Int64, true));
        with_outputs(self.name(), input, numbers.chain(places))
    }

    fn limits(&self) -> Limits {
        Limits { rows: 64, bytes: 64 << 20, in_flight: 64 }
    }

    fn open(&self, context: &Arc<StageContext>, input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        let output = self.output_schema(input)?;
        let have = frames::uniform_shape(require_column(self.name(), input, &self.config.column)?);
        Ok(Arc::new(ScoreOperator::open(self.name(), &self.config, &context.models, have, output)?))
    }
}

/// Passes through each model (an ONNX file) that one clip takes.
pub fn passes_per_clip(config: &ScoreConfig) -> Result<Vec<(String, usize)>> {
    let plan = Plan::of("score", config)?;
    Ok(plan.models.into_iter().map(|model| (model.path, model.pairs.len())).collect())
}

/// The columns of a score: itself, the loss of its base and the loss of its reference.
pub fn columns(score: &str) -> [String; 3] {
    [score.to_owned(), format!("{score}_base_loss"), format!("{score}_reference_loss")]
}

/// The column of the first frame of the window that a score is from.
fn frame_column(score: &str) -> String {
    format!("{score}_frame")
}

/// Frames, height and width that the denoisers of a score stage take, for [`export_noise`]; loads the models.
pub fn clip_shape(config: &ScoreConfig, models: &ModelRegistry) -> Result<[usize; 3]> {
    let stage = config.name.as_deref().unwrap_or("score");
    let shape = operator::open_models(stage, config, models)?.shape;
    match shape {
        [Some(frames), Some(height), Some(width)] => Ok([frames, height, width]),
        _ => Err(Error::config(format!(
            "stage {stage}: its denoisers take clips of any size; say which frames, height and width are wanted"
        ))),
    }
}
