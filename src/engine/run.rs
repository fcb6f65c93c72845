//! The driver: lists the sources, skips what is done, has an engine execute the rest, and commits.
//!
//! Everything but the execution of the plan happens here, whichever engine does it: the receipts of the work units are
//! all that comes back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use parquet::arrow::ArrowWriter;

use super::retry;
use super::{Engine, Pending, RunOutcome, RunRequest, local, prepare, watchdog};
use crate::commit::{self, OutputLock};
use crate::dataset::{Counts, Dataset, Receipt, RunEntry};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, Unit};
use crate::plan::{self, RemoteSettings};
use crate::spec::{self, PipelineSpec};
use crate::stage::StageContext;
use crate::storage::Location;

/// Files of work units that are written at once.
const UNIT_WRITES: usize = 16;

/// Runs the pipeline and commits its dataset.
pub async fn run(request: RunRequest) -> Result<RunOutcome> {
    let RunRequest { spec, engine, overwrite, retry, context, progress, stop } = request;
    let started_at = commit::now();
    let cluster = match &engine {
        Engine::Local => None,
        // Whether it is there is known before any work is done.
        Engine::Cluster(address) => Some(address.join(&progress).await?),
    };
    let stage_files = prepare::files(&spec, &context.storage)?;
    let fingerprint = spec::fingerprint(&spec, stage_files.clone())?;
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
    progress.expect(pending.iter().map(|unit| unit.clips() as u64).sum());
    progress.expect_units(pending.len() as u64);
    let writes = pending.iter().map(|unit| write_unit(&root, &fingerprint, unit));
    let files = futures::stream::iter(writes).buffered(UNIT_WRITES).try_collect().await?;
    let remote = cluster.as_ref().map(|_| RemoteSettings::new(&spec, stage_files)).transpose()?;
    let plan = plan::build(&spec, &fingerprint, &manifest.schema, &root, files, remote)?;
    let limit = watchdog::failure_limit(&spec, manifest.clips(), receipts.values().chain(tried.values()), &again);
    let stall = Duration::from_secs(spec.run.stall_timeout_s);
    let work = Pending { spec: &spec, plan: &plan, root: &root, fingerprint: &fingerprint, units: &pending };
    let done = tokio::select! {
        done = async { match &cluster {
            None => local::execute(&work, &context, &progress, &stop).await,
            Some(cluster) => cluster.execute(&work, &progress, &stop).await,
        } } => done,
        error = watchdog::watch(&progress, limit, stall, &context.cancel) => Err(error),
    };
    // Threads that still compute look at this and end.
    context.cancel.cancel();
    if let (Err(_), Some(cluster)) = (&done, &cluster) {
        cluster.cancel().await;
    }
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
        providers: cluster.as_ref().map_or_else(|| context.models.providers_used(), |cluster| cluster.providers_used()),
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

async fn write_unit(root: &Location, fingerprint: &str, unit: &Unit) -> Result<ObjectMeta> {
    let file = commit::unit_file(root, fingerprint, &unit.id);
    let rows = unit.rows()?;
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None)?;
    writer.write(&rows)?;
    let bytes = writer.into_inner()?;
    let (location, size) = (file.path().clone(), bytes.len() as u64);
    file.write(bytes).await?;
    // Its name says what is in it: no other version is to be told from it.
    Ok(ObjectMeta { location, last_modified: DateTime::UNIX_EPOCH, size, e_tag: None, version: None })
}
