//! The metadata of clips as Parquet: what SQL, `repack` and a trainer's own tools read.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::dataset::ClipsEntry;
use crate::error::{Error, Result};
use crate::schema;
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
    let (bytes, rows, blake3) = made?;
    let entry = ClipsEntry { path, unit, rows, bytes: bytes.len() as u64, blake3 };
    root.join(&entry.path).write(bytes).await?;
    Ok(entry)
}

fn encode(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<(Bytes, u64, String)> {
    let rows = sorted(&concat_batches(schema, rows)?)?;
    let level = ZstdLevel::try_new(3).map_err(Error::from)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?;
    writer.write(&rows)?;
    let bytes = writer.into_inner()?;
    let blake3 = blake3::hash(&bytes).to_hex().to_string();
    Ok((bytes.into(), rows.num_rows() as u64, blake3))
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
