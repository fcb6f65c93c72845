//! Questions to a dataset, in SQL.
//!
//! Enters: a committed dataset. Leaves: answers over four tables, `clips`, `shards`, `runs` and `stages`. Only the files
//! that `dataset.json` lists are read, and nothing is ever written: a statement that is no query is refused.

mod clips;
pub(crate) mod format;
pub(crate) mod message;
mod named;
mod prompt;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};

pub use self::format::{Format, write_stream};
pub use self::named::{NAMED, named};
pub use self::prompt::{history_file, prompt};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::storage::Storage;

/// A dataset that answers questions.
#[derive(Clone)]
pub struct SqlSession {
    context: SessionContext,
    dataset: Arc<Dataset>,
    tables: Vec<Table>,
}

/// A table of a [`SqlSession`].
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What a row of it is.
    pub description: &'static str,
    /// Its columns.
    pub schema: SchemaRef,
}

impl std::fmt::Debug for SqlSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlSession").field("dataset", &self.dataset.name).field("tables", &self.tables).finish()
    }
}

impl SqlSession {
    /// Opens the dataset at `uri`, which has to be committed.
    pub async fn open(storage: &Storage, uri: &str) -> Result<Self> {
        let root = storage.locate(uri)?;
        let dataset = Dataset::require(&root).await?;
        let config = SessionConfig::new()
            .with_information_schema(true)
            // The columns keep the types that `schemas/` promises.
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false);
        let context = SessionContext::new_with_config(config);

        let mut tables = Vec::new();
        let clips = clips::ClipsTable::open(&context, &root, &dataset).await?;
        tables.push(("clips", "one row a clip: kept, dropped and failed", Arc::new(clips) as Arc<_>));
        tables.push(("shards", "one row a shard", tables::shards(&dataset)?));
        tables.push(("runs", "one row a run that made the dataset", tables::runs(&dataset)?));
        tables.push(("stages", "one row for each stage of each run", tables::stages(&dataset)?));
        let mut listed = Vec::new();
        for (name, description, table) in tables {
            listed.push(Table { name, description, schema: table.schema() });
            context.register_table(name, table)?;
        }
        Ok(Self { context, dataset: Arc::new(dataset), tables: listed })
    }

    /// What `dataset.json` says.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The tables.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The statements in `text`, which are separated by `;`.
    pub fn statements(&self, text: &str) -> Result<Vec<Statement>> {
        let statements = DFParser::parse_sql(text).map_err(|error| self.wrong(error))?;
        if statements.is_empty() {
            return Err(Error::config("there is no query"));
        }
        Ok(statements.into())
    }

    /// Plans a statement; one that is no query is refused.
    pub async fn plan(&self, statement: Statement) -> Result<DataFrame> {
        let plan = self.context.state().statement_to_plan(statement).await.map_err(|error| self.wrong(error))?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)
            .map_err(|_| Error::config("a dataset is read-only: ask with SELECT, WITH, SHOW, DESCRIBE or EXPLAIN"))?;
        self.context.execute_logical_plan(plan).await.map_err(|error| self.wrong(error))
    }

    /// The answer to one query.
    pub async fn query(&self, sql: &str) -> Result<SendableRecordBatchStream> {
        let mut statements = self.statements(sql)?;
        match (statements.pop(), statements.is_empty()) {
            (Some(statement), true) => self.stream(statement).await,
            _ => Err(Error::config("one query was expected, there are several")),
        }
    }

    async fn stream(&self, statement: Statement) -> Result<SendableRecordBatchStream> {
        self.plan(statement).await?.execute_stream().await.map_err(|error| self.wrong(error))
    }

    /// Answers every query in `sql`, one after the other, to `out`; nothing is held that a format does not need whole.
    ///
    /// `json` gives an array of objects for each query. A Parquet file takes one query. A reader who has seen enough
    /// (`| head`) is no fault and ends it.
    pub async fn write(&self, sql: &str, format: Format, out: &mut (dyn Write + Send)) -> Result<()> {
        match self.write_all(sql, format, out).await {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    async fn write_all(&self, sql: &str, format: Format, out: &mut (dyn Write + Send)) -> Result<()> {
        let statements = self.statements(sql)?;
        if format == Format::Parquet && statements.len() > 1 {
            return Err(Error::config(format!("a Parquet file takes one query, there are {}", statements.len())));
        }
        for (number, statement) in statements.into_iter().enumerate() {
            let stream = self.stream(statement).await?;
            if number > 0 && matches!(format, Format::Table | Format::Csv) {
                out.write_all(b"\n").map_err(Error::io("write", "the answer"))?;
            }
            self.write_answer(stream, format, out).await?;
        }
        Ok(())
    }

    async fn write_answer(
        &self,
        stream: SendableRecordBatchStream,
        format: Format,
        out: &mut (dyn Write + Send),
    ) -> Result<u64> {
        match write_stream(stream, format, out).await {
            Err(Error::DataFusion(error)) => Err(self.wrong(*error)),
            other => other,
        }
    }

    fn wrong(&self, error: datafusion::error::DataFusionError) -> Error {
        message::query_error(error, &self.tables.iter().map(|table| table.name).collect::<Vec<_>>())
    }
}
