//! Columns of numbers, and the columns that a stage adds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, SchemaRef};

use crate::error::{Error, Result};
use crate::schema;
use crate::stage::clips::require_column;

/// Checks that a column is of numbers or lists of numbers.
pub fn require_numbers(stage: &str, input: &SchemaRef, name: &str) -> Result<()> {
    let field = require_column(stage, input, name)?;
    let item = match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.data_type(),
        own => own,
    };
    if item.is_numeric() {
        return Ok(());
    }
    let message = format!("stage {stage}: column {name} is {}, a number or a list of numbers was expected", item);
    Err(Error::config(message))
}

/// The number or the numbers of a row; none where it or one of them is null.
pub fn numbers(column: &ArrayRef, row: usize) -> Result<Option<Vec<f64>>> {
    if column.is_null(row) {
        return Ok(None);
    }
    let values = match column.data_type() {
        DataType::List(_) => column.as_list::<i32>().value(row),
        DataType::LargeList(_) => column.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => column.as_fixed_size_list().value(row),
        _ => column.slice(row, 1),
    };
    let values = cast(&values, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    Ok((values.null_count() == 0).then(|| values.values().to_vec()))
}

/// The columns that leave a stage which makes `made`; one that is there already keeps its type.
pub fn with_outputs(stage: &str, input: &SchemaRef, made: impl IntoIterator<Item = Field>) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = Vec::new();
    for field in made {
        let name = field.name().clone();
        if fields.iter().any(|have| have.name() == &name) {
            return Err(Error::config(format!("stage {stage}: column {name} is made twice; give one another name")));
        }
        let there = input.fields().iter().find(|have| have.name() == &name);
        match there.filter(|have| have.data_type() != field.data_type()) {
            Some(have) => {
                let (have, made) = (have.data_type(), field.data_type());
                return Err(Error::config(format!(
                    "stage {stage}: column {name} is there already and is {have}, this stage would make it {made}; \
                     choose another name"
                )));
            }
            None => fields.push(there.map_or(field, |have| have.as_ref().clone())),
        }
    }
    Ok(schema::with_fields(input, fields))
}

/// The type of a column that holds a list of `item`.
pub fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}
