//! The `.json` member of a sample: the clip's row, for a trainer that reads nothing but shards.
//!
//! Loaders take the schema from the first samples, so every sample has the same keys, in the order of the columns, each
//! always of the same type, and nothing is null: text that is not there is `""`, a list `[]`, a truth value `false`, and
//! a number that is not there, or not finite, is `0`. The metadata table tells these apart. Not in it are frames, and
//! what became of the clip and where it lies.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Number, Value};

use crate::error::Result;
use crate::schema;

/// Columns that say what became of a clip and where it lies.
const NOT_DESCRIBED: &[&str] = &[
    schema::FATE,
    schema::FATE_STAGE,
    schema::FATE_REASON,
    schema::FATE_VALUE,
    schema::SHARD,
    schema::KEY,
    schema::OFFSET,
    schema::SIZE,
];

/// Numbers of the columns that a sample's metadata has.
pub(crate) fn columns(schema: &Schema) -> Vec<usize> {
    let described =
        |field: &arrow::datatypes::Field| !schema::is_frames(field) && !NOT_DESCRIBED.contains(&field.name().as_str());
    (0..schema.fields().len()).filter(|&at| described(schema.field(at))).collect()
}

/// The metadata of a row, one line of JSON.
pub(crate) fn describe(batch: &RecordBatch, columns: &[usize], row: usize) -> Result<String> {
    let mut object = Map::with_capacity(columns.len());
    for &at in columns {
        object.insert(batch.schema_ref().field(at).name().clone(), value(batch.column(at), row)?);
    }
    Ok(Value::Object(object).to_string())
}

macro_rules! integer {
    ($array:expr, $row:expr, $type:ty) => {
        Value::from(if $array.is_valid($row) { $array.as_primitive::<$type>().value($row) } else { 0 })
    };
}

/// A finite number, else zero.
fn real(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| Value::from(0.0), Value::Number)
}

fn value(array: &dyn Array, row: usize) -> Result<Value> {
    let valid = array.is_valid(row);
    Ok(match array.data_type() {
        DataType::Int8 => integer!(array, row, Int8Type),
        DataType::Int16 => integer!(array, row, Int16Type),
        DataType::Int32 => integer!(array, row, Int32Type),
        DataType::Int64 => integer!(array, row, Int64Type),
        DataType::UInt8 => integer!(array, row, UInt8Type),
        DataType::UInt16 => integer!(array, row, UInt16Type),
        DataType::UInt32 => integer!(array, row, UInt32Type),
        DataType::UInt64 => integer!(array, row, UInt64Type),
        DataType::Float16 if valid => real(f64::from(array.as_primitive::<Float16Type>().value(row).to_f32())),
        DataType::Float32 if valid => {
            // The shortest decimal that is this number, not the exact one of a wider type.
            let number = array.as_primitive::<Float32Type>().value(row);
            real(number.to_string().parse().unwrap_or_default())
        }
        DataType::Float64 if valid => real(array.as_primitive::<Float64Type>().value(row)),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Value::from(0.0),
        DataType::Boolean => Value::from(valid && array.as_boolean().value(row)),
        DataType::Utf8 if valid => Value::from(array.as_string::<i32>().value(row)),
        DataType::List(_) if valid => list(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) if valid => list(&array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) if valid => list(&array.as_fixed_size_list().value(row))?,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Value::Array(Vec::new()),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter();
            let members = fields.iter().zip(columns).map(|(field, column)| {
                let member = if valid { value(column, row)? } else { empty(column.as_ref())? };
                Ok((field.name().clone(), member))
            });
            Value::Object(members.collect::<Result<_>>()?)
        }
        // Dates, times, decimals, other forms of text: as text.
        _ if valid => {
            let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
            Value::from(formatter.value(row).try_to_string()?)
        }
        _ => Value::from(""),
    })
}

/// The value of a column that has none.
fn empty(like: &dyn Array) -> Result<Value> {
    value(&arrow::array::new_null_array(like.data_type(), 1), 0)
}

fn list(values: &dyn Array) -> Result<Value> {
    Ok(Value::Array((0..values.len()).map(|row| value(values, row)).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, ListArray, StringArray, new_null_array};
    use arrow::datatypes::{Field, Float32Type};

    use super::*;

    fn lines(columns: Vec<(&str, ArrayRef)>) -> Vec<String> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let wanted = super::columns(batch.schema_ref());
        (0..batch.num_rows()).map(|row| describe(&batch, &wanted, row).unwrap()).collect()
    }

    #[test]
    fn what_is_missing_keeps_its_type() {
        let list = ListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(0.1), None]), None]);
        let lines = lines(vec![
            ("text", Arc::new(StringArray::from(vec![Some("a \"cat\"\n"), None]))),
            ("long", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
            ("real", Arc::new(Float64Array::from(vec![Some(1.0), None]))),
            ("single", Arc::new(Float32Array::from(vec![Some(0.1), None]))),
            ("list", Arc::new(list)),
            ("fate", Arc::new(StringArray::from(vec![Some("kept"), None]))),
        ]);
        assert_eq!(
            lines,
            [
                r#"{"text":"a \"cat\"\n","long":9223372036854775807,"real":1.0,"single":0.1,"list":[0.1,0.0]}"#,
                r#"{"text":"","long":0,"real":0.0,"single":0.0,"list":[]}"#,
            ]
        );
    }

    #[test]
    fn numbers_that_json_has_not_are_zero() {
        let numbers = Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(lines(vec![("score", Arc::new(numbers))]), [r#"{"score":0.0}"#; 3]);
    }

    #[test]
    fn a_struct_that_is_missing_keeps_its_members() {
        let fields = vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)];
        let column = new_null_array(&DataType::Struct(fields.into()), 1);
        assert_eq!(lines(vec![("camera", column)]), [r#"{"camera":{"a":0,"b":""}}"#]);
    }
}
