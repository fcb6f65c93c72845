//! Runs a pipeline: from the specification to a committed dataset.

pub mod local;
pub mod prepare;
pub mod retry;
mod watchdog;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use self::retry::Retry;
use crate::dataset::Dataset;
use crate::progress::Progress;
use crate::spec::PipelineSpec;
use crate::stage::StageContext;

/// What a run is asked for.
#[derive(Debug)]
pub struct RunRequest {
    /// The pipeline.
    pub spec: PipelineSpec,
    /// Whether another pipeline's dataset at the output may be replaced.
    pub overwrite: bool,
    /// Which clips that have failed are run again.
    pub retry: Option<Retry>,
    /// What the operators share; `prepare::context` makes it.
    pub context: Arc<StageContext>,
    /// Where the run counts.
    pub progress: Arc<Progress>,
    /// No new work unit is started once this is cancelled; those under way are finished. `context.cancel` ends
    /// everything.
    pub stop: CancellationToken,
}

/// What a run came to.
#[derive(Debug)]
pub struct RunOutcome {
    /// The dataset.
    pub dataset: Dataset,
    /// Whether there was nothing left to do.
    pub up_to_date: bool,
    /// The plan with its metrics, as text; none where nothing was left to do.
    pub plan: Option<String>,
}
