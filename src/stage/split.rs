//! The split stage: one clip becomes several windows.
//!
//! Enters: rows with a URI and perhaps a span. Leaves: a row a window, each a clip of its own with a span and an
//! identity; a clip that is too short or cannot be read leaves as it came, settled.

pub mod config;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use self::config::SplitConfig;
use crate::error::{Error, Result};
use crate::schema;
use crate::stage::clips::ClipFile;
use crate::stage::decode::fault;
use crate::stage::{ClipBatch, Fate, Limits, Operator, Stage, StageContext, StageTask};
use crate::video::{self, Caps, MediaInfo, StopSignal, VideoError};

/// Lengths that differ by less are the same: containers round to their ticks.
const SAME_S: f64 = 1e-3;

/// Most windows of one clip. A header may claim any length, and every window is a row.
const MOST_WINDOWS: f64 = 100_000.0;

/// The split stage.
#[derive(Debug)]
pub struct SplitStage {
    config: SplitConfig,
}

impl SplitStage {
    /// The stage with these settings.
    pub fn new(config: SplitConfig) -> Self {
        Self { config }
    }
}

impl Stage for SplitStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("split")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        let SplitConfig { name: _, length_s, stride_s, minimum_s, max_pixels: _, timeout_s: _ } = &self.config;
        for (setting, value) in [("length_s", Some(*length_s)), ("stride_s", *stride_s), ("minimum_s", *minimum_s)] {
            if value.is_some_and(|value| !value.is_finite() || value < SAME_S) {
                return Err(Error::config(format!("stage {}: {setting} has to be at least {SAME_S}", self.name())));
            }
        }
        if let Some(frames) = input.fields().iter().find(|field| schema::is_frames(field)) {
            return Err(Error::config(format!(
                "stage {}: column {} holds the frames of whole clips, which windows must not share; split before you decode",
                self.name(),
                frames.name()
            )));
        }
        if minimum_s.is_some_and(|minimum| minimum > *length_s) {
            return Err(Error::config(format!("stage {}: minimum_s is above length_s, {length_s}", self.name())));
        }
        Ok(Arc::clone(input))
    }

    fn limits(&self) -> Limits {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Limits { rows: 1, in_flight: 2 * cores, ..Limits::default() }
    }

    fn open(&self, _context: &Arc<StageContext>, input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        self.output_schema(input)?;
        let SplitConfig { name: _, length_s, stride_s, minimum_s, max_pixels, timeout_s } = self.config;
        let usual = Caps::default();
        Ok(Arc::new(SplitOperator {
            name: self.name().to_owned(),
            windows: Windows {
                length: length_s,
                stride: stride_s.unwrap_or(length_s),
                minimum: minimum_s.unwrap_or(length_s),
            },
            caps: Caps {
                max_pixels: max_pixels.unwrap_or(usual.max_pixels),
                max_duration_s: f64::INFINITY,
                timeout: timeout_s
                    .map_or(usual.timeout, |limit| Duration::try_from_secs_f64(limit).unwrap_or(Duration::MAX)),
                ..usual
            },
        }))
    }
}

/// How a length of time is cut.
#[derive(Debug, Clone, Copy)]
struct Windows {
    length: f64,
    stride: f64,
    minimum: f64,
}

impl Windows {
    /// The windows of `start .. end`, in seconds; the last one may be shorter than the others.
    fn cut(&self, start: f64, end: f64) -> Vec<(f64, f64)> {
        let mut windows = Vec::new();
        loop {
            // Multiplied, not added up, so that no error gathers.
            let from = start + windows.len() as f64 * self.stride;
            let to = from + self.length;
            let whole = to <= end + SAME_S;
            if !whole && end - from < self.minimum - SAME_S {
                return windows;
            }
            windows.push((from, if whole { to } else { end }));
            // What would follow lies within this one.
            if to >= end - SAME_S {
                return windows;
            }
        }
    }
}

#[derive(Debug)]
struct SplitOperator {
    name: String,
    windows: Windows,
    caps: Caps,
}

#[async_trait]
impl Operator for SplitOperator {
    async fn process(&self, clips: ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let mut parts = Vec::with_capacity(clips.rows());
        for row in 0..clips.rows() {
            parts.push(self.split_row(&clips.slice(row, 1), task).await?);
        }
        ClipBatch::concat(&clips.batch().schema(), parts)
    }
}

