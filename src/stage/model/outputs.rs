//! The model's outputs as columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float32Builder, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};

use super::columns::list_of;
use super::config::{ModelOutput, OutputType, Reduce};
use crate::error::{Error, Result};
use crate::model::Graph;
use crate::storage::Storage;

/// The field of an output's column, which follows from the settings alone.
pub(super) fn field(stage: &str, output: &ModelOutput) -> Result<Field> {
    let kind = match (&output.labels, output.kind) {
        (Some(_), OutputType::Number) => {
            return Err(Error::config(format!(
                "stage {stage}: output {} has labels, which make a list of texts; remove type",
                output.tensor
            )));
        }
        (Some(_), OutputType::List) => list_of(DataType::Utf8),
        (None, OutputType::List) => list_of(DataType::Float32),
        (None, OutputType::Number) => DataType::Float32,
    };
    Ok(Field::new(&output.column, kind, true))
}

/// One output that is kept.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) config: ModelOutput,
    labels: Option<Vec<String>>,
    /// Its place among the outputs that the session gives.
    pub(super) place: usize,
}

impl Column {
    /// Reads the labels and checks the output against the graph; blocking.
    pub(super) fn open(
        stage: &str,
        config: &ModelOutput,
        graph: &Graph,
        place: usize,
        storage: &Storage,
    ) -> Result<Self> {
        let labels = config.labels.as_ref().map(|path| read_labels(stage, path, storage)).transpose()?;
        let column = Self { config: config.clone(), labels, place };
        if let Some(tensor) = graph.output(&config.tensor) {
            let elements = tensor.row_dims().iter().copied().product::<Option<usize>>();
            if let Some(elements) = elements {
                column
                    .check(elements)
                    .map_err(|what| Error::config(format!("stage {stage}: output {tensor} {what}")))?;
            }
        }
        Ok(column)
    }

    /// Whether an item may have so many elements.
    pub(super) fn check(&self, elements: usize) -> Result<(), String> {
        match &self.labels {
            Some(labels) if labels.len() != elements => {
                Err(format!("has {elements} elements an item, its labels are {}", labels.len()))
            }
            None if self.config.kind == OutputType::Number && elements != 1 => {
                Err(format!("has {elements} elements an item, which is no number; remove type or say type: list"))
            }
            _ => Ok(()),
        }
    }

    /// The value of a clip from those of its items.
    pub(super) fn reduce<'a>(&self, items: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
        match &self.labels {
            Some(_) => reduce(self.config.reduce, items.map(softmax)),
            None => reduce(self.config.reduce, items.map(<[f32]>::to_vec)),
        }
    }

    /// The column of all clips; none for a clip that has failed.
    pub(super) fn array(&self, clips: &[Option<Vec<f32>>]) -> ArrayRef {
        match (&self.labels, self.config.kind) {
            (Some(labels), _) => {
                let mut lists = ListBuilder::new(StringBuilder::new());
                for clip in clips {
                    if let Some(shares) = clip {
                        for &class in &self.likeliest(shares) {
                            lists.values().append_value(&labels[class]);
                        }
                    }
                    lists.append(clip.is_some());
                }
                Arc::new(lists.finish())
            }
            (None, OutputType::List) => {
                let mut lists = ListBuilder::new(Float32Builder::new());
                for clip in clips {
                    lists.values().append_slice(clip.as_deref().unwrap_or_default());
                    lists.append(clip.is_some());
                }
                Arc::new(lists.finish())
            }
            (None, OutputType::Number) => {
                let values = clips.iter().map(|clip| clip.as_ref().and_then(|values| values.first().copied()));
                Arc::new(values.collect::<Float32Array>())
            }
        }
    }

    /// Classes, likeliest first; of equals the first one.
    fn likeliest(&self, shares: &[f32]) -> Vec<usize> {
        let mut classes: Vec<usize> = (0..shares.len()).filter(|&class| shares[class] >= self.config.minimum).collect();
        classes.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]).then(a.cmp(&b)));
        classes.truncate(self.config.top);
        classes
    }
}

fn read_labels(stage: &str, path: &str, storage: &Storage) -> Result<Vec<String>> {
    let wrong = |what: &dyn std::fmt::Display| Error::config(format!("stage {stage}: labels {path}: {what}"));
    let text = std::fs::read_to_string(storage.file(path)?).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&format!("not a JSON list of texts: {error}")))
}

fn softmax(values: &[f32]) -> Vec<f32> {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = values.iter().map(|&value| f64::from(value - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

/// Element by element, in the order of the items.
fn reduce(how: Reduce, mut items: impl Iterator<Item = Vec<f32>>) -> Vec<f32> {
    let Some(first) = items.next() else { return Vec::new() };
    match how {
        Reduce::First => first,
        Reduce::Max => items.fold(first, |largest, item| {
            largest.iter().zip(&item).map(|(&a, &b)| if b > a || b.is_nan() { b } else { a }).collect()
        }),
        Reduce::Mean => {
            let (mut sums, mut count) = (first.iter().copied().map(f64::from).collect::<Vec<_>>(), 1.0);
            for item in items {
                count += 1.0;
                sums.iter_mut().zip(&item).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            sums.iter().map(|sum| (sum / count) as f32).collect()
        }
    }
}
