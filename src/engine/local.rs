//! Runs a pipeline in this process.
//!
//! A few work units run at once, each as one partition of the plan; within a unit all stages overlap. What is shared
//! (cores, memory, models) bounds the rest, so more units at once would only wait.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ArrowWriter;

use super::retry;
use super::{RunOutcome, RunRequest, prepare, watchdog};
use crate::commit::{self, OutputLock};
use crate::dataset::{Counts, Dataset, Receipt, RunEntry};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, Unit};
use crate::plan::{self, sink_exec};
use crate::progress::Progress;
use crate::spec::PipelineSpec;
use crate::stage::StageContext;
use crate::storage::Location;

/// A session that can execute our plans, whose work units lie at `root`.
pub fn session(context: &Arc<StageContext>, progress: &Arc<Progress>, root: &Location) -> Result<SessionContext> {
    let config = SessionConfig::new()
        .with_batch_size(1024)
        .set_bool("datafusion.execution.enable_file_stream_work_stealing", false)
        .with_extension(Arc::clone(context))
        .with_extension(Arc::clone(progress));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(context.pool())).build_arc()?;
    let session = SessionContext::new_with_config_rt(config, runtime);
    session.register_object_store(plan::store_url(root)?.as_ref(), Arc::clone(root.store()));
    Ok(session)
}

/// Runs the pipeline and commits its dataset.
pub async fn run(request: RunRequest) -> Result<RunOutcome> {
    let RunRequest { spec, overwrite, retry, context, progress, stop } = request;
    let started_at = commit::now();
    let fingerprint = prepare::fingerprint(&spec, &context.storage)?;
    let root = context.storage.locate(&spec.output.path)?;
    let _lock = OutputLock::take(&root)?;
    // A retry says by itself what it takes.
    let previous = commit::open_output(&root, &fingerprint, overwrite || retry.is_some()).await?;
    let committed = previous.as_ref().filter(|dataset| dataset.fingerprint == fingerprint);
    if retry.is_some() {
        retry::committed(&root, previous.as_ref(), &fingerprint)?;
    }
    let manifest = list(&spec, &fingerprint, &context).await?;
    let ids: HashSet<&str> = manifest.units.iter().map(|unit| unit.id.as_str()).collect();
    let mut receipts = commit::read_receipts(&root, &fingerprint, committed, &ids).await?;
    let again = match (&retry, committed) {
        (Some(retry), Some(dataset)) => retry::find(&root, dataset, retry, &manifest, &receipts).await?,
        _ => Vec::new(),
    };
    let same = committed.filter(|dataset| lists(dataset, &manifest));
    if let Some(dataset) = same.filter(|_| receipts.is_empty() && retry.is_none())
        && commit::is_whole(&root, dataset).await?
    {
        // What a resume reads was removed, which costs nothing as long as there is nothing to do.
        return Ok(RunOutcome { dataset: dataset.clone(), up_to_date: true, plan: None });
    }
    let mut pending: Vec<&Unit> = manifest.units.iter().filter(|unit| !receipts.contains_key(&unit.id)).collect();
    let units = pending.len() + again.len();
    let resumed = manifest.units.len() - units;
    if units == 0
        && let Some(dataset) = same
    {
        return Ok(RunOutcome { dataset: dataset.clone(), up_to_date: true, plan: None });
    }
    tracing::info!("{} clips in {} work units, {resumed} of them done before", manifest.clips(), manifest.units.len());
    // Of clips that are run again, a run that was killed may have left some done.
    let ids: HashSet<&str> = again.iter().map(|again| again.unit.id.as_str()).collect();
    let mut tried = commit::read_receipts(&root, &fingerprint, None, &ids).await?;
    pending.extend(again.iter().map(|again| &again.unit).filter(|unit| !tried.contains_key(&unit.id)));
    progress.expect(pending.iter().map(|unit| unit.rows.num_rows() as u64).sum());
    let mut files = Vec::with_capacity(pending.len());
    for unit in &pending {
        files.push(write_unit(&root, &fingerprint, unit).await?);
    }
    let plan = plan::build(&spec, &fingerprint, &manifest.schema, &root, files)?;
    let task = session(&context, &progress, &root)?.task_ctx();
    let limit = watchdog::failure_limit(&spec, manifest.clips(), receipts.values().chain(tried.values()), &again);
    let stall = Duration::from_secs(spec.run.stall_timeout_s);
    let done = tokio::select! {
        done = execute(&plan, &task, &stop, prepare::threads(&spec).max(2)) => done,
        error = watchdog::watch(&progress, limit, stall, &context.cancel) => Err(error),
    };
    // Threads that still compute look at this and end.
    context.cancel.cancel();
    let done = done?;
    watchdog::check_failures(&progress, limit)?;
    let counts = done.iter().fold(Counts::default(), |mut sum, receipt| {
        sum.add(receipt.counts);
        sum
    });
    let (more, done): (Vec<Receipt>, Vec<Receipt>) =
        done.into_iter().partition(|receipt| ids.contains(receipt.unit.as_str()));
    receipts.extend(done.into_iter().map(|receipt| (receipt.unit.clone(), receipt)));
    tried.extend(more.into_iter().map(|receipt| (receipt.unit.clone(), receipt)));
    let missing = manifest.units.len() - receipts.len() + again.len() - tried.len();
    if missing > 0 {
        let missing = format!("{missing} of {units} work units left no receipt");
        return Err(if stop.is_cancelled() { Error::Cancelled } else { Error::internal(missing) });
    }
    for again in &again {
        again.merge(&root, &mut receipts, &tried, &context.cpu).await?;
    }
    let ordered: Vec<Receipt> = manifest.units.iter().filter_map(|unit| receipts.remove(&unit.id)).collect();
    let run = RunEntry {
        run: 0,
        started_at,
        seconds: progress.elapsed().as_secs_f64(),
        units: units as u64,
        units_resumed: resumed as u64,
        counts,
        providers: context.models.providers_used(),
        peak_memory: prepare::peak_memory(),
        stages: progress.stages().iter().map(Into::into).collect(),
    };
    let dataset = commit::commit(&root, previous.as_ref(), &spec, &fingerprint, ordered, run).await?;
    for receipt in tried.values() {
        // Its rows stand in another file now. What cannot be removed is listed nowhere.
        if let Err(error) = root.join(&receipt.clips.path).delete().await {
            tracing::warn!("{error}");
        }
    }
    let plan = DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(true).to_string();
    Ok(RunOutcome { dataset, up_to_date: false, plan: Some(plan) })
}

