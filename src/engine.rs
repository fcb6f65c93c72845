//! Runs a pipeline: from the specification to a committed dataset.

pub mod ballista;
pub mod local;
pub mod prepare;
pub mod retry;
pub mod run;
mod watchdog;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use tokio_util::sync::CancellationToken;

pub use self::retry::Retry;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::manifest::Unit;
use crate::progress::Progress;
use crate::spec::PipelineSpec;
use crate::stage::StageContext;
use crate::storage::Location;

/// What executes the plan of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Engine {
    /// This process.
    #[default]
    Local,
    /// A cluster of Ballista's.
    Cluster(ballista::Address),
}

impl FromStr for Engine {
    type Err = Error;

    /// Reads `local` or `df://HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match (text, text.strip_prefix("df://")) {
            ("local", _) => Ok(Self::Local),
            (_, Some(address)) => Ok(Self::Cluster(address.parse()?)),
            _ => {
                Err(Error::config(format!("`{text}` is no engine: write `local`, or `df://HOST:PORT` of a scheduler")))
            }
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Cluster(address) => write!(f, "df://{address}"),
        }
    }
}

/// What a run is asked for.
#[derive(Debug)]
pub struct RunRequest {
    /// The pipeline.
    pub spec: PipelineSpec,
    /// What executes it.
    pub engine: Engine,
    /// Whether another pipeline's dataset at the output may be replaced.
    pub overwrite: bool,
    /// Which clips that have failed are run again.
    pub retry: Option<Retry>,
    /// What the operators share; `prepare::context` makes it.
    pub context: Arc<StageContext>,
    /// Where the run counts.
    pub progress: Arc<Progress>,
    /// No new work unit is started once this is cancelled; those under way are finished, on a cluster broken off.
    /// `context.cancel` ends everything.
    pub stop: CancellationToken,
}

/// The work units that are left to do.
#[derive(Debug)]
struct Pending<'a> {
    spec: &'a PipelineSpec,
    /// The plan over them, a partition a unit, in their order.
    plan: &'a Arc<dyn ExecutionPlan>,
    /// Where they lie and their receipts go.
    root: &'a Location,
    fingerprint: &'a str,
    units: &'a [&'a Unit],
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
