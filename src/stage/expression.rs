//! Boolean SQL expressions over the columns of a clip, as `filter` and `simdrop` take them.
//!
//! Enters: text and a schema. Leaves: for every row true, false or null. An expression is a pure function of its row,
//! so that a resumed run decides as the first one did: no subqueries, aggregates or windows, nothing random, no clock.

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::Dialect;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};
use crate::sql::message;
use crate::stage::ClipBatch;

/// The functions that expressions may use. It knows no tables.
static SESSION: LazyLock<SessionContext> = LazyLock::new(SessionContext::new);

/// A boolean SQL expression, ready to run.
#[derive(Debug, Clone)]
pub struct Expression {
    text: String,
    physical: Arc<dyn PhysicalExpr>,
    number: Option<usize>,
}

impl Expression {
    /// Reads `text` as an expression over `schema`; an error names the stage, the expression and what is wrong.
    pub fn compile(stage: &str, text: &str, schema: &SchemaRef) -> Result<Self> {
        let wrong = |problem: String| Error::config(format!("stage {stage}: expression `{text}`: {problem}"));
        let from_datafusion = |error: DataFusionError| wrong(message::message(&error));

        refuse_subqueries(text).map_err(wrong)?;
        let names = DFSchema::try_from(schema.as_ref().clone()).map_err(from_datafusion)?;
        let logical = SESSION.parse_sql_expr(text, &names).map_err(from_datafusion)?;
        refuse_impure(&logical).map_err(wrong)?;
        let columns = logical.column_refs();
        let number = match columns.iter().collect::<Vec<_>>().as_slice() {
            [column] => schema.index_of(&column.name).ok().filter(|at| schema.field(*at).data_type().is_numeric()),
            _ => None,
        };
        let physical = SESSION.create_physical_expr(logical, &names).map_err(from_datafusion)?;
        let kind = physical.data_type(schema).map_err(from_datafusion)?;
        if kind != DataType::Boolean {
            return Err(wrong(format!("it is {kind}, not true or false; compare it with something")));
        }
        let expression = Self { text: text.to_owned(), physical, number };
        // What is wrong without any row is wrong for all of them.
        expression.values(&RecordBatch::new_empty(Arc::clone(schema))).map_err(from_datafusion)?;
        Ok(expression)
    }

    /// The expression as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True, false or null for every row of a batch that has the schema of [`Expression::compile`].
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        Ok(self.values(batch)?)
    }

    fn values(&self, batch: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
        let array = self.physical.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(array.as_boolean().clone())
    }

    /// True, false or null for every clip, or why a clip has no answer: a division by zero in one row is the fault of
    /// that row alone.
    pub fn judge(&self, clips: &ClipBatch) -> Vec<Result<Option<bool>, String>> {
        let answer = |array: &BooleanArray, row: usize| array.is_valid(row).then(|| array.value(row));
        if let Ok(array) = self.values(clips.batch()) {
            return (0..clips.rows()).map(|row| Ok(answer(&array, row))).collect();
        }
        (0..clips.rows())
            .map(|row| match self.values(clips.slice(row, 1).batch()) {
                Ok(array) => Ok(answer(&array, 0)),
                Err(error) => Err(format!("expression `{}`: {}", self.text, message::message(&error))),
            })
            .collect()
    }

    /// The numbers that decide, where the expression is over one column of numbers only.
    pub fn numbers(&self, clips: &ClipBatch) -> Result<Option<Float64Array>> {
        self.number.map(|at| numbers(clips.batch().column(at))).transpose()
    }
}

/// A column of numbers of any type as 64-bit floating point numbers.
pub(crate) fn numbers(column: &dyn Array) -> Result<Float64Array> {
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// Subqueries are refused before planning, which would ask for their tables first.
fn refuse_subqueries(text: &str) -> Result<(), String> {
    // What does not parse is told by the parser of the expression itself.
    let Ok(parsed) = SESSION.state().sql_to_expr(text, &Dialect::Generic) else { return Ok(()) };
    let found = ast::visit_expressions(&parsed, |expression| match expression {
        ast::Expr::Subquery(_) | ast::Expr::InSubquery { .. } | ast::Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(()) => Err("a subquery is not possible here; an expression sees one clip".to_owned()),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn refuse_impure(expression: &Expr) -> Result<(), String> {
    let mut problem = None;
    // The closure does not fail.
    let _ = expression.apply(|node| {
        problem = match node {
            Expr::Column(_)
            | Expr::Literal(..)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Not(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::InList(_) => None,
            Expr::ScalarFunction(call) => match call.func.signature().volatility {
                Volatility::Immutable => None,
                _ => Some(format!("{}() gives another answer at another time, and a resume must not", call.name())),
            },
            Expr::AggregateFunction(call) => {
                Some(format!("{}() is an aggregate; an expression sees one clip", call.func.name()))
            }
            Expr::WindowFunction(_) => {
                Some("a window function is not possible; an expression sees one clip".to_owned())
            }
            other => Some(format!("{} is not possible here", other.variant_name())),
        };
        Ok(if problem.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    problem.map_or(Ok(()), Err)
}
