//! The plan node that hosts every stage.
//!
//! It owns, once, what all stages need: re-chunking bounded in bytes, a limit of calls in flight, memory in the order
//! of the rows, counters, prompt cancellation, and the way of settled rows around the operator.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio::sync::mpsc::Sender;

use super::rechunk::{self, Chunk};
use crate::error::{Error, Result};
use crate::progress::{Progress, StageCounters};
use crate::spec::StageSpec;
use crate::stage::context::Queue;
use crate::stage::{ClipBatch, Operator, Stage, StageContext, StageTask};

/// Metric: rows that the stage was given to handle.
pub const ROWS_IN: &str = "input_rows";
/// Metric: rows that it dropped.
pub const DROPPED: &str = "dropped";
/// Metric: rows that it failed.
pub const FAILED: &str = "failed";
/// Metric: bytes of the rows that left.
pub const BYTES_OUT: &str = "output_bytes";
/// Metric: most bytes of frames that it held at once.
pub const MEMORY_PEAK: &str = "frames_memory_peak";
/// Metric: processor time.
pub const BUSY: &str = "busy";

/// What a node is made from, and what travels to a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageNode {
    /// The stage.
    pub stage: StageSpec,
    /// Its place in the pipeline, from 0.
    pub index: usize,
    /// Stages of the pipeline that make frames, which share the memory for them.
    pub frame_stages: usize,
}

/// Runs one stage over every partition.
#[derive(Debug)]
pub struct StageExec {
    node: StageNode,
    stage: Arc<dyn Stage>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    operator: Arc<OnceCell<Arc<dyn Operator>>>,
    metrics: ExecutionPlanMetricsSet,
}

impl StageExec {
    /// The node over `input`; the stage's columns are checked, nothing is opened.
    pub fn new(node: StageNode, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let stage = node.stage.stage();
        let schema = stage.output_schema(&input.schema())?;
        let properties = properties(schema, &input);
        Ok(Self { node, stage, input, properties, operator: Arc::default(), metrics: ExecutionPlanMetricsSet::new() })
    }

    /// What the node is made from.
    pub fn node(&self) -> &StageNode {
        &self.node
    }
}

/// Properties of a node that has the partitions of its input.
pub(super) fn properties(schema: SchemaRef, input: &Arc<dyn ExecutionPlan>) -> Arc<PlanProperties> {
    use datafusion::physical_plan::{ExecutionPlanProperties, Partitioning};
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(schema),
        Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// What operators share in this process.
pub(super) fn stage_context(task: &TaskContext) -> Result<(Arc<StageContext>, Arc<Progress>), DataFusionError> {
    let missing = || DataFusionError::from(Error::internal("the session has no stage context"));
    let config = task.session_config();
    Ok((
        config.get_extension::<StageContext>().ok_or_else(missing)?,
        config.get_extension::<Progress>().ok_or_else(missing)?,
    ))
}

impl DisplayAs for StageExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let limits = self.stage.limits();
        write!(
            f,
            "StageExec: {} kind={} rows<={} in_flight={}",
            self.stage.name(),
            self.node.stage.kind(),
            limits.rows,
            limits.in_flight
        )
    }
}

