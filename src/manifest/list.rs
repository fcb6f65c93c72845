//! Sources that are lists: Parquet, CSV or JSONL with a column `uri`.

use std::io::{Cursor, Seek};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;

use super::{fixed_rows, remote, walk};
use crate::error::{Error, Result};
use crate::schema;
use crate::spec::{SourceSpec, suggest};
use crate::storage::{self, Storage};

/// Fixed columns that a list may fill; any other column that has the name of a fixed one comes along as `list_<name>`.
const FILLED: &[&str] = &[
    schema::START_S,
    schema::END_S,
    schema::DATASET,
    schema::GENERATOR,
    schema::GENERATOR_SEED,
    schema::SCENE,
    schema::LICENCE,
    schema::CAPTION,
    schema::TAGS,
];

/// The rows of a list.
pub(super) fn rows(list: &str, source: &SourceSpec, storage: &Storage) -> Result<RecordBatch> {
    let path = Path::new(list.strip_prefix("file://").unwrap_or(list));
    let wrong = |error: &dyn std::fmt::Display| Error::config(format!("list {list}: {error}"));
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let read = match extension.as_deref() {
        Some("parquet") => read_parquet,
        Some("csv") => read_csv,
        Some("jsonl" | "ndjson") => read_jsonl,
        _ => return Err(wrong(&"the extension has to be .parquet, .csv or .jsonl")),
    };
    let bytes = match storage::is_remote(list) {
        true => remote::read(list, storage),
        false => std::fs::read(path).map(Bytes::from).map_err(Error::io("open", path)),
    };
    let table = bytes.and_then(read).map_err(|error| wrong(&error))?;
    if table.num_rows() == 0 {
        return Err(wrong(&"it has no rows"));
    }
    let table_schema = table.schema();
    let Some(uris) = table.column_by_name(schema::URI) else {
        let near = suggest::nearest("uri", table_schema.fields().iter().map(|field| field.name().as_str()));
        let hint = near.map_or(String::new(), |near| format!("; is it {near}?"));
        return Err(wrong(&format!("there is no column uri{hint}")));
    };
    let uris = cast(uris, &DataType::Utf8)?;
    let uris = uris
        .as_string::<i32>()
        .iter()
        .enumerate()
        .map(|(row, uri)| match uri.map(str::trim) {
            None | Some("") => Err(wrong(&format!("row {} has no uri", row + 1))),
            Some(uri) => Ok(absolute(uri, list)),
        })
        .collect::<Result<Vec<String>>>()?;
    let files = walk::stats(&uris, storage)?;
    drop(uris);
    let columns = table_schema
        .fields()
        .iter()
        .zip(table.columns())
        .filter(|(field, _)| field.name() != schema::URI)
        .map(|(field, array)| column(field, array).map_err(|error| wrong(&error)))
        .collect::<Result<Vec<_>>>()?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let dataset = source.dataset.clone().or(stem).unwrap_or_else(|| "list".to_owned());
    fixed_rows(files, source, &dataset, columns)
}

/// A URI of a list: one that is relative is taken from the list's folder.
fn absolute(uri: &str, list: &str) -> String {
    match list.rsplit_once('/') {
        _ if uri.contains("://") => uri.to_owned(),
        Some((folder, _)) if storage::is_remote(list) => format!("{folder}/{uri}"),
        _ => {
            let folder = Path::new(list.strip_prefix("file://").unwrap_or(list)).parent().unwrap_or(Path::new(""));
            folder.join(uri).to_string_lossy().into_owned()
        }
    }
}

/// A column under the name and type that it has in the manifest.
fn column(field: &Field, array: &ArrayRef) -> Result<(Field, ArrayRef)> {
    let fixed = schema::clip_schema();
    match fixed.field_with_name(field.name()) {
        Ok(wanted) if FILLED.contains(&field.name().as_str()) => {
            let filled = cast(array, wanted.data_type())
                .map_err(|error| Error::config(format!("column {}: {error}", field.name())))?;
            if filled.null_count() > array.logical_null_count() {
                return Err(Error::config(format!(
                    "column {} has values that are no {}",
                    field.name(),
                    wanted.data_type()
                )));
            }
            Ok((wanted.clone().with_nullable(true), filled))
        }
        Ok(_) => plain(&format!("list_{}", field.name()), array),
        Err(_) => plain(field.name(), array),
    }
}

/// Texts of every layout become the plain one, which all stages read; other types stay.
fn plain(name: &str, array: &ArrayRef) -> Result<(Field, ArrayRef)> {
    let data_type = match array.data_type() {
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) | DataType::Null => DataType::Utf8,
        other => other.clone(),
    };
    Ok((Field::new(name, data_type.clone(), true), cast(array, &data_type)?))
}

fn read_parquet(bytes: Bytes) -> Result<RecordBatch> {
    let builder = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let schema = Arc::clone(builder.schema());
    let batches = builder.build()?.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

fn read_csv(bytes: Bytes) -> Result<RecordBatch> {
    let mut file = Cursor::new(bytes);
    let format = arrow::csv::reader::Format::default().with_header(true);
    let (inferred, _) = format.infer_schema(&mut file, None)?;
    file.rewind().map_err(Error::io("read", "the list"))?;
    let schema = typed(&inferred);
    let reader = arrow::csv::ReaderBuilder::new(Arc::clone(&schema)).with_header(true).build(file)?;
    Ok(concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>()?)?)
}

fn read_jsonl(bytes: Bytes) -> Result<RecordBatch> {
    let mut file = Cursor::new(bytes);
    let (inferred, _) = arrow::json::reader::infer_json_schema_from_seekable(&mut file, None)?;
    let schema = typed(&inferred);
    let reader = arrow::json::ReaderBuilder::new(Arc::clone(&schema)).build(file)?;
    Ok(concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>()?)?)
}

/// An inferred schema in which the columns of text are text even where every value looks like a number.
fn typed(inferred: &Schema) -> SchemaRef {
    let fixed = schema::clip_schema();
    let fields = inferred.fields().iter().map(|field| match fixed.field_with_name(field.name()) {
        Ok(wanted) if FILLED.contains(&field.name().as_str()) || field.name() == schema::URI => {
            Arc::new(wanted.clone().with_nullable(true))
        }
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
