//! What the two processes tell each other: a length of four bytes, JSON, and for some messages bytes behind it.
//!
//! Numbers with a point travel as their bits, so that both sides compute with the same ones. A worker may have been
//! taken over by what it reads: whoever receives a length checks it before it takes memory.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Outline;
use crate::stage::decode::config::{HwAccel, ShortClip};
use crate::stage::shards::config::Cut;
use crate::video::{Caps, MediaInfo, Sampling, Span, StopSignal, Target, VideoError};

/// Most bytes of a message without those behind it.
const MOST_MESSAGE: usize = 1 << 20;
/// Most bytes of a video that are asked for at once.
pub(super) const BLOCK: usize = 256 << 10;

/// A number by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Real(u64);

impl From<f64> for Real {
    fn from(value: f64) -> Self {
        Self(value.to_bits())
    }
}

impl From<Real> for f64 {
    fn from(value: Real) -> Self {
        Self::from_bits(value.0)
    }
}

/// What a worker is asked for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Open a video of so many bytes.
    Open { length: u64, limits: Limits },
    /// Tell how long it is.
    Duration,
    /// Choose frames.
    Plan { span: [Option<Real>; 2], choice: Choice, targets: Vec<Target> },
    /// Decode what was planned.
    Decode,
    /// Cut a span out.
    Cut { span: [Option<Real>; 2], how: Cut, max_bytes: usize },
    /// The bytes that were asked for; so many follow.
    Bytes { length: usize },
    /// They could not be read.
    Unreadable { message: String },
    /// Let go of the video. Nothing is answered.
    Close,
}

/// What a worker says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It has started.
    Ready,
    /// It needs bytes of the video to go on.
    Read { offset: u64, length: usize },
    /// The video is open.
    Opened { info: Info },
    /// Its length in seconds.
    Seconds { seconds: Real },
    /// Frames are chosen.
    Planned { info: Info, shapes: Vec<[usize; 3]>, workspace: usize },
    /// Frames follow: the bytes of all targets, as many as the plan said.
    Decoded,
    /// An mp4 of so many bytes follows.
    Cut { length: usize },
    /// It cannot be done.
    Failed { message: String, ends_run: bool },
}

/// [`Caps`] without the signal to stop, which ends the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Limits {
    max_pixels: u64,
    max_duration_s: Real,
    timeout: Duration,
    hwaccel: HwAccel,
    device: u32,
}

impl From<&Caps> for Limits {
    fn from(caps: &Caps) -> Self {
        let Caps { max_pixels, max_duration_s, timeout, hwaccel, device, stop: _ } = caps.clone();
        Self { max_pixels, max_duration_s: max_duration_s.into(), timeout, hwaccel, device }
    }
}

impl From<Limits> for Caps {
    fn from(limits: Limits) -> Self {
        let Limits { max_pixels, max_duration_s, timeout, hwaccel, device } = limits;
        let stop = StopSignal::never();
        Self { max_pixels, max_duration_s: max_duration_s.into(), timeout, hwaccel, device, stop }
    }
}

/// [`Sampling`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Choice {
    frames: Option<u32>,
    fps: Option<Real>,
    short: ShortClip,
}

impl From<&Sampling> for Choice {
    fn from(sampling: &Sampling) -> Self {
        let Sampling { frames, fps, short } = *sampling;
        Self { frames, fps: fps.map(Real::from), short }
    }
}

impl From<Choice> for Sampling {
    fn from(choice: Choice) -> Self {
        let Choice { frames, fps, short } = choice;
        Self { frames, fps: fps.map(f64::from), short }
    }
}

/// [`MediaInfo`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Info {
    width: u32,
    height: u32,
    fps: Option<Real>,
    frame_count: Option<u64>,
    duration_s: Option<Real>,
    codec: String,
}

impl From<MediaInfo> for Info {
    fn from(info: MediaInfo) -> Self {
        let MediaInfo { width, height, fps, frame_count, duration_s, codec } = info;
        Self { width, height, fps: fps.map(Real::from), frame_count, duration_s: duration_s.map(Real::from), codec }
    }
}

impl From<Info> for MediaInfo {
    fn from(info: Info) -> Self {
        let Info { width, height, fps, frame_count, duration_s, codec } = info;
        Self { width, height, fps: fps.map(f64::from), frame_count, duration_s: duration_s.map(f64::from), codec }
    }
}

impl From<Outline> for Reply {
    fn from(outline: Outline) -> Self {
        let Outline { info, shapes, workspace } = outline;
        Self::Planned { info: info.into(), shapes, workspace }
    }
}

impl From<VideoError> for Reply {
    fn from(error: VideoError) -> Self {
        Self::Failed { message: error.to_string(), ends_run: error.ends_run() }
    }
}

/// A span, to be sent.
pub(super) fn ends((start, end): Span) -> [Option<Real>; 2] {
    [start.map(Real::from), end.map(Real::from)]
}

/// A span that was received.
pub(super) fn span([start, end]: [Option<Real>; 2]) -> Span {
    (start.map(f64::from), end.map(f64::from))
}

/// Writes a message, in one piece.
pub(super) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MOST_MESSAGE {
        return Err(io::Error::other(format!("a message of {} bytes", text.len())));
    }
    let mut framed = (text.len() as u32).to_le_bytes().to_vec();
    framed.extend_from_slice(&text);
    to.write_all(&framed)
}

/// Reads a message.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MOST_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
