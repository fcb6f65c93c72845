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
use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};

use self::clips::Extent;
pub use self::format::{Format, write_stream};
pub use self::named::{NAMED, named};
pub use self::prompt::{history_file, prompt};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::storage::Storage;

/// A dataset, or a training, that answers questions.
#[derive(Clone)]
pub struct SqlSession {
    context: SessionContext,
    dataset: Option<Arc<Dataset>>,
    name: String,
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

/// Tables by name, each with what a row of it is.
type Tables = Vec<(&'static str, &'static str, Arc<dyn TableProvider>)>;

impl std::fmt::Debug for SqlSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlSession").field("name", &self.name).field("tables", &self.tables).finish()
    }
}

impl SqlSession {
    /// Opens the dataset at `uri`, which has to be committed, or the training there.
    pub async fn open(storage: &Storage, uri: &str) -> Result<Self> {
        Self::open_with(storage, uri, Extent::All).await
    }

    /// Opens the dataset at `uri` for questions to the columns that all datasets have: its files are not looked at before
    /// they are asked for.
    pub(crate) async fn open_fixed(storage: &Storage, uri: &str) -> Result<Self> {
        Self::open_with(storage, uri, Extent::Fixed).await
    }

    async fn open_with(storage: &Storage, uri: &str, extent: Extent) -> Result<Self> {
        let root = storage.locate(uri)?;
        let dataset = match Dataset::read(&root).await? {
            Some(dataset) => dataset,
            None => match tables::metrics(&root).await? {
                Some(metrics) => return Self::of_training(uri, metrics),
                None => Dataset::require(&root).await?,
            },
        };
        let config = SessionConfig::new()
            .with_information_schema(true)
            // The columns keep the types that `schemas/` promises.
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false);
        let context = SessionContext::new_with_config(config);

        let mut tables: Tables = Vec::new();
        let clips = clips::ClipsTable::open(&context, &root, &dataset, extent).await?;
        tables.push(("clips", "one row a clip: kept, dropped and failed", Arc::new(clips)));
        tables.push(("shards", "one row a shard", tables::shards(&dataset)?));
        tables.push(("runs", "one row a run that made the dataset", tables::runs(&dataset)?));
        tables.push(("stages", "one row for each stage of each run", tables::stages(&dataset)?));
        let name = dataset.name.clone();
        Ok(Self { dataset: Some(Arc::new(dataset)), ..Self::over(context, name, tables)? })
    }

    fn of_training(uri: &str, metrics: Arc<dyn TableProvider>) -> Result<Self> {
        let context = SessionContext::new_with_config(SessionConfig::new().with_information_schema(true));
        Self::over(context, uri.to_owned(), vec![("metrics", "one row a measurement of the training", metrics)])
    }

    fn over(context: SessionContext, name: String, tables: Tables) -> Result<Self> {
        let mut listed = Vec::new();
        for (name, description, table) in tables {
            listed.push(Table { name, description, schema: table.schema() });
            context.register_table(name, table)?;
        }
        Ok(Self { context, dataset: None, name, tables: listed })
    }

    /// What `dataset.json` says; a training is refused.
    pub fn dataset(&self) -> Result<&Dataset> {
        let dataset = self.dataset.as_deref();
        dataset.ok_or_else(|| Error::config(format!("{} is a training, a dataset was expected", self.name)))
    }

    /// Name of the dataset, or where the training is.
    pub fn name(&self) -> &str {
        &self.name
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
