//! Tables over what `dataset.json` itself says.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchReader, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use crate::dataset::{Dataset, RunEntry, ShardEntry, StageRun};
use crate::error::{Error, Result};
use crate::storage::Location;

/// What a training measured; none where there is no training.
pub(super) async fn metrics(root: &Location) -> Result<Option<Arc<dyn TableProvider>>> {
    let file = root.join(crate::train::METRICS);
    let Some(bytes) = file.read_if_there().await? else { return Ok(None) };
    let reader = ParquetRecordBatchReader::try_new(bytes, 8192)
        .map_err(|error| Error::State(format!("{} is damaged: {error}", file.uri())))?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Arc::new(MemTable::try_new(schema, vec![batches])?)))
}

/// One row a shard.
pub(super) fn shards(dataset: &Dataset) -> Result<Arc<dyn TableProvider>> {
    let all = &dataset.shards;
    // Named field by field, so that a new one cannot be forgotten.
    let rows: Vec<_> = all
        .iter()
        .map(|ShardEntry { path, unit, samples, bytes, blake3 }| (path, unit, samples, bytes, blake3))
        .collect();
    table([
        ("shard", text(rows.iter().map(|row| row.0.as_str()))),
        ("unit", text(rows.iter().map(|row| row.1.as_str()))),
        ("samples", long(rows.iter().map(|row| *row.2))),
        ("bytes", long(rows.iter().map(|row| *row.3))),
        ("blake3", text(rows.iter().map(|row| row.4.as_str()))),
    ])
}

/// One row a run.
pub(super) fn runs(dataset: &Dataset) -> Result<Arc<dyn TableProvider>> {
    let all = &dataset.runs;
    let providers = all.iter().map(|run| serde_json::to_string(&run.providers)).collect::<Result<Vec<_>, _>>();
    let providers = providers.map_err(Error::internal)?;
    table([
        ("run", long(all.iter().map(|run| run.run))),
        ("started_at", time(all.iter().map(|run| run.started_at.as_str()))),
        ("seconds", real(all.iter().map(|run| run.seconds))),
        ("units", long(all.iter().map(|run| run.units))),
        ("units_resumed", long(all.iter().map(|run| run.units_resumed))),
        ("clips", long(all.iter().map(|run| run.counts.clips))),
        ("kept", long(all.iter().map(|run| run.counts.kept))),
        ("dropped", long(all.iter().map(|run| run.counts.dropped))),
        ("failed", long(all.iter().map(|run| run.counts.failed))),
        ("providers", text(providers.iter().map(String::as_str))),
        ("peak_memory", long(all.iter().map(|run| run.peak_memory))),
    ])
}

/// One row for each stage of each run.
pub(super) fn stages(dataset: &Dataset) -> Result<Arc<dyn TableProvider>> {
    let numbered = |run: &RunEntry| {
        let number = run.run;
        run.stages.clone().into_iter().zip(1_u64..).map(move |(stage, position)| (number, position, stage))
    };
    let all: Vec<(u64, u64, StageRun)> = dataset.runs.iter().flat_map(numbered).collect();
    table([
        ("run", long(all.iter().map(|row| row.0))),
        ("position", long(all.iter().map(|row| row.1))),
        ("stage", text(all.iter().map(|row| row.2.stage.as_str()))),
        ("kind", text(all.iter().map(|row| row.2.kind.as_str()))),
        ("rows", long(all.iter().map(|row| row.2.rows))),
        ("dropped", long(all.iter().map(|row| row.2.dropped))),
        ("failed", long(all.iter().map(|row| row.2.failed))),
        ("bytes", long(all.iter().map(|row| row.2.bytes))),
        ("busy_s", real(all.iter().map(|row| row.2.busy_s))),
    ])
}

fn table<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<Arc<dyn TableProvider>> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))?;
    let schema: SchemaRef = batch.schema();
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

fn text<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// Counts as signed numbers, since the difference of two unsigned ones may not exist.
fn long(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|value| i64::try_from(value).unwrap_or(i64::MAX))))
}

fn real(values: impl Iterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

fn time<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    let micros = |text: &str| chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros());
    Arc::new(TimestampMicrosecondArray::from_iter(values.map(micros)).with_timezone("UTC"))
}
