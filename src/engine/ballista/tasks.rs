//! Gives the tasks of an executor what our plan nodes need.
//!
//! A thin layer over Ballista's own engine: a task whose plan has a sink gets the context of its pipeline, the store that
//! its work units lie in, and a signal that ends it when Ballista drops it. Without the last, a cancelled task would
//! compute to its end, since Ballista's shuffle writer is detached from it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::BallistaError;
use ballista_core::serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;
use object_store::ObjectStore;
use tokio_util::sync::CancellationToken;

use super::contexts::{self, Contexts};
use super::pool::ConnectionPool;
use crate::engine::local;
use crate::error::Error;
use crate::plan::{self, SinkExec, SinkSpec};
use crate::progress::Progress;
use crate::storage::Location;

/// Ballista's engine, for our plans.
pub(super) struct TaskEngine {
    ballista: DefaultExecutionEngine,
    contexts: Arc<Contexts>,
}

impl TaskEngine {
    pub(super) fn new(contexts: Contexts) -> Self {
        let ballista = DefaultExecutionEngine::with_client_pool(Arc::new(ConnectionPool::default()));
        Self { ballista, contexts: Arc::new(contexts) }
    }
}

impl ExecutionEngine for TaskEngine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        partitions: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let sink = plan::stages(&plan).iter().find_map(|node| Some(node.downcast_ref::<SinkExec>()?.spec().clone()));
        let Some(sink) = sink else {
            return self
                .ballista
                .create_query_stage_exec(job_id, stage_id, task_id, partitions, plan, work_dir, config);
        };
        let root = contexts::storage(contexts::settings(&sink)?).locate(&sink.output.path)?;
        let plan = read_from(plan, root.store())?;
        let inner =
            self.ballista.create_query_stage_exec(job_id, stage_id, task_id, partitions, plan, work_dir, config)?;
        Ok(Arc::new(UnitTask { inner, sink, root, contexts: Arc::clone(&self.contexts) }))
    }
}

/// The plan with its scan reading from `store`, in place of the one that it was decoded with.
fn read_from(plan: Arc<dyn ExecutionPlan>, store: &Arc<dyn ObjectStore>) -> Result<Arc<dyn ExecutionPlan>> {
    let reads = plan.transform_up(|node| {
        let config =
            node.downcast_ref::<DataSourceExec>().and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>());
        let Some(config) = config else { return Ok(Transformed::no(node)) };
        let Some(source) = config.file_source().downcast_ref::<ParquetSource>() else {
            return Ok(Transformed::no(node));
        };
        let readers = Arc::new(DefaultParquetFileReaderFactory::new(Arc::clone(store)));
        let source = Arc::new(source.clone().with_parquet_file_reader_factory(readers));
        let config = FileScanConfigBuilder::from(config.clone()).with_source(source).build();
        Ok(Transformed::yes(DataSourceExec::from_data_source(config)))
    })?;
    Ok(reads.data)
}

/// The error as the text of ours that is behind it, which is all that Ballista passes on; one that is tried again stays.
fn plain(error: DataFusionError) -> DataFusionError {
    said(&error).map_or(error, DataFusionError::Execution)
}

/// What simdrop said, under what DataFusion and Ballista put around it.
fn said(error: &DataFusionError) -> Option<String> {
    let DataFusionError::External(inner) = error.find_root() else { return None };
    if let Some(BallistaError::DataFusionError(inner)) = inner.downcast_ref::<BallistaError>() {
        return said(inner);
    }
    let ours = inner.downcast_ref::<Error>().filter(|error| !error.is_transient())?;
    Some(ours.to_string().trim_start_matches("External error: ").to_owned())
}

/// A task over one work unit.
#[derive(Debug)]
struct UnitTask {
    inner: Arc<dyn QueryStageExecutor>,
    sink: SinkSpec,
    root: Location,
    contexts: Arc<Contexts>,
}

impl fmt::Display for UnitTask {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for UnitTask {
    async fn execute_query_stage(&self, task_id: usize, task: Arc<TaskContext>) -> Result<Vec<ShuffleWritePartition>> {
        let shared = self.contexts.of(&self.sink).await.map_err(|error| plain(error.into()))?;
        let cancel = CancellationToken::new();
        let _ends_it = cancel.clone().drop_guard();
        let context = Arc::new(shared.for_task(cancel));
        let progress = Arc::new(Progress::default());
        let runtime = local::session(&context, &progress, &self.root)?.runtime_env();
        let config = task.session_config().clone().with_extension(context).with_extension(progress);
        let task = TaskContext::new(
            task.task_id(),
            task.session_id(),
            config,
            task.scalar_functions().clone(),
            task.higher_order_functions().clone(),
            task.aggregate_functions().clone(),
            task.window_functions().clone(),
            runtime,
        );
        self.inner.execute_query_stage(task_id, Arc::new(task)).await.map_err(plain)
    }

    /// None: the scheduler copies those of all tasks whenever one ends. The receipt has what was measured.
    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        Vec::new()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Ballista's shuffle writer hands an error of a node on.
    fn wrapped(error: Error) -> DataFusionError {
        let error = DataFusionError::Shared(Arc::new(error.into()));
        DataFusionError::External(Box::new(BallistaError::DataFusionError(Box::new(error))))
    }

    #[test]
    fn an_error_is_passed_on_in_our_words_unless_it_is_tried_again() {
        let said = plain(wrapped(Error::config("no such column; mend it")));
        assert!(matches!(said, DataFusionError::Execution(text) if text == "no such column; mend it"));
        let source = object_store::Error::Generic { store: "s3", source: "reset".into() };
        let kept = plain(wrapped(Error::storage("write", "s3://a/b")(source)));
        let failed = ballista_core::serde::protobuf::FailedTask::from(BallistaError::from(kept));
        assert!(failed.retryable, "{failed:?}");
    }
}
