//! A batch of clips, and what becomes of each.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, StringArray, StringBuilder, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::schema;

/// What became of a clip.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// It is in a shard.
    Kept,
    /// A stage decided against it.
    Dropped {
        /// Why, for people.
        reason: String,
        /// The number behind it.
        value: Option<f64>,
    },
    /// It could not be handled.
    Failed {
        /// What went wrong, for people.
        reason: String,
    },
}

impl Fate {
    /// A clip that a stage decided against.
    pub fn dropped(reason: impl Into<String>, value: Option<f64>) -> Self {
        Self::Dropped { reason: reason.into(), value }
    }

    /// A clip that could not be handled.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into() }
    }

    /// The text stored in column `fate`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Dropped { .. } => "dropped",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Rows of clips.
#[derive(Debug, Clone)]
pub struct ClipBatch(RecordBatch);

/// A file as the manifest has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipFile {
    /// Where it lies.
    pub uri: String,
    /// Its version when it was listed.
    pub version: Option<String>,
    /// Its size in bytes then.
    pub size: Option<i64>,
}

impl ClipBatch {
    /// Wraps a batch that has the fixed columns.
    pub fn new(batch: RecordBatch) -> Self {
        Self(batch)
    }

    /// Several batches of `schema` one after another; no rows where there is none.
    pub fn concat(schema: &SchemaRef, mut parts: Vec<Self>) -> Result<Self> {
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => Ok(Self(concat_batches(schema, parts.iter().map(Self::batch))?)),
        }
    }

    /// The batch.
    pub fn batch(&self) -> &RecordBatch {
        &self.0
    }

    /// The batch, taken out.
    pub fn into_batch(self) -> RecordBatch {
        self.0
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.0.num_rows()
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Result<&ArrayRef> {
        self.0.column_by_name(name).ok_or_else(|| Error::internal(format!("column {name} is missing from a batch")))
    }

    /// A column of text.
    pub fn text(&self, name: &str) -> Result<&StringArray> {
        self.column(name)?.as_string_opt::<i32>().ok_or_else(|| Error::internal(format!("column {name} is no text")))
    }

    /// A column of 64-bit floating point numbers.
    pub fn real(&self, name: &str) -> Result<&Float64Array> {
        self.column(name)?
            .as_primitive_opt::<Float64Type>()
            .ok_or_else(|| Error::internal(format!("column {name} is not f64")))
    }

    /// A column of 64-bit integers.
    pub fn long(&self, name: &str) -> Result<&Int64Array> {
        self.column(name)?
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| Error::internal(format!("column {name} is not i64")))
    }

    /// Span of a row within its file: start and end in seconds, where it has them.
    pub fn span(&self, row: usize) -> Result<(Option<f64>, Option<f64>)> {
        let value = |array: &Float64Array| array.is_valid(row).then(|| array.value(row));
        Ok((value(self.real(schema::START_S)?), value(self.real(schema::END_S)?)))
    }

    /// The file that a row is of.
    pub fn file(&self, row: usize) -> Result<ClipFile> {
        let versions = self.text(schema::ETAG)?;
        let version = versions.is_valid(row).then(|| versions.value(row).to_owned());
        let sizes = self.long(schema::SIZE_BYTES)?;
        let size = sizes.is_valid(row).then(|| sizes.value(row));
        Ok(ClipFile { uri: self.text(schema::URI)?.value(row).to_owned(), version, size })
    }

    /// These rows under `schema`, with `columns` in place: a column that neither they nor the batch have is null.
    pub fn with_columns(&self, schema: &SchemaRef, columns: Vec<(&str, ArrayRef)>) -> Result<Self> {
        let arrays = schema
            .fields()
            .iter()
            .map(|field| {
                columns
                    .iter()
                    .find(|(name, _)| name == field.name())
                    .map(|(_, array)| array)
                    .or_else(|| self.0.column_by_name(field.name()))
                    .map_or_else(|| new_null_array(field.data_type(), self.rows()), Arc::clone)
            })
            .collect();
        Ok(Self(RecordBatch::try_new_with_options(
            Arc::clone(schema),
            arrays,
            &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(self.rows())),
        )?))
    }

    /// Settles rows: `fates` has one entry a row, none for a row that stays as it is.
    pub fn settle(&self, stage: &str, fates: &[Option<Fate>]) -> Result<Self> {
        if fates.iter().all(Option::is_none) {
            return Ok(self.clone());
        }
        let (mut fate, mut by) = (StringBuilder::new(), StringBuilder::new());
        let (mut reason, mut value) = (StringBuilder::new(), Float64Builder::new());
        let (old_fate, old_by) = (self.text(schema::FATE)?, self.text(schema::FATE_STAGE)?);
        let (old_reason, old_value) = (self.text(schema::FATE_REASON)?, self.real(schema::FATE_VALUE)?);
        let keep = |array: &StringArray, row: usize, to: &mut StringBuilder| {
            to.append_option(array.is_valid(row).then(|| array.value(row)));
        };
        for (row, settled) in fates.iter().enumerate() {
            let Some(settled) = settled else {
                keep(old_fate, row, &mut fate);
                keep(old_by, row, &mut by);
                keep(old_reason, row, &mut reason);
                value.append_option(old_value.is_valid(row).then(|| old_value.value(row)));
                continue;
            };
            fate.append_value(settled.as_str());
            match settled {
                Fate::Kept => {
                    by.append_null();
                    reason.append_null();
                    value.append_null();
                }
                Fate::Dropped { reason: why, value: number } => {
                    by.append_value(stage);
                    reason.append_value(why);
                    value.append_option(*number);
                }
                Fate::Failed { reason: why } => {
                    by.append_value(stage);
                    reason.append_value(why);
                    value.append_null();
                }
            }
        }
        self.with_columns(
            &self.0.schema(),
            vec![
                (schema::FATE, Arc::new(fate.finish()) as ArrayRef),
                (schema::FATE_STAGE, Arc::new(by.finish())),
                (schema::FATE_REASON, Arc::new(reason.finish())),
                (schema::FATE_VALUE, Arc::new(value.finish())),
            ],
        )
    }

    /// Whether a row is settled.
    pub fn is_settled(&self, row: usize) -> Result<bool> {
        Ok(self.text(schema::FATE)?.is_valid(row))
    }

    /// Rows `from .. from + length`, without a copy.
    pub fn slice(&self, from: usize, length: usize) -> Self {
        Self(self.0.slice(from, length))
    }
}

