//! Table `clips`: the Parquet files that a dataset lists, as one table.
//!
//! A file that lacks a column has nulls in it, so that runs whose pipelines measured other things read as one table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use crate::dataset::{ClipsEntry, Dataset};
use crate::error::{Error, Result};
use crate::schema;
use crate::storage::Location;

/// Under this name DataFusion knows the store of the dataset.
const STORE: &str = "dataset://files";

/// Footers that are read at once.
const READS: usize = 16;

/// Which columns a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Those that every file has.
    Fixed,
    /// Those of all files, which takes a look at each.
    All,
}

/// The clips of a dataset.
#[derive(Debug)]
pub(super) struct ClipsTable {
    schema: SchemaRef,
    files: Vec<ObjectMeta>,
}

impl ClipsTable {
    /// Reads the columns of the files, unless they are known; nothing more.
    pub(super) async fn open(
        context: &SessionContext,
        root: &Location,
        dataset: &Dataset,
        extent: Extent,
    ) -> Result<Self> {
        let url = ObjectStoreUrl::parse(STORE)?;
        context.register_object_store(url.as_ref(), Arc::clone(root.store()));
        let files: Vec<ObjectMeta> = dataset.clips.iter().map(|entry| object(root, entry)).collect();
        if extent == Extent::Fixed {
            return Ok(Self { schema: schema::clip_schema(), files });
        }
        let names = dataset.clips.iter().map(|entry| root.join(&entry.path).uri().to_owned());
        let state = context.state();
        let (state, format) = (&state, &ParquetFormat::default().with_force_view_types(false));
        let mut schemas = futures::stream::iter(files.iter().zip(names))
            .map(|(file, name)| async move {
                let file = std::slice::from_ref(file);
                format.infer_schema(state, root.store(), file).await.map_err(|error| {
                    Error::State(format!(
                        "{name} is listed in the dataset and cannot be read: {}",
                        error.strip_backtrace()
                    ))
                })
            })
            .buffered(READS);
        let mut columns = Columns::new();
        while let Some(schema) = schemas.try_next().await? {
            columns.add(schema);
        }
        drop(schemas);
        let schema = if files.is_empty() { planned_schema(dataset) } else { columns.schema() };
        Ok(Self { schema, files })
    }
}

fn object(root: &Location, entry: &ClipsEntry) -> ObjectMeta {
    ObjectMeta {
        location: root.join(&entry.path).path().clone(),
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: entry.bytes,
        e_tag: None,
        version: None,
    }
}

/// The columns that the pipeline would have made, for a dataset without a single file.
fn planned_schema(dataset: &Dataset) -> SchemaRef {
    let fixed = schema::clip_schema();
    let made =
        dataset.pipeline.stages.iter().try_fold(Arc::clone(&fixed), |schema, spec| spec.stage().output_schema(&schema));
    // A stage that names a column of the user's list cannot tell: then the fixed columns have to do.
    schema::without_frames(&made.unwrap_or(fixed))
}

/// All columns of all files: the fixed ones first, the others in the order of their first file.
struct Columns {
    all: Vec<Field>,
    /// Of the latest file: of many thousands most are the same.
    latest: Option<SchemaRef>,
}

impl Columns {
    fn new() -> Self {
        let fixed = schema::clip_schema();
        Self { all: fixed.fields().iter().map(|field| field.as_ref().clone()).collect(), latest: None }
    }

    fn add(&mut self, schema: SchemaRef) {
        if self.latest.as_ref() == Some(&schema) {
            return;
        }
        for field in schema.fields() {
            let field = field.as_ref().clone().with_nullable(true);
            match self.all.iter_mut().find(|have| have.name() == field.name()) {
                Some(have) => *have = have.clone().with_data_type(common(have.data_type(), field.data_type())),
                None => self.all.push(field),
            }
        }
        self.latest = Some(schema);
    }

    fn schema(self) -> SchemaRef {
        Arc::new(Schema::new(self.all))
    }
}

/// A type that holds the values of both.
fn common(a: &DataType, b: &DataType) -> DataType {
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (DataType::Null, other) | (other, DataType::Null) => other.clone(),
        (a, b) if a.is_integer() && b.is_integer() => DataType::Int64,
        (a, b) if a.is_numeric() && b.is_numeric() => DataType::Float64,
        (a, b) if a.is_nested() || b.is_nested() => a.clone(),
        _ => DataType::Utf8,
    }
}

#[async_trait]
impl TableProvider for ClipsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        if self.files.is_empty() {
            let all: Vec<usize> = (0..self.schema.fields().len()).collect();
            let schema = self.schema.project(projection.unwrap_or(&all))?;
            return Ok(Arc::new(EmptyExec::new(Arc::new(schema))));
        }
        // Filters reach the scan by DataFusion's own push-down of physical filters.
        let files = FileGroup::new(self.files.iter().cloned().map(PartitionedFile::from).collect());
        let source = ParquetSource::new(Arc::clone(&self.schema));
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE)?, Arc::new(source))
            .with_file_groups(files.split_files(state.config().target_partitions()))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
