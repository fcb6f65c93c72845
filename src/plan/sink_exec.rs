//! The last node of the plan: writes the shards and the metadata of every work unit and emits its receipt.
//!
//! A partition is a unit. The receipt is written last, under a name made from the unit alone: it is what makes a unit
//! done, and what makes doing it twice harmless.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::stage_exec::{BUSY, BYTES_OUT, ROWS_IN, properties, stage_context};
use super::{RemoteSettings, rechunk, unit_of};
use crate::commit;
use crate::dataset::{Measured, Receipt};
use crate::error::{Error, Result};
use crate::progress::{Progress, StageCounters};
use crate::schema;
use crate::spec::OutputSpec;
use crate::stage::context::Queue;
use crate::stage::shards::{ShardTarget, ShardWriter};
use crate::stage::{ClipBatch, StageContext, StageTask};

/// Name of the sink as a stage.
pub const STAGE: &str = "shards";
/// Column of a receipt in JSON.
const RECEIPT: &str = "receipt";

/// What the node is made from, and what travels to a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkSpec {
    /// Where the dataset goes.
    pub output: OutputSpec,
    /// Name of the dataset.
    pub name: String,
    /// Fingerprint of the pipeline.
    pub fingerprint: String,
    /// Place in the pipeline: the number of stages before.
    pub index: usize,
    /// What another machine has to know of the pipeline besides; none where the plan runs in the process that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteSettings>,
}

/// Writes what arrives.
#[derive(Debug)]
pub struct SinkExec {
    spec: SinkSpec,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SinkExec {
    /// The node over `input`.
    pub fn new(spec: SinkSpec, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = properties(receipt_schema(), &input);
        Self { spec, input, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// What the node is made from.
    pub fn spec(&self) -> &SinkSpec {
        &self.spec
    }
}

fn receipt_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(schema::UNIT, DataType::Utf8, false),
        Field::new(RECEIPT, DataType::Utf8, false),
    ]))
}

impl DisplayAs for SinkExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SinkExec: {} output={}", self.spec.name, self.spec.output.path)
    }
}

impl ExecutionPlan for SinkExec {
    fn name(&self) -> &str {
        "SinkExec"
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

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let input = children.pop().ok_or_else(|| Error::internal("a sink without an input"))?;
        Ok(Arc::new(Self::new(self.spec.clone(), input)))
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> Result<SendableRecordBatchStream, DataFusionError> {
        let (context, progress) = stage_context(&task)?;
        let counters = progress.stage(self.spec.index, STAGE, STAGE);
        // A task that is tried again, on whichever machine, may find its unit done.
        let unit = match &self.spec.remote {
            Some(_) => Some(unit_of(&self.input, partition)?),
            None => None,
        };
        let run = SinkRun {
            spec: self.spec.clone(),
            plan: Arc::clone(&self.input),
            partition,
            task,
            unit,
            context,
            counters,
            progress,
            rows: MetricBuilder::new(&self.metrics).counter(ROWS_IN, partition),
            bytes: MetricBuilder::new(&self.metrics).counter(BYTES_OUT, partition),
            time: MetricBuilder::new(&self.metrics).subset_time(BUSY, partition),
        };
        let mut stream = RecordBatchReceiverStream::builder(self.schema(), 1);
        let sender = stream.tx();
        stream.spawn(async move {
            if let Some(receipt) = run.drive().await? {
                // Whoever asked may be gone; the receipt in storage is what counts.
                let _ = sender.send(Ok(encode(&receipt)?)).await;
            }
            Ok(())
        });
        Ok(stream.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One unit while it is written.
struct SinkRun {
    spec: SinkSpec,
    plan: Arc<dyn ExecutionPlan>,
    partition: usize,
    task: Arc<TaskContext>,
    /// The unit, where somebody else may have done it already.
    unit: Option<String>,
    context: Arc<StageContext>,
    counters: Arc<StageCounters>,
    progress: Arc<Progress>,
    rows: Count,
    bytes: Count,
    time: Time,
}

impl SinkRun {
    async fn drive(self) -> Result<Option<Receipt>> {
        let root = self.context.storage.locate(&self.spec.output.path)?;
        if let Some(unit) = &self.unit
            && let Some(receipt) = commit::find_receipt(&root, &self.spec.fingerprint, unit).await?
        {
            return Ok(Some(receipt));
        }
        let mut input = self.plan.execute(self.partition, Arc::clone(&self.task))?;
        let busy: Arc<AtomicU64> = Arc::default();
        let queue = Queue::default();
        let mut writer: Option<(String, ShardWriter)> = None;
        let (mut turns, mut failed_before) = (0, 0);
        loop {
            let batch = tokio::select! {
                biased;
                () = self.context.cancel.cancelled() => return Err(Error::Cancelled),
                batch = input.next() => batch,
            };
            let Some(batch) = batch else { break };
            let clips = ClipBatch::new(batch?);
            if clips.rows() == 0 {
                continue;
            }
            let units = clips.text(schema::UNIT)?;
            let (unit, writer) = match &mut writer {
                Some(open) => open,
                none => {
                    let unit = units.value(0).to_owned();
                    let target = ShardTarget {
                        root: root.clone(),
                        name: self.spec.name.clone(),
                        unit: unit.clone(),
                        config: self.spec.output.clone(),
                        schema: clips.batch().schema(),
                    };
                    none.insert((unit, ShardWriter::open(Arc::clone(&self.context), target)?))
                }
            };
            if let Some(other) = units.iter().flatten().find(|other| other != unit) {
                return Err(Error::internal(format!("rows of unit {other} came with those of unit {unit}")));
            }
            let budget = self.context.workspace.clone();
            let task = StageTask::new(Arc::clone(&self.context), budget, queue.turn(turns), Arc::clone(&busy));
            turns += 1;
            let (rows, bytes) = (clips.rows(), rechunk::bytes(&clips));
            let (dropped, failed) = rechunk::settled(&clips)?;
            failed_before += failed;
            self.counters.enter(rows, false);
            writer.write(clips, &task).await?;
            let took = busy.swap(0, Ordering::Relaxed);
            self.counters.leave(rows, bytes, took);
            self.progress.settle(rows as u64 - dropped - failed, dropped, failed);
            self.rows.add(rows);
            self.bytes.add(bytes);
            self.time.add_duration(Duration::from_nanos(took));
        }
        let Some((unit, writer)) = writer else { return Ok(None) };
        let mut receipt = writer.finish().await?;
        self.counters.settle(0, receipt.counts.failed.saturating_sub(failed_before));
        // A task of a cluster has counters of its own.
        receipt.measured = self.spec.remote.as_ref().map(|_| Measured {
            stages: self.progress.stages().iter().map(Into::into).collect(),
            providers: self.context.models.providers_used(),
        });
        commit::write_receipt(&root, &self.spec.fingerprint, &unit, &receipt).await?;
        self.progress.finish_unit(receipt.counts);
        Ok(Some(receipt))
    }
}

fn encode(receipt: &Receipt) -> Result<RecordBatch> {
    let json = serde_json::to_string(receipt).map_err(Error::internal)?;
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec![receipt.unit.as_str()])), Arc::new(StringArray::from(vec![json]))];
    Ok(RecordBatch::try_new(receipt_schema(), columns)?)
}

/// The receipts of a batch that a [`SinkExec`] emitted.
pub fn decode(batch: &RecordBatch) -> Result<Vec<Receipt>> {
    ClipBatch::new(batch.clone())
        .text(RECEIPT)?
        .iter()
        .flatten()
        .map(|json| serde_json::from_str(json).map_err(Error::internal))
        .collect()
}
