//! What a training measures of itself: rows in memory, written as JSON lines, as Parquet and as a picture.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use plotters::prelude::{
    BLACK, ChartBuilder, IntoDrawingArea, IntoLogRange, LineSeries, Palette, Palette99, PathElement, SVGBackend,
    SeriesLabelPosition, WHITE,
};
use plotters::style::Color;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::storage::Location;

/// The files below the output.
pub(crate) const PARQUET: &str = "metrics.parquet";
const LINES: &str = "metrics.jsonl";
const PLOT: &str = "loss.svg";

/// The loss over all sources.
pub(super) const ALL: &str = "all";

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Metric {
    /// Steps that were done.
    pub(super) step: u64,
    /// `train`, or `validation` for clips that are held out.
    pub(super) split: String,
    /// `all`, `real` or `synthetic`.
    pub(super) source: String,
    /// Mean of (v − V)² over the clips since the last row.
    pub(super) loss: f64,
    /// Clips behind it.
    pub(super) clips: u64,
    /// Length of the gradient, before it was shortened.
    pub(super) grad_norm: Option<f64>,
    /// Learning rate of the step.
    pub(super) learning_rate: Option<f64>,
    /// Steps a second since the last row.
    pub(super) steps_per_s: Option<f64>,
    /// Share of that time in which the device waited for data.
    pub(super) wait_share: Option<f64>,
}

/// The rows of a training.
#[derive(Debug, Default)]
pub(super) struct Metrics(Vec<Metric>);

impl Metrics {
    /// The rows of an earlier run, up to a step.
    pub(super) async fn read(root: &Location, step: u64) -> Result<Self> {
        let file = root.join(LINES);
        let Some(bytes) = file.read_if_there().await? else { return Ok(Self::default()) };
        let rows = String::from_utf8_lossy(&bytes)
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Metric>, _>>()
            .map_err(|error| Error::State(format!("{} is damaged: {error}", file.uri())))?;
        Ok(Self(rows.into_iter().filter(|row| row.step <= step).collect()))
    }

    pub(super) fn push(&mut self, row: Metric) {
        self.0.push(row);
    }

    /// The last loss of a split over all sources.
    pub(super) fn last(&self, split: &str) -> Option<f64> {
        self.0.iter().rev().find(|row| row.split == split && row.source == ALL).map(|row| row.loss)
    }

    /// Writes all three files.
    pub(super) async fn write(&self, root: &Location, title: &str) -> Result<()> {
        root.join(LINES).write(self.lines()?).await?;
        root.join(PARQUET).write(self.parquet()?).await?;
        root.join(PLOT).write(self.plot(title)?).await
    }

    fn lines(&self) -> Result<Bytes> {
        let mut text = Vec::new();
        for row in &self.0 {
            serde_json::to_writer(&mut text, row).map_err(Error::internal)?;
            text.push(b'\n');
        }
        Ok(text.into())
    }

    fn parquet(&self) -> Result<Bytes> {
        let whole = |value: &dyn Fn(&Metric) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(self.0.iter().map(|row| value(row) as i64)))
        };
        let text = |value: &dyn Fn(&Metric) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(self.0.iter().map(value)))
        };
        let real = |value: &dyn Fn(&Metric) -> Option<f64>| -> ArrayRef {
            Arc::new(Float64Array::from_iter(self.0.iter().map(value)))
        };
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("step", whole(&|row| row.step), false),
            ("split", text(&|row| row.split.clone()), false),
            ("source", text(&|row| row.source.clone()), false),
            ("loss", real(&|row| Some(row.loss)), false),
            ("clips", whole(&|row| row.clips), false),
            ("grad_norm", real(&|row| row.grad_norm), true),
            ("learning_rate", real(&|row| row.learning_rate), true),
            ("steps_per_s", real(&|row| row.steps_per_s), true),
            ("wait_share", real(&|row| row.wait_share), true),
        ])?;
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
        writer.write(&batch)?;
        Ok(writer.into_inner()?.into())
    }

    /// The losses over the steps, as SVG.
    fn plot(&self, title: &str) -> Result<Bytes> {
        let mut text = String::new();
        self.draw(title, &mut text).map_err(|error| Error::internal(format!("the loss plot: {error}")))?;
        Ok(text.into())
    }

    fn draw(&self, title: &str, into: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(into, (800, 480)).into_drawing_area();
        area.fill(&WHITE)?;
        let shown = || self.0.iter().filter(|row| row.loss.is_finite() && row.loss > 0.0);
        let (least, most) = shown().fold((f64::MAX, f64::MIN), |(a, b), row| (a.min(row.loss), b.max(row.loss)));
        let steps = shown().map(|row| row.step).max().unwrap_or(1);
        if least > most {
            area.present()?;
            return Ok(());
        }
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(0..steps.max(1), ((least * 0.95)..(most * 1.05)).log_scale())?;
        chart.configure_mesh().x_desc("step").y_desc("loss").draw()?;
        let lines: BTreeSet<(&str, &str)> = shown().map(|row| (row.split.as_str(), row.source.as_str())).collect();
        for (number, (split, source)) in lines.into_iter().enumerate() {
            let points = shown().filter(|row| (row.split.as_str(), row.source.as_str()) == (split, source));
            let color = Palette99::pick(number).mix(0.9);
            let series = LineSeries::new(points.map(|row| (row.step, row.loss)), color.stroke_width(2));
            let drawn = chart.draw_series(series)?.label(format!("{split}, {source}"));
            drawn.legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        }
        let labels = &mut chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
        area.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Storage;

    #[tokio::test]
    async fn rows_are_read_back_up_to_a_step() {
        let folder = tempfile::tempdir().unwrap();
        let root = Storage::default().locate(&folder.path().display().to_string()).unwrap();
        let mut metrics = Metrics::default();
        for step in [10, 20, 30] {
            for (split, norm) in [("train", Some(1.5)), ("validation", None)] {
                metrics.push(Metric {
                    step,
                    split: split.to_owned(),
                    source: ALL.to_owned(),
                    loss: 1.0 / step as f64,
                    clips: 16,
                    grad_norm: norm,
                    learning_rate: norm,
                    steps_per_s: norm,
                    wait_share: norm,
                });
            }
        }
        metrics.write(&root, "a test").await.unwrap();
        assert_eq!(Metrics::read(&root, 20).await.unwrap().0, metrics.0[..4]);
        assert_eq!(metrics.last("validation"), Some(1.0 / 30.0));
        let plot = std::fs::read_to_string(folder.path().join(PLOT)).unwrap();
        assert!(plot.starts_with("<svg") && plot.contains("a test") && plot.contains("validation, all"), "{plot}");
        let file = std::fs::File::open(folder.path().join(PARQUET)).unwrap();
        let read = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100).unwrap();
        assert_eq!(read.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 6);
    }
}