/// Checks that `schema` has a column; the error names the stage and the nearest column.
pub fn require_column<'a>(stage: &str, schema: &'a SchemaRef, name: &str) -> Result<&'a Arc<arrow::datatypes::Field>> {
    schema.fields().iter().find(|field| field.name() == name).ok_or_else(|| {
        let nearest = crate::spec::suggest::nearest(name, schema.fields().iter().map(|field| field.name().as_str()));
        let hint = nearest.map_or_else(
            || "; add a stage before this one that makes it".to_owned(),
            |near| format!("; did you mean {near}?"),
        );
        Error::config(format!("stage {stage}: there is no column {name}{hint}"))
    })
}

/// Checks that a column is decoded frames.
pub fn require_frames<'a>(stage: &str, schema: &'a SchemaRef, name: &str) -> Result<&'a Arc<arrow::datatypes::Field>> {
    let field = require_column(stage, schema, name)?;
    if crate::schema::is_frames(field) {
        return Ok(field);
    }
    let found = field.data_type();
    Err(Error::config(format!("stage {stage}: column {name} is {found}, decoded frames were expected")))
}

/// Checks that a column is text.
pub fn require_text(stage: &str, schema: &SchemaRef, name: &str) -> Result<()> {
    let field = require_column(stage, schema, name)?;
    if field.data_type() == &DataType::Utf8 {
        return Ok(());
    }
    Err(Error::config(format!("stage {stage}: column {name} is {}, text was expected", field.data_type())))
}
