//! Where videos are opened: in this process, or each in a process of its own, so that a crash inside FFmpeg costs one
//! clip.
//!
//! Enter: bytes of a video, untrusted. Leave: the same pixels, spans and errors wherever they are made. A worker is this
//! program once more, called with a hidden command; it gets the video's bytes from here, piece by piece, and opens no
//! file, and the environment with its credentials stays here.

mod client;
#[cfg(test)]
mod tests;
mod wire;
mod worker;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::client::Conversation;
use super::cut;
use super::{Caps, MediaInfo, MediaSource, Pictures, Plan, Reader, Sampling, Span, Target, VideoError};
use crate::stage::shards::config::Cut;

pub use self::client::WorkerPool;
pub use self::worker::serve;

/// Where FFmpeg runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// In simdrop itself: the fastest. A video that crashes FFmpeg would end the run.
    #[default]
    None,
    /// In processes of its own, which are used again and again. A video that crashes FFmpeg, hangs it or makes it take
    /// more memory than `memory_limit` (at least 1 GiB) fails alone. Takes some MiB more for each core.
    Process,
}

/// Opens videos.
#[derive(Debug, Clone, Default)]
pub struct Videos(Option<Arc<WorkerPool>>);

impl Videos {
    /// Every video is opened in a process of `pool`; [`Videos::default`] opens them in this one.
    pub fn isolated(pool: WorkerPool) -> Self {
        Self(Some(Arc::new(pool)))
    }

    /// Opens a video and checks what its headers claim against the limits; blocking.
    pub fn open(&self, source: Box<dyn MediaSource>, caps: &Caps) -> Result<Video, VideoError> {
        let place = match &self.0 {
            None => Place::Here(Box::new(Here { reader: Reader::open(source, caps)?, plan: None })),
            Some(pool) => Place::There(Box::new(Conversation::open(pool, source, caps)?)),
        };
        Ok(Video(place))
    }
}

/// A video, open; its methods block.
#[derive(Debug)]
pub struct Video(Place);

#[derive(Debug)]
enum Place {
    Here(Box<Here>),
    There(Box<Conversation>),
}

/// A video that is open in this process, with what was planned last.
#[derive(Debug)]
struct Here {
    reader: Reader,
    plan: Option<(Plan, Vec<Target>)>,
}

impl Video {
    /// What the header tells about the file.
    pub fn info(&self) -> MediaInfo {
        match &self.0 {
            Place::Here(here) => here.reader.info(),
            Place::There(conversation) => conversation.info().clone(),
        }
    }

    /// See [`Reader::duration_s`].
    pub fn duration_s(&mut self) -> Result<f64, VideoError> {
        match &mut self.0 {
            Place::Here(here) => here.reader.duration_s(),
            Place::There(conversation) => conversation.duration_s(),
        }
    }

    /// Chooses the frames that [`Video::decode`] will give, once for each target; see [`Reader::plan`].
    pub fn plan(&mut self, span: Span, sampling: &Sampling, targets: &[Target]) -> Result<Outline, VideoError> {
        match &mut self.0 {
            Place::Here(here) => {
                let made = here.reader.plan(span, sampling)?;
                let (made, _) = here.plan.insert((made, targets.to_vec()));
                Ok(Outline::of(made, targets))
            }
            Place::There(conversation) => conversation.plan(span, sampling, targets),
        }
    }

    /// Decodes what was planned last.
    pub fn decode(&mut self) -> Result<Vec<Pictures>, VideoError> {
        match &mut self.0 {
            Place::Here(here) => {
                let (plan, targets) = here.plan.as_ref().ok_or_else(not_planned)?;
                here.reader.decode(plan, targets)
            }
            Place::There(conversation) => conversation.decode(),
        }
    }

    /// The span as an mp4 of at most `max_bytes`; see [`super::cut()`].
    pub fn cut(&mut self, span: Span, how: Cut, max_bytes: usize) -> Result<Vec<u8>, VideoError> {
        match &mut self.0 {
            Place::Here(here) => cut::cut_from(&mut here.reader, span, how, max_bytes),
            Place::There(conversation) => conversation.cut(span, how, max_bytes),
        }
    }
}

fn not_planned() -> VideoError {
    VideoError::Ffmpeg { action: "decode", message: "no frames have been chosen".to_owned() }
}

/// What decoding will take and give.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// What is known about the clip: the span, not the file.
    pub info: MediaInfo,
    /// Frames, height, width of what each target gets.
    pub shapes: Vec<[usize; 3]>,
    /// Bytes that decoding takes besides; see [`Plan::workspace_bytes`].
    pub workspace: usize,
}

impl Outline {
    fn of(plan: &Plan, targets: &[Target]) -> Self {
        Self {
            info: plan.info().clone(),
            shapes: targets.iter().map(|target| plan.output_shape(target)).collect(),
            workspace: plan.workspace_bytes(),
        }
    }

    /// Bytes of the frames of each target.
    pub fn sizes(&self) -> impl Iterator<Item = usize> {
        self.shapes.iter().map(|shape| shape.iter().fold(3, |bytes: usize, side| bytes.saturating_mul(*side)))
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.sizes().fold(0, usize::saturating_add)
    }
}
