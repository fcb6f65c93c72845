//! Answers as people and programs read them.
//!
//! CSV, JSON and Parquet are written batch by batch. A table is for people: its columns are as wide as what is in
//! them, so its rows are held, and there is a limit to them.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use arrow::csv::WriterBuilder as CsvWriterBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, JsonFormat, WriterBuilder, make_encoder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::{Error, Result};

/// Most rows of a table.
const TABLE_ROWS: usize = 10_000;
/// Most characters in a cell of a table.
const TABLE_CELL: usize = 80;

/// How answers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table for people: long texts are cut, and so is an answer of more than 10,000 rows.
    #[default]
    Table,
    /// Comma-separated values with a header; lists and structures are JSON.
    Csv,
    /// An array of objects.
    Json,
    /// A Parquet file.
    Parquet,
}

/// Writes an answer; returns the number of its rows. An output that cannot be written is an [`Error::Io`].
pub async fn write_stream(
    stream: SendableRecordBatchStream,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    let mut out = Watched { out, fault: None };
    let rows = match format {
        Format::Table => write_table(stream, &mut out).await,
        Format::Csv => write_csv(stream, &mut out).await,
        Format::Json => write_json(stream, &mut out).await,
        Format::Parquet => write_parquet(stream, &mut out).await,
    };
    let flushed = out.flush();
    match out.fault.map_or(flushed, Err) {
        Ok(()) => rows,
        Err(fault) => Err(broken(fault)),
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::io("write", "the answer")(error)
}

/// An output that keeps its first fault, which the writers of the formats turn into text.
struct Watched<'a> {
    out: &'a mut (dyn Write + Send),
    fault: Option<std::io::Error>,
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write(bytes).map_err(|fault| {
            let told = fault.kind().into();
            if fault.kind() != std::io::ErrorKind::Interrupted {
                self.fault.get_or_insert(fault);
            }
            told
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

async fn write_csv(mut stream: SendableRecordBatchStream, out: &mut Watched<'_>) -> Result<u64> {
    let mut writer = CsvWriterBuilder::new().with_header(true).build(out);
    let mut rows = 0;
    // The header is there where there is no row.
    writer.write(&flat(&RecordBatch::new_empty(stream.schema()))?)?;
    while let Some(batch) = stream.next().await {
        let batch = flat(&batch?)?;
        rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    Ok(rows)
}

/// `batch` with lists and structures as JSON text, since CSV has none of its own.
fn flat(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    let mut fields: Vec<Arc<Field>> = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(Arc::new(json_text(field, column)?));
        } else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
        }
    }
    let rows = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &rows)?)
}

fn json_text(field: &Arc<Field>, column: &ArrayRef) -> Result<StringArray> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, column.as_ref(), &options)?;
    let mut texts = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..column.len() {
        if encoder.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        texts.append_value(String::from_utf8_lossy(&text));
    }
    Ok(texts.finish())
}

/// A JSON array with an object on each line.
#[derive(Debug, Default)]
struct Objects;

impl JsonFormat for Objects {
    fn start_stream<W: Write>(&self, writer: &mut W) -> Result<(), ArrowError> {
        Ok(writer.write_all(b"[")?)
    }

    fn start_row<W: Write>(&self, writer: &mut W, is_first_row: bool) -> Result<(), ArrowError> {
        Ok(writer.write_all(if is_first_row { b"\n" } else { b",\n" })?)
    }

    fn end_stream<W: Write>(&self, writer: &mut W) -> Result<(), ArrowError> {
        Ok(writer.write_all(b"\n]\n")?)
    }
}

async fn write_json(mut stream: SendableRecordBatchStream, out: &mut Watched<'_>) -> Result<u64> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, Objects>(out);
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    writer.finish()?;
    Ok(rows)
}

async fn write_parquet(mut stream: SendableRecordBatchStream, out: &mut Watched<'_>) -> Result<u64> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(out, stream.schema(), Some(properties))?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(rows)
}

async fn write_table(mut stream: SendableRecordBatchStream, out: &mut Watched<'_>) -> Result<u64> {
    let schema = stream.schema();
    if schema.fields().iter().map(|field| field.name().as_str()).eq(["plan_type", "plan"]) {
        return write_plans(stream, out).await;
    }
    let mut columns = vec![Vec::new(); schema.fields().len()];
    let (mut shown, mut more) = (0, false);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let take = batch.num_rows().min(TABLE_ROWS - shown);
        for (cells, column) in columns.iter_mut().zip(batch.columns()) {
            add_cells(cells, column, take)?;
        }
        shown += take;
        if take < batch.num_rows() {
            more = true;
            break;
        }
    }
    writeln!(out, "{}", table(&schema, columns)?).map_err(broken)?;
    if more {
        writeln!(out, "and more rows after these {shown}; --format csv writes all of them").map_err(broken)?;
    }
    Ok(shown as u64)
}

/// The plans of EXPLAIN, whose lines say nothing once they are cut.
async fn write_plans(mut stream: SendableRecordBatchStream, out: &mut Watched<'_>) -> Result<u64> {
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let options = FormatOptions::default();
        let kinds = ArrayFormatter::try_new(batch.column(0).as_ref(), &options)?;
        let plans = ArrayFormatter::try_new(batch.column(1).as_ref(), &options)?;
        for row in 0..batch.num_rows() {
            writeln!(out, "{}", kinds.value(row)).map_err(broken)?;
            let plan = plans.value(row).to_string();
            plan.lines().try_for_each(|line| writeln!(out, "  {line}")).map_err(broken)?;
        }
        rows += batch.num_rows() as u64;
    }
    Ok(rows)
}

fn add_cells(cells: &mut Vec<String>, column: &ArrayRef, take: usize) -> Result<()> {
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    for row in 0..take {
        cells.push(one_line(&formatter.value(row).try_to_string()?, TABLE_CELL));
    }
    Ok(())
}

/// A text on one line, without control characters (a caption must not drive the terminal), of at most `most` letters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let cut = text.chars().nth(most).is_some();
    let mut line = String::new();
    for letter in text.chars().take(if cut { most - 1 } else { most }) {
        if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
    if cut {
        line.push('…');
    }
    line
}

fn table(schema: &SchemaRef, columns: Vec<Vec<String>>) -> Result<String> {
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (field, mut cells) in schema.fields().iter().zip(columns) {
        let mut name = one_line(field.name(), TABLE_CELL);
        if field.data_type().is_numeric() {
            let width = cells.iter().chain([&name]).map(|cell| cell.chars().count()).max().unwrap_or(0);
            cells.iter_mut().chain([&mut name]).for_each(|cell| *cell = format!("{cell:>width$}"));
        }
        fields.push(Field::new(name, DataType::Utf8, false));
        arrays.push(Arc::new(StringArray::from(cells)));
    }
    let batch = if fields.is_empty() {
        RecordBatch::new_empty(Arc::new(Schema::empty()))
    } else {
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?
    };
    Ok(pretty_format_batches(&[batch])?.to_string())
}
