//! From a specification to a DataFusion plan.
//!
//! The plan is a chain: a scan of the work units (the only leaf, one file and one partition a unit), one [`StageExec`]
//! for each stage, and a [`SinkExec`] that writes shards and emits one receipt a unit. The same plan runs in this
//! process or on a cluster; nothing in it depends on which partition of which task a unit became.

pub mod codec;
pub mod rechunk;
pub mod remote;
pub mod sink_exec;
pub mod stage_exec;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::ExecutionPlan;
use object_store::ObjectMeta;

pub use codec::StageCodec;
pub use remote::RemoteSettings;
pub use sink_exec::{SinkExec, SinkSpec};
pub use stage_exec::{StageExec, StageNode};

use crate::error::{Error, Result};
use crate::schema;
use crate::spec::PipelineSpec;
use crate::storage::Location;

/// Under this name a plan knows the store of an output.
pub fn store_url(root: &Location) -> Result<ObjectStoreUrl> {
    match root.local() {
        Some(_) => Ok(ObjectStoreUrl::local_filesystem()),
        None => Ok(ObjectStoreUrl::parse(root.base())?),
    }
}

/// The plan of a pipeline over the files of its work units, which lie at the output; `remote` where other machines run
/// it.
pub fn build(
    spec: &PipelineSpec,
    fingerprint: &str,
    manifest: &SchemaRef,
    root: &Location,
    units: Vec<ObjectMeta>,
    remote: Option<RemoteSettings>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let groups =
        units.into_iter().map(|unit| FileGroup::new(vec![PartitionedFile::new_from_meta(unit)])).collect::<Vec<_>>();
    let source = Arc::new(ParquetSource::new(Arc::clone(manifest)));
    // Without this, a partition that is done takes files of its neighbours, and two units become one.
    let scan =
        FileScanConfigBuilder::new(store_url(root)?, source).with_file_groups(groups).with_preserve_order(true).build();
    let mut plan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(scan);
    let schemas = schemas(spec, manifest)?;
    let makes_frames = |index: usize| count_frames(&schemas[index + 1]) > count_frames(&schemas[index]);
    let frame_stages = (0..spec.stages.len()).filter(|index| makes_frames(*index)).count();
    for (index, stage) in spec.stages.iter().enumerate() {
        plan = Arc::new(StageExec::new(StageNode { stage: stage.clone(), index, frame_stages }, plan)?);
    }
    let sink = SinkSpec {
        output: spec.output.clone(),
        name: spec.name.clone(),
        fingerprint: fingerprint.to_owned(),
        index: spec.stages.len(),
        remote,
    };
    Ok(Arc::new(SinkExec::new(sink, plan)))
}

/// The columns before the first stage and after each.
pub fn schemas(spec: &PipelineSpec, manifest: &SchemaRef) -> Result<Vec<SchemaRef>> {
    let mut schemas = vec![Arc::clone(manifest)];
    for (index, stage) in spec.stages.iter().enumerate() {
        let next = stage.stage().output_schema(&schemas[index]).map_err(|error| error.at_stage(index))?;
        schemas.push(next);
    }
    Ok(schemas)
}

fn count_frames(schema: &SchemaRef) -> usize {
    schema.fields().iter().filter(|field| schema::is_frames(field)).count()
}

/// The unit that a partition of a plan over the files of units reads: its file is named after it.
pub fn unit_of(plan: &Arc<dyn ExecutionPlan>, partition: usize) -> Result<String> {
    let leaf = stages(plan).swap_remove(0);
    let scan =
        leaf.downcast_ref::<DataSourceExec>().and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>());
    let file = scan.and_then(|scan| scan.file_groups.get(partition)?.files().first());
    let name = file.and_then(|file| file.object_meta.location.filename()?.strip_suffix(".parquet"));
    name.map(str::to_owned)
        .ok_or_else(|| Error::internal(format!("partition {partition} reads no file of a work unit")))
}

/// The stages of a plan in the order of the flow.
pub fn stages(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    let mut chain = vec![Arc::clone(plan)];
    while let Some(input) = chain[chain.len() - 1].children().first().map(|input| Arc::clone(input)) {
        chain.push(input);
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests;
