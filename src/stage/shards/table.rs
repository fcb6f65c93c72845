//! The metadata of clips as Parquet: what SQL, `repack` and a trainer's own tools read.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::dataset::{ClipsEntry, Counts};
use crate::error::{Error, Result};
use crate::schema;
use crate::stage::ClipBatch;
use crate::stage::context::CpuPool;
use crate::storage::Location;

/// Columns that rows are sorted by.
const ORDER: &[&str] = &[schema::URI, schema::START_S, schema::CLIP_ID];

/// Writes rows to `path` in the dataset at `root`, in one step, sorted by file, start and identity.
pub(crate) async fn write(
    root: &Location,
    path: String,
    unit: String,
    schema: &SchemaRef,
    rows: Vec<RecordBatch>,
    cpu: &CpuPool,
) -> Result<ClipsEntry> {
    let schema = Arc::clone(schema);
    let (made, _) = cpu.run(move || encode(&schema, &rows)).await?;
    let (bytes, counts, blake3) = made?;
    let (rows, size) = (counts.clips, bytes.len() as u64);
    let entry = ClipsEntry { path, unit, rows, counts: Some(counts), bytes: size, blake3 };
    root.join(&entry.path).write(bytes).await?;
    Ok(entry)
}

/// All rows of a metadata file.
pub(crate) async fn read(file: &Location) -> Result<RecordBatch> {
    let bytes = file.read().await?;
    let decode = move || {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
        let schema = reader.schema();
        Ok::<_, Error>(concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>()?)?)
    };
    let read = tokio::task::spawn_blocking(decode).await.map_err(Error::internal)?;
    read.map_err(|error| Error::State(format!("{} is damaged: {error}; `simdrop verify` says what to do", file.uri())))
}

fn encode(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<(Bytes, Counts, String)> {
    let rows = sorted(&concat_batches(schema, rows)?)?;
    let level = ZstdLevel::try_new(3).map_err(Error::from)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?;
    writer.write(&rows)?;
    let bytes = writer.into_inner()?;
    let blake3 = blake3::hash(&bytes).to_hex().to_string();
    Ok((bytes.into(), super::count(&ClipBatch::new(rows))?, blake3))
}

fn sorted(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = ORDER.iter().map(|name| {
        let column = rows.column_by_name(name);
        let values = column.ok_or_else(|| Error::internal(format!("column {name} is missing from the metadata")))?;
        let options = Some(SortOptions { descending: false, nulls_first: true });
        Ok(SortColumn { values: Arc::clone(values), options })
    });
    let order = lexsort_to_indices(&columns.collect::<Result<Vec<_>>>()?, None)?;
    Ok(take_record_batch(rows, &order)?)
}
