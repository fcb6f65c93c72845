//! Feeds clips to the model and makes columns of what comes out.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::future::try_join_all;

use super::config::ModelConfig;
use super::inputs::{Feed, Values, feeds};
use super::outputs::Column;
use crate::error::{Error, Result};
use crate::model::{ModelRegistry, RowMut, Rows, Session, SessionOptions};
use crate::stage::{ClipBatch, Fate, Operator, StageTask};

/// The running model stage.
#[derive(Debug)]
pub(super) struct ModelOperator {
    stage: String,
    session: Arc<Session>,
    feeds: Vec<Feed>,
    columns: Vec<Column>,
    output: SchemaRef,
}

/// The items of one clip.
#[derive(Debug)]
struct Items {
    feeds: Vec<Values>,
    /// What came out: for each item, for each output that the session gives.
    values: Vec<OnceLock<Vec<Vec<f32>>>>,
}

impl Rows for Items {
    fn count(&self) -> usize {
        self.values.len()
    }

    fn inputs(&self) -> usize {
        self.feeds.len()
    }

    fn dims(&self, input: usize) -> &[usize] {
        self.feeds[input].dims()
    }

    fn fill(&self, row: usize, input: usize, into: RowMut<'_>) {
        self.feeds[input].fill(row, into);
    }

    fn take(&self, row: usize, outputs: &[&[f32]]) {
        // A row is run once.
        let _ = self.values[row].set(outputs.iter().map(|values| values.to_vec()).collect());
    }
}

/// What a clip's columns are made of, or why it has none.
type Made = std::result::Result<Vec<Vec<f32>>, String>;

impl ModelOperator {
    pub(super) fn open(
        stage: &str,
        config: &ModelConfig,
        models: &ModelRegistry,
        input: &SchemaRef,
        output: SchemaRef,
    ) -> Result<Self> {
        let mut outputs: Vec<String> = Vec::new();
        let places = config.outputs.iter().map(|output| {
            outputs.iter().position(|have| have == &output.tensor).unwrap_or_else(|| {
                outputs.push(output.tensor.clone());
                outputs.len() - 1
            })
        });
        let places: Vec<usize> = places.collect();
        let session = models.session(&config.model, &SessionOptions { batch: config.batch, outputs })?;
        let feeds = feeds(stage, config, session.graph(), input)?;
        let columns = config.outputs.iter().zip(places);
        let columns =
            columns.map(|(output, place)| Column::open(stage, output, session.graph(), place, models.storage()));
        let columns = columns.collect::<Result<_>>()?;
        Ok(Self { stage: stage.to_owned(), session, feeds, columns, output })
    }

    async fn run(&self, clips: &ClipBatch, row: usize, task: &StageTask) -> Result<Made> {
        let mut feeds = Vec::with_capacity(self.feeds.len());
        let mut items = None;
        for feed in &self.feeds {
            let values = match feed.values(clips, row)? {
                Ok(values) => values,
                Err(reason) => return Ok(Err(reason)),
            };
            match (items, values.items()) {
                (Some(have), Some(own)) if have != own => {
                    return Ok(Err(format!(
                        "its frames columns give {have} and {own} frames, the model takes as many"
                    )));
                }
                (have, own) => items = have.or(own),
            }
            let to_scale = feed.to_scale(&values);
            feeds.push(match to_scale {
                Some(size) => task.blocking(move || values.scaled(size)).await??,
                None => values,
            });
        }
        let values = (0..items.unwrap_or(1)).map(|_| OnceLock::new()).collect();
        let items = Arc::new(Items { feeds, values });
        task.credit(self.session.infer(Arc::<Items>::clone(&items)).await?);
        self.columns.iter().map(|column| self.reduce(column, &items)).collect::<Result<Vec<_>>>().map(Ok)
    }

    fn reduce(&self, column: &Column, items: &Items) -> Result<Vec<f32>> {
        let of_column = items.values.iter().filter_map(|values| values.get()).map(|values| &*values[column.place]);
        for values in of_column.clone() {
            column.check(values.len()).map_err(|what| Error::Model {
                model: self.session.model().to_owned(),
                message: format!("output {} {what}", column.config.tensor),
            })?;
        }
        Ok(column.reduce(of_column))
    }
}

#[async_trait]
impl Operator for ModelOperator {
    async fn process(&self, clips: ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let mut made = try_join_all((0..clips.rows()).map(|row| self.run(&clips, row, task))).await?;
        let fates: Vec<_> = made.iter().map(|clip| clip.as_ref().err().map(Fate::failed)).collect();
        let columns = self.columns.iter().enumerate().map(|(place, column)| {
            let values =
                made.iter_mut().map(|clip| clip.as_mut().ok().map(|values| std::mem::take(&mut values[place])));
            (column.config.column.as_str(), column.array(&values.collect::<Vec<_>>()))
        });
        let columns = columns.collect();
        clips.with_columns(&self.output, columns)?.settle(&self.stage, &fates)
    }
}
