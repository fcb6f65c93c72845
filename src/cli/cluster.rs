//! The processes of a cluster.

use tokio_util::sync::CancellationToken;

use super::{pipeline, print};
use crate::engine::ballista::{self, ExecutorOptions, SchedulerOptions};
use crate::error::Result;

/// Serves until it is told to end.
pub(super) async fn scheduler(options: SchedulerOptions) -> Result<()> {
    let (stop, cancel) = (CancellationToken::new(), CancellationToken::new());
    tokio::select! {
        done = ballista::serve(&options, |address| print(&format!("scheduler at df://{address}\n"))) => done,
        // Runs are not waited for: their clients say that the scheduler is gone, and go on where they were.
        () = stop.cancelled() => Ok(()),
        error = pipeline::interrupts(&stop, &cancel, "") => Err(error),
    }
}

/// Takes tasks until it is told to end.
pub(super) async fn executor(options: ExecutorOptions) -> Result<()> {
    ballista::join(&options).await
}
