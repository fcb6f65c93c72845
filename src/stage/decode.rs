//! The decode stage: bytes of a clip become frames.
//!
//! Enters: rows with a URI and perhaps a span. Leaves: the same rows with frames, and with what the file says about
//! itself. Memory is taken between the plan, which knows how many bytes the frames need, and the decoding.

pub mod config;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use self::config::DecodeConfig;
use crate::error::{Error, Result};
use crate::schema;
use crate::stage::clips::ClipFile;
use crate::stage::context::leased_buffer;
use crate::stage::frames::{self, ClipFrames};
use crate::stage::{ClipBatch, Fate, Limits, Operator, Stage, StageContext, StageTask};
use crate::video::{self, Caps, MediaInfo, Outline, Pictures, Sampling, Span, StopSignal, Target, VideoError};

/// Bytes that an Arrow list of frames can hold.
const MOST_BYTES: usize = i32::MAX as usize;

/// The decode stage.
#[derive(Debug)]
pub struct DecodeStage {
    config: DecodeConfig,
}

impl DecodeStage {
    /// The stage with these settings.
    pub fn new(config: DecodeConfig) -> Self {
        Self { config }
    }

    /// The columns that receive frames.
    fn columns(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.config.column.as_str()).chain(self.config.also.iter().map(|also| also.column.as_str()))
    }
}

impl Stage for DecodeStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("decode")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        let (name, config) = (self.name(), &self.config);
        if config.frames == Some(0) || config.fps.is_some_and(|fps| fps.is_nan() || fps <= 0.0) {
            return Err(Error::config(format!("stage {name}: frames and fps have to be above 0")));
        }
        let mut seen: Vec<&str> = Vec::new();
        for column in self.columns() {
            let taken = input.column_with_name(column).is_some_and(|(_, field)| !schema::is_frames(field));
            if taken || seen.contains(&column) {
                return Err(Error::config(format!("stage {name}: there is a column {column} already; name another")));
            }
            seen.push(column);
        }
        let count = config.frames.map(|frames| frames as usize);
        let shape = |target: Target| match (target.width, target.height) {
            (Some(width), Some(height)) => [count, Some(height as usize), Some(width as usize)],
            _ => [count, None, None],
        };
        let fields = self.columns().zip(targets(config)).map(|(column, target)| frames::field(column, shape(target)));
        Ok(schema::with_fields(input, fields))
    }

    fn limits(&self) -> Limits {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Limits { rows: 1, in_flight: 2 * cores, ..Limits::default() }
    }

    fn open(&self, _context: &Arc<StageContext>, input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        Ok(Arc::new(DecodeOperator {
            name: self.name().to_owned(),
            columns: self.columns().map(str::to_owned).collect(),
            targets: targets(&self.config),
            sampling: sampling(&self.config),
            caps: caps(&self.config),
            output: self.output_schema(input)?,
        }))
    }
}

/// The sizes that are wanted of every frame.
pub fn targets(config: &DecodeConfig) -> Vec<Target> {
    let size = |width, height, fit, filter| Target { width, height, fit, filter };
    let mut targets = vec![size(config.width, config.height, config.fit, config.filter)];
    targets.extend(config.also.iter().map(|also| {
        let (fit, filter) = (also.fit.unwrap_or(config.fit), also.filter.unwrap_or(config.filter));
        size(also.width, also.height, fit, filter)
    }));
    targets
}

/// The frames that are wanted.
pub fn sampling(config: &DecodeConfig) -> Sampling {
    Sampling { frames: config.frames, fps: config.fps, short: config.short }
}

/// What a clip may cost.
pub fn caps(config: &DecodeConfig) -> Caps {
    Caps {
        max_pixels: config.max_pixels,
        max_duration_s: config.max_duration_s,
        timeout: Duration::try_from_secs_f64(config.timeout_s).unwrap_or(Duration::MAX),
        hwaccel: config.hwaccel,
        ..Caps::default()
    }
}

#[derive(Debug)]
struct DecodeOperator {
    name: String,
    columns: Vec<String>,
    targets: Vec<Target>,
    sampling: Sampling,
    caps: Caps,
    output: SchemaRef,
}

#[async_trait]
impl Operator for DecodeOperator {
    async fn process(&self, clips: ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let mut rows = Vec::with_capacity(clips.rows());
        for row in 0..clips.rows() {
            rows.push(self.decode_row(&clips.slice(row, 1), task).await?);
        }
        ClipBatch::concat(&self.output, rows)
    }
}

/// What is known of a clip, and its frames or why there are none.
struct Decoded {
    info: Option<MediaInfo>,
    clip: Result<Vec<ClipFrames>, String>,
}

