//! Looks at a run while it goes, and ends one that has failed too often or stands still.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::retry::Again;
use crate::dataset::Receipt;
use crate::error::{Error, Result};
use crate::progress::{Progress, StageView};
use crate::spec::{MaxFailures, PipelineSpec};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Most failed clips of this run, given those of the units that were done before, but for clips that are run again.
pub(super) fn failure_limit<'a>(
    spec: &PipelineSpec,
    clips: usize,
    before: impl Iterator<Item = &'a Receipt>,
    again: &[Again],
) -> Option<FailureLimit> {
    let limit = spec.run.max_failures?;
    let allowed = match limit {
        MaxFailures::Count(count) => count,
        MaxFailures::Share(share) => (share * clips as f64).floor() as u64,
    };
    let before: u64 = before.map(|receipt| receipt.counts.failed).sum();
    let before = before.saturating_sub(again.iter().map(Again::clips).sum());
    Some(FailureLimit { allowed, before, limit })
}

/// How many clips may fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailureLimit {
    allowed: u64,
    /// Those of the units that were done before.
    before: u64,
    limit: MaxFailures,
}

/// Ends when too many clips have failed, when nothing moves for `stall`, or when everything is to stop.
pub(super) async fn watch(
    progress: &Progress,
    limit: Option<FailureLimit>,
    stall: Duration,
    cancel: &CancellationToken,
) -> Error {
    let mut moved = (progress.stages(), progress.units_done(), Instant::now());
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Error::Cancelled,
            () = tokio::time::sleep(PAUSE) => {}
        }
        if let Err(error) = check_failures(progress, limit) {
            return error;
        }
        let (stages, units) = (progress.stages(), progress.units_done());
        if units != moved.1 || !stages.iter().map(flow).eq(moved.0.iter().map(flow)) {
            moved = (stages, units, Instant::now());
        } else if moved.2.elapsed() >= stall {
            return stalled(&stages, stall);
        }
    }
}

/// What changes when a clip enters a stage or leaves it.
fn flow(stage: &StageView) -> (u64, u64) {
    (stage.handled, stage.inside)
}

fn stalled(stages: &[StageView], stall: Duration) -> Error {
    // Those before it wait for it.
    let holder = stages.iter().rev().find(|stage| stage.inside > 0);
    let what = match holder {
        Some(stage) => format!("stage {} holds {} clips, and none has moved", stage.name, stage.inside),
        None => "nothing has moved".to_owned(),
    };
    Error::State(format!(
        "{what} for {} s; the run was ended, and what is done is kept. Run the same command again to go on, with \
         RUST_LOG=debug to see more, or raise run.stall_timeout_s if the stage only takes long",
        stall.as_secs()
    ))
}

pub(super) fn check_failures(progress: &Progress, limit: Option<FailureLimit>) -> Result<()> {
    let Some(FailureLimit { allowed, before, limit }) = limit else { return Ok(()) };
    // On a cluster the stages are known at the end, and what is settled by the units that are done.
    let in_stages = progress.stages().iter().map(|stage| stage.failed).sum::<u64>();
    let failed = before + in_stages.max(progress.settled().failed);
    if failed <= allowed {
        return Ok(());
    }
    let limit = match limit {
        MaxFailures::Count(count) => count.to_string(),
        MaxFailures::Share(share) => format!("{} %", share * 100.0),
    };
    Err(Error::State(format!(
        "{failed} clips have failed, run.max_failures allows {limit}; the units that are done are kept: mend the clips or \
         raise the limit, and run again"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stage_that_holds_clips_is_named() {
        let (progress, cancel) = (Progress::default(), CancellationToken::new());
        progress.stage(0, "decode", "decode").enter(3, false);
        progress.stage(1, "score", "score");
        let error = watch(&progress, None, Duration::from_millis(200), &cancel).await.to_string();
        assert!(error.contains("stage decode holds 3 clips"), "{error}");
    }
}