impl ExecutionPlan for StageExec {
    fn name(&self) -> &str {
        "StageExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let input = children.pop().ok_or_else(|| Error::internal("a stage without an input"))?;
        Ok(Arc::new(Self::new(self.node.clone(), input)?))
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> Result<SendableRecordBatchStream, DataFusionError> {
        let (context, progress) = stage_context(&task)?;
        let counters = progress.stage(self.node.index, self.stage.name(), self.node.stage.kind());
        let run = StageRun {
            stage: Arc::clone(&self.stage),
            operator: Arc::clone(&self.operator),
            output: self.schema(),
            input: self.input.execute(partition, task)?,
            node: self.node.clone(),
            rows_out: MetricBuilder::new(&self.metrics).output_rows(partition),
            rows_in: MetricBuilder::new(&self.metrics).counter(ROWS_IN, partition),
            dropped: MetricBuilder::new(&self.metrics).counter(DROPPED, partition),
            failed: MetricBuilder::new(&self.metrics).counter(FAILED, partition),
            bytes_out: MetricBuilder::new(&self.metrics).counter(BYTES_OUT, partition),
            memory: MetricBuilder::new(&self.metrics).gauge(MEMORY_PEAK, partition),
            time: MetricBuilder::new(&self.metrics).subset_time(BUSY, partition),
            context,
            counters,
            progress,
        };
        let mut stream = RecordBatchReceiverStream::builder(self.schema(), 2);
        let sender = stream.tx();
        stream.spawn(async move { Ok(run.drive(sender).await?) });
        Ok(stream.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One partition of a stage while it runs.
struct StageRun {
    stage: Arc<dyn Stage>,
    operator: Arc<OnceCell<Arc<dyn Operator>>>,
    output: SchemaRef,
    input: SendableRecordBatchStream,
    node: StageNode,
    context: Arc<StageContext>,
    counters: Arc<StageCounters>,
    progress: Arc<Progress>,
    rows_out: datafusion::physical_plan::metrics::Count,
    rows_in: datafusion::physical_plan::metrics::Count,
    dropped: datafusion::physical_plan::metrics::Count,
    failed: datafusion::physical_plan::metrics::Count,
    bytes_out: datafusion::physical_plan::metrics::Count,
    memory: datafusion::physical_plan::metrics::Gauge,
    time: Time,
}

impl StageRun {
    async fn drive(mut self, sender: Sender<Result<RecordBatch, DataFusionError>>) -> Result<()> {
        let operator = open(&self.operator, &self.stage, &self.context, self.input.schema()).await;
        let operator = operator.map_err(|error| error.at_stage(self.node.index))?;
        let limits = self.stage.limits();
        let budget = self.context.frames_budget(self.node.index, self.node.frame_stages);
        let busy: Arc<AtomicU64> = Arc::default();
        let (queue, mut turns) = (Queue::default(), 0);
        let mut waiting: std::collections::VecDeque<Chunk> = std::collections::VecDeque::new();
        let mut running: FuturesOrdered<BoxFuture<'static, Result<(bool, ClipBatch)>>> = FuturesOrdered::new();
        let mut ended = false;
        loop {
            while running.len() < limits.in_flight
                && let Some(chunk) = waiting.pop_front()
            {
                self.counters.enter(chunk.clips.rows(), chunk.settled);
                let output = Arc::clone(&self.output);
                if chunk.settled {
                    running
                        .push_back(async move { Ok((true, chunk.clips.with_columns(&output, Vec::new())?)) }.boxed());
                    continue;
                }
                let turn = queue.turn(turns);
                turns += 1;
                let task = StageTask::new(Arc::clone(&self.context), budget.clone(), turn, Arc::clone(&busy));
                let (operator, busy) = (Arc::clone(&operator), Arc::clone(&busy));
                let (rows, progress) = (chunk.clips.rows(), Arc::clone(&self.progress));
                self.rows_in.add(rows);
                let work = async move {
                    let made = operator.process(chunk.clips, &task).await?;
                    progress.expect_more(made.rows().saturating_sub(rows) as u64);
                    Ok((false, made))
                };
                // A task of its own goes on while this one waits for the next stage: what it is handed meanwhile, cores
                // and memory, it uses and gives back.
                let called = SpawnedTask::spawn(Timed { work: work.boxed(), busy });
                running.push_back(async move { called.await.map_err(Error::internal)? }.boxed());
            }
            if running.is_empty() && waiting.is_empty() && ended {
                break;
            }
            tokio::select! {
                biased;
                () = self.context.cancel.cancelled() => return Err(Error::Cancelled),
                Some(made) = running.next(), if !running.is_empty() => {
                    let (settled, made) = made?;
                    self.memory.set_max(usize::try_from(budget.used()).unwrap_or(usize::MAX));
                    self.counters.hold(budget.used());
                    self.count(&made, settled, &busy)?;
                    if sender.send(Ok(made.into_batch())).await.is_err() {
                        return Ok(());
                    }
                }
                next = self.input.next(), if !ended && waiting.is_empty() && running.len() < limits.in_flight => {
                    match next {
                        Some(batch) => waiting.extend(rechunk::chunks(&ClipBatch::new(batch?), &limits)?),
                        None => ended = true,
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&self, made: &ClipBatch, settled: bool, busy: &AtomicU64) -> Result<()> {
        let took = busy.swap(0, Ordering::Relaxed);
        let bytes = rechunk::bytes(made);
        let (dropped, failed) = if settled { (0, 0) } else { rechunk::settled(made)? };
        self.counters.settle(dropped, failed);
        if failed > 0 {
            self.progress.tell_failures(made)?;
        }
        self.counters.leave(made.rows(), bytes, took);
        self.time.add_duration(std::time::Duration::from_nanos(took));
        self.rows_out.add(made.rows());
        self.bytes_out.add(bytes);
        self.dropped.add(dropped as usize);
        self.failed.add(failed as usize);
        Ok(())
    }
}

/// The operator of a node, opened by whichever partition comes first.
async fn open(
    cell: &OnceCell<Arc<dyn Operator>>,
    stage: &Arc<dyn Stage>,
    context: &Arc<StageContext>,
    input: SchemaRef,
) -> Result<Arc<dyn Operator>> {
    let opened = cell.get_or_try_init(|| async {
        let (stage, context) = (Arc::clone(stage), Arc::clone(context));
        tokio::task::spawn_blocking(move || stage.open(&context, &input))
            .await
            .map_err(|error| Error::internal(format!("a stage panicked while it was opened: {error}")))?
    });
    Ok(Arc::clone(opened.await?))
}

/// Adds the time that a future computes for while it is polled.
struct Timed {
    work: BoxFuture<'static, Result<(bool, ClipBatch)>>,
    busy: Arc<AtomicU64>,
}

impl Future for Timed {
    type Output = Result<(bool, ClipBatch)>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        let start = Instant::now();
        let polled = self.work.as_mut().poll(context);
        self.busy.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        polled
    }
}
