//! What DataFusion says of a wrong query, in words that help.

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;

use crate::error::Error;
use crate::spec::suggest::nearest;

/// One line on what is wrong.
pub(crate) fn message(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::SQL(parser, _) => match parser.as_ref() {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => format!("syntax error: {text}"),
            ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
        },
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                missing_column(&field.name, valid_fields.iter().map(|valid| valid.name.as_str()))
            }
            other => other.to_string(),
        },
        DataFusionError::Collection(errors) => {
            errors.iter().map(message).collect::<Vec<_>>().join("; ").trim().to_owned()
        }
        root => {
            let text = root.message();
            let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    }
}

/// There is no such column, and what to do about it.
fn missing_column<'a>(name: &str, columns: impl Iterator<Item = &'a str> + Clone) -> String {
    let same = columns.clone().find(|column| column.eq_ignore_ascii_case(name));
    let hint = match (same, nearest(name, columns)) {
        // SQL reads a bare name as lower case.
        (Some(column), _) => format!("; with its capital letters it is written \"{column}\""),
        (None, Some(column)) => format!("; did you mean {column}?"),
        (None, None) => format!("; text is written in single quotes: '{name}'"),
    };
    format!("there is no column {name}{hint}")
}

/// There is no such table, and which ones there are; none where that is not what the error says.
fn missing_table(error: &DataFusionError, tables: &[&str]) -> Option<String> {
    let DataFusionError::Plan(text) = error.find_root() else { return None };
    let full = text.split_once("table '")?.1.split_once("' not found")?.0;
    let name = full.rsplit('.').next()?;
    let hint = nearest(name, tables.iter().copied())
        .map_or_else(|| format!("; there are {}", tables.join(", ")), |table| format!("; did you mean {table}?"));
    Some(format!("there is no table {name}{hint}"))
}

/// Whose fault it is that a query was not answered: its own, or that of storage.
pub(crate) fn query_error(error: DataFusionError, tables: &[&str]) -> Error {
    if let Some(message) = missing_table(&error, tables) {
        return Error::config(message);
    }
    match error.find_root() {
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Execution(_)
        | DataFusionError::ArrowError(..)
        | DataFusionError::Collection(_) => Error::config(message(&error)),
        _ => error.into(),
    }
}