/// Lists the sources on a thread of its own.
pub async fn list(spec: &PipelineSpec, fingerprint: &str, context: &Arc<StageContext>) -> Result<Manifest> {
    let (spec, fingerprint, storage) = (spec.clone(), fingerprint.to_owned(), context.storage.clone());
    tokio::task::spawn_blocking(move || Manifest::list(&spec, &fingerprint, &storage))
        .await
        .map_err(|error| Error::internal(format!("listing the sources panicked: {error}")))?
}

fn lists(dataset: &Dataset, manifest: &Manifest) -> bool {
    dataset.clips.iter().map(|clips| &clips.unit).eq(manifest.units.iter().map(|unit| &unit.id))
}

async fn write_unit(root: &Location, fingerprint: &str, unit: &Unit) -> Result<object_store::ObjectMeta> {
    let file = commit::unit_file(root, fingerprint, &unit.id);
    let mut writer = ArrowWriter::try_new(Vec::new(), unit.rows.schema(), None)?;
    writer.write(&unit.rows)?;
    file.write(writer.into_inner()?).await?;
    commit::stat(&file).await
}

/// Executes the partitions of a plan, `at_once` at a time, until they are done or no more are to be started.
async fn execute(
    plan: &Arc<dyn ExecutionPlan>,
    task: &Arc<TaskContext>,
    stop: &tokio_util::sync::CancellationToken,
    at_once: usize,
) -> Result<Vec<Receipt>> {
    use datafusion::physical_plan::ExecutionPlanProperties;
    let partitions = plan.output_partitioning().partition_count();
    futures::stream::iter(0..partitions)
        .take_until(stop.cancelled())
        .map(|partition| async move {
            let batches = plan.execute(partition, Arc::clone(task))?.try_collect::<Vec<_>>().await?;
            let receipts = batches.iter().map(sink_exec::decode).collect::<Result<Vec<_>>>()?;
            Ok::<_, Error>(receipts.into_iter().flatten().collect::<Vec<_>>())
        })
        .buffer_unordered(at_once)
        .try_concat()
        .await
}
