//! Executes a plan in this process.
//!
//! A few work units run at once, each as one partition of the plan; within a unit all stages overlap. What is shared
//! (cores, memory, models) bounds the rest, so more units at once would only wait.

use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::ExecutionPlanProperties;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::{Pending, prepare};
use crate::dataset::Receipt;
use crate::error::{Error, Result};
use crate::plan::{self, sink_exec};
use crate::progress::Progress;
use crate::stage::StageContext;
use crate::storage::Location;

/// Rows in a batch of the manifest.
pub(super) const BATCH_SIZE: usize = 1024;
/// Whether a partition that is done takes files of its neighbours: two units would become one.
pub(super) const WORK_STEALING: &str = "datafusion.execution.enable_file_stream_work_stealing";

/// A session that can execute our plans, whose work units lie at `root`.
pub fn session(context: &Arc<StageContext>, progress: &Arc<Progress>, root: &Location) -> Result<SessionContext> {
    let config = SessionConfig::new()
        .with_batch_size(BATCH_SIZE)
        .set_bool(WORK_STEALING, false)
        .with_extension(Arc::clone(context))
        .with_extension(Arc::clone(progress));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(context.pool())).build_arc()?;
    let session = SessionContext::new_with_config_rt(config, runtime);
    session.register_object_store(plan::store_url(root)?.as_ref(), Arc::clone(root.store()));
    Ok(session)
}

/// Executes the partitions of a plan, a few at a time, until they are done or no more are to be started.
pub(super) async fn execute(
    work: &Pending<'_>,
    context: &Arc<StageContext>,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> Result<Vec<Receipt>> {
    let task = session(context, progress, work.root)?.task_ctx();
    let (plan, partitions) = (work.plan, work.plan.output_partitioning().partition_count());
    futures::stream::iter(0..partitions)
        .take_until(stop.cancelled())
        .map(|partition| {
            let task = Arc::clone(&task);
            async move {
                let batches = plan.execute(partition, task)?.try_collect::<Vec<_>>().await?;
                let receipts = batches.iter().map(sink_exec::decode).collect::<Result<Vec<_>>>()?;
                Ok::<_, Error>(receipts.into_iter().flatten().collect::<Vec<_>>())
            }
        })
        .buffer_unordered(prepare::threads(work.spec).max(2))
        .try_concat()
        .await
}