impl DecodeOperator {
    async fn decode_row(&self, clip: &ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let decoded = self.decode(&clip.file(0)?, clip.span(0)?, task).await?;
        let (frames, fate) = match decoded.clip {
            Ok(frames) => (frames, None),
            Err(reason) => (Vec::new(), Some(Fate::failed(reason))),
        };
        let mut columns = decoded.info.map(media_columns).unwrap_or_default();
        let mut frames = frames.into_iter();
        for column in &self.columns {
            columns.push((column, frames::column(frames.next())?));
        }
        clip.with_columns(&self.output, columns)?.settle(&self.name, &[fate])
    }

    async fn decode(&self, file: &ClipFile, span: Span, task: &StageTask) -> Result<Decoded> {
        let context = task.context();
        // Ends the blocking work where this future is dropped, too.
        let stop = context.cancel.child_token();
        let _guard = stop.clone().drop_guard();
        let caps = Caps { stop: StopSignal::new(move || stop.is_cancelled()), ..self.caps.clone() };

        let location = match context.storage.locate(&file.uri) {
            Ok(location) => location,
            Err(error) => return Ok(Decoded { info: None, clip: Err(error.to_string()) }),
        };
        let version = file.version.clone();
        let (videos, sampling, targets) = (context.videos.clone(), self.sampling, self.targets.clone());
        let opened = task.blocking(move || {
            let mut video = videos.open(video::open_source(&location, version.as_deref())?, &caps)?;
            let outline = video.plan(span, &sampling, &targets);
            Ok((video, outline))
        });
        let (mut video, outline) = match opened.await? {
            Ok((video, Ok(outline))) => (video, outline),
            Ok((video, Err(error))) => {
                // The length would be that of the file, not of the clip.
                let info = MediaInfo { duration_s: None, ..video.info() };
                return Ok(Decoded { info: Some(info), clip: Err(fault(&self.name, error)?) });
            }
            Err(error) => return Ok(Decoded { info: None, clip: Err(fault(&self.name, error)?) }),
        };
        let info = Some(outline.info.clone());
        if let Some(reason) = too_large(&outline, task.most_memory()) {
            return Ok(Decoded { info, clip: Err(reason) });
        }

        let lease = task.reserve(outline.bytes()).await?;
        let workspace = tokio::select! {
            workspace = context.workspace.take(outline.workspace) => workspace?,
            () = context.cancel.cancelled() => return Err(Error::Cancelled),
        };
        // The leases go along: they are held until the thread is done, even where nobody waits for it any more.
        let work = move || {
            let pictures = video.decode();
            drop((video, workspace));
            (pictures, lease)
        };
        let clip = match task.blocking(work).await? {
            (Ok(pictures), lease) => {
                let leased = |Pictures { data, shape }| ClipFrames { data: leased_buffer(data, &lease), shape };
                Ok(pictures.into_iter().map(leased).collect())
            }
            (Err(error), _) => Err(fault(&self.name, error)?),
        };
        Ok(Decoded { info, clip })
    }
}

/// Why a clip failed in `stage`; an error that is not the clip's ends the run.
pub(crate) fn fault(stage: &str, error: VideoError) -> Result<String> {
    match error {
        VideoError::Stopped => Err(Error::Cancelled),
        VideoError::Io(_) if error.ends_run() => Err(Error::State(format!(
            "stage {stage}: {error}; renew the credentials in the environment and run the same command again: what is done \
             is kept"
        ))),
        error if error.ends_run() => Err(Error::State(format!("stage {stage}: {error}"))),
        error => Ok(error.to_string()),
    }
}

fn too_large(outline: &Outline, most: usize) -> Option<String> {
    let (all, largest) = (outline.bytes(), outline.sizes().max()?);
    let size = |bytes: usize| bytesize::ByteSize(bytes as u64);
    let [frames, height, width] = outline.shapes.first()?;
    if largest > MOST_BYTES {
        return Some(format!(
            "{frames} frames of {width}x{height} take {}, a clip can have 2 GiB: set frames, fps, width or height, or cut \
             it with the split stage",
            size(largest)
        ));
    }
    (all > most).then(|| {
        format!(
            "{frames} frames of {width}x{height} take {}, this stage has {}: set run.memory_limit higher, or frames, fps, \
             width or height lower",
            size(all),
            size(most)
        )
    })
}

/// The media columns of one row.
pub(crate) fn media_columns(info: MediaInfo) -> Vec<(&'static str, ArrayRef)> {
    let MediaInfo { width, height, fps, frame_count, duration_s, codec } = info;
    vec![
        (schema::WIDTH, Arc::new(Int32Array::from(vec![width as i32]))),
        (schema::HEIGHT, Arc::new(Int32Array::from(vec![height as i32]))),
        (schema::FPS, Arc::new(Float64Array::from(vec![fps]))),
        (schema::FRAME_COUNT, Arc::new(Int64Array::from(vec![frame_count.map(|count| count as i64)]))),
        (schema::DURATION_S, Arc::new(Float64Array::from(vec![duration_s]))),
        (schema::CODEC, Arc::new(StringArray::from(vec![codec]))),
    ]
}

#[cfg(test)]
mod tests;
