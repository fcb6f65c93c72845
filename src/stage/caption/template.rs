//! Captions from a template over the columns of a clip.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

use crate::error::{Error, Result};
use crate::schema;
use crate::stage::clips::require_column;

const NAME: &str = "caption";

/// A template, compiled.
#[derive(Debug)]
pub(super) struct CaptionTemplate {
    environment: Environment<'static>,
    columns: Vec<String>,
}

impl CaptionTemplate {
    /// Compiles `source`; every variable has to be a column of `input`.
    pub(super) fn compile(stage: &str, source: &str, input: &SchemaRef) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("fromjson", from_json);
        // A null prints as nothing, so that no caption says "none".
        environment.set_formatter(|output, state, value| match value.is_none() {
            true => Ok(()),
            false => minijinja::escape_formatter(output, state, value),
        });
        let wrong =
            |error: minijinja::Error| Error::config(format!("stage {stage}: caption template: {}", problem(&error)));
        environment.add_template_owned(NAME, source.to_owned()).map_err(wrong)?;

        let functions: Vec<String> = environment.globals().map(|(name, _)| name.to_owned()).collect();
        let used = environment.get_template(NAME).map_err(wrong)?.undeclared_variables(false);
        let mut columns: Vec<String> = used.into_iter().filter(|name| !functions.contains(name)).collect();
        columns.sort();
        let mut samples = BTreeMap::new();
        for column in &columns {
            let field = require_column(stage, input, column)?;
            if schema::is_frames(field) {
                return Err(Error::config(format!("stage {stage}: caption template: column {column} holds frames")));
            }
            samples.insert(column.clone(), sample(field.data_type()));
        }
        let template = Self { environment, columns };
        // Misspelt filters show only when a template runs; all else may depend on the values.
        match template.apply(samples) {
            Err(error) if is_unknown(error.kind()) => Err(wrong(error)),
            _ => Ok(template),
        }
    }

    /// The caption of a row, or what went wrong.
    pub(super) fn render(&self, batch: &RecordBatch, row: usize) -> Result<String, String> {
        let value = |name: &String| {
            let value = batch.column_by_name(name).map_or(Value::from(()), |column| value(column, row));
            (name.clone(), value)
        };
        let variables: BTreeMap<String, Value> = self.columns.iter().map(value).collect();
        self.apply(variables).map_err(|error| format!("caption template: {}", problem(&error)))
    }

    fn apply(&self, variables: BTreeMap<String, Value>) -> Result<String, minijinja::Error> {
        self.environment.get_template(NAME)?.render(variables)
    }
}

fn is_unknown(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction | ErrorKind::UnknownMethod
    )
}

/// Some value of a type.
fn sample(kind: &DataType) -> Value {
    match kind {
        DataType::Boolean => Value::from(true),
        kind if kind.is_integer() => Value::from(1),
        kind if kind.is_numeric() => Value::from(1.5),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Value::from(vec![sample(item.data_type())])
        }
        DataType::Struct(fields) => {
            Value::from_iter(fields.iter().map(|field| (field.name().clone(), sample(field.data_type()))))
        }
        _ => Value::from("text"),
    }
}

/// One line on what is wrong with a template.
fn problem(error: &minijinja::Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{line}{}{detail}", error.kind())
}

/// A filter that reads JSON text, such as column `scene`.
fn from_json(text: &Value) -> Result<Value, minijinja::Error> {
    if text.is_none() {
        return Ok(Value::from(()));
    }
    let wrong = |detail: String| minijinja::Error::new(ErrorKind::InvalidOperation, detail);
    let text = text.as_str().ok_or_else(|| wrong("fromjson takes text".to_owned()))?;
    serde_json::from_str::<serde_json::Value>(text)
        .map(|value| Value::from(Serde(value)))
        .map_err(|error| wrong(format!("no valid JSON: {error}")))
}

/// A cell as a template sees it: numbers as numbers, lists as lists, structures as maps, null as none.
fn value(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::from(());
    }
    match array.data_type() {
        DataType::Boolean => Value::from(array.as_boolean().value(row)),
        DataType::Int8 => Value::from(array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => Value::from(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => Value::from(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Value::from(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => Value::from(array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => Value::from(array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => Value::from(array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => Value::from(array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => {
            // By way of its shortest text: 0.12 stays 0.12 and does not become 0.11999999731779099.
            let number = array.as_primitive::<Float32Type>().value(row);
            Value::from(number.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(number)))
        }
        DataType::Float64 => Value::from(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Value::from(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Value::from(array.as_string_view().value(row)),
        DataType::List(_) => list(array.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row).as_ref()),
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(row).as_ref()),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let parts = fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), value(column, row)));
            Value::from_iter(parts.collect::<BTreeMap<_, _>>())
        }
        _ => array_value_to_string(array, row).map_or(Value::from(()), Value::from),
    }
}

fn list(items: &dyn Array) -> Value {
    Value::from((0..items.len()).map(|row| value(items, row)).collect::<Vec<_>>())
}