impl SplitOperator {
    async fn split_row(&self, clip: &ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let span = clip.span(0)?;
        let (info, duration) = match self.probe(&clip.file(0)?, task).await? {
            Ok(probed) => probed,
            Err(reason) => return clip.settle(&self.name, &[Some(Fate::failed(reason))]),
        };
        let start = span.0.unwrap_or(0.0);
        let end = span.1.unwrap_or(duration).min(duration);
        let length = (end - start).max(0.0);
        let many = length / self.windows.stride;
        if many.is_nan() || many >= MOST_WINDOWS {
            let clip = clip.with_columns(&clip.batch().schema(), media(&info, &[Some(length)]))?;
            let reason = format!(
                "the clip claims to be {length} s long, which makes more than {MOST_WINDOWS} windows: set stride_s or \
                 length_s higher if that is true"
            );
            return clip.settle(&self.name, &[Some(Fate::failed(reason))]);
        }
        let windows = self.windows.cut(start, end);
        if windows.is_empty() {
            let minimum = self.windows.minimum;
            let clip = clip.with_columns(&clip.batch().schema(), media(&info, &[Some(length)]))?;
            let reason = format!("the clip is shorter than {minimum} s");
            return clip.settle(&self.name, &[Some(Fate::dropped(reason, Some(length)))]);
        }
        self.rows(clip, &info, &windows)
    }

    /// A row a window, copies of `clip` but for span and identity.
    fn rows(&self, clip: &ClipBatch, info: &MediaInfo, windows: &[(f64, f64)]) -> Result<ClipBatch> {
        let copies = take_record_batch(clip.batch(), &UInt32Array::from(vec![0; windows.len()]))?;
        let parent = clip.text(schema::CLIP_ID)?.value(0);
        // A clip that is a window already stays the clip that it is: so one that failed further down can come again.
        let own = clip.span(0)?;
        let ids = windows.iter().map(|&(start, end)| match own == (Some(start), Some(end)) {
            true => parent.to_owned(),
            false => window_id(parent, start, end),
        });
        let lengths: Vec<Option<f64>> = windows.iter().map(|(start, end)| Some(end - start)).collect();
        let mut columns = media(info, &lengths);
        columns.extend([
            (schema::CLIP_ID, Arc::new(StringArray::from_iter_values(ids)) as ArrayRef),
            (schema::START_S, Arc::new(Float64Array::from_iter_values(windows.iter().map(|window| window.0)))),
            (schema::END_S, Arc::new(Float64Array::from_iter_values(windows.iter().map(|window| window.1)))),
        ]);
        ClipBatch::new(copies).with_columns(&clip.batch().schema(), columns)
    }

    /// What the file says about itself and its length in seconds, or why it says nothing.
    async fn probe(&self, file: &ClipFile, task: &StageTask) -> Result<Result<(MediaInfo, f64), String>> {
        let context = task.context();
        let stop = context.cancel.child_token();
        let _guard = stop.clone().drop_guard();
        let caps = Caps { stop: StopSignal::new(move || stop.is_cancelled()), ..self.caps.clone() };
        let location = match context.storage.locate(&file.uri) {
            Ok(location) => location,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let (videos, version) = (context.videos.clone(), file.version.clone());
        let probed = task.blocking(move || -> Result<_, VideoError> {
            let mut video = videos.open(video::open_source(&location, version.as_deref())?, &caps)?;
            let duration = video.duration_s()?;
            Ok((video.info(), duration))
        });
        match probed.await? {
            Ok(probed) => Ok(Ok(probed)),
            Err(error) => fault(&self.name, error).map(Err),
        }
    }
}

/// Identity of a window: a hash of the clip that it was cut from and of its span.
pub fn window_id(parent: &str, start_s: f64, end_s: f64) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(parent.as_bytes());
    hash.update(&start_s.to_bits().to_le_bytes());
    hash.update(&end_s.to_bits().to_le_bytes());
    hash.finalize().to_hex()[..32].to_owned()
}

/// Media columns of rows of these lengths; how many frames they have shows when they are decoded.
fn media(info: &MediaInfo, lengths: &[Option<f64>]) -> Vec<(&'static str, ArrayRef)> {
    let rows = lengths.len();
    vec![
        (schema::WIDTH, Arc::new(Int32Array::from(vec![info.width as i32; rows]))),
        (schema::HEIGHT, Arc::new(Int32Array::from(vec![info.height as i32; rows]))),
        (schema::FPS, Arc::new(Float64Array::from(vec![info.fps; rows]))),
        (schema::FRAME_COUNT, Arc::new(Int64Array::from(vec![None::<i64>; rows]))),
        (schema::DURATION_S, Arc::new(Float64Array::from(lengths.to_vec()))),
        (schema::CODEC, Arc::new(StringArray::from(vec![info.codec.as_str(); rows]))),
    ]
}

#[cfg(test)]
mod tests;
