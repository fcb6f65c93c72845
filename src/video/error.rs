//! What can be wrong with a video, told to people.

use std::time::Duration;

use ffmpeg_next::error::ENOMEM;
use ffmpeg_next::ffi;

use crate::storage;

/// Why a video could not be read. The texts stand in a row of the clip's own, so they do not repeat its name.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// Nothing in it.
    #[error("the file is empty (0 bytes)")]
    Empty,
    /// Another kind of file.
    #[error(
        "this is no video file that simdrop reads (it looks like {0}); mp4, mov, mkv, webm, avi, ts, mpg, flv and ogg are"
    )]
    NotVideo(String),
    /// No picture.
    #[error("the file has no video, {0}")]
    NoVideo(&'static str),
    /// An mp4 without its index.
    #[error("the file's index (moov) is missing: it is cut short, or its recording was never finished")]
    Unfinished,
    /// Less data than the index lists.
    #[error("the file is cut short: {0}")]
    Truncated(String),
    /// A header without a size.
    #[error("the header claims a picture of {width}x{height}, which cannot be")]
    NoSize {
        /// Claimed width.
        width: i64,
        /// Claimed height.
        height: i64,
    },
    /// A picture that is too large.
    #[error(
        "the header claims a picture of {width}x{height}, {} pixels, and max_pixels is {max}: raise it if the video is genuine",
        *width as u64 * *height as u64
    )]
    TooManyPixels {
        /// Claimed width.
        width: i64,
        /// Claimed height.
        height: i64,
        /// Most pixels.
        max: u64,
    },
    /// A clip that is too long.
    #[error("the clip is longer than max_duration_s, {max_s} s: cut it with the split stage, or raise the limit")]
    TooLong {
        /// Longest clip in seconds.
        max_s: f64,
    },
    /// A codec that this FFmpeg lacks.
    #[error("the video's codec, {0}, cannot be decoded by this FFmpeg")]
    UnknownCodec(String),
    /// A span without frames.
    #[error("no frame lies between {from} and {to}")]
    NoFrames {
        /// Start of the span.
        from: String,
        /// End of the span.
        to: String,
    },
    /// Fewer frames than asked for.
    #[error("the clip has {have} frames, {wanted} were asked for; `short: repeat` repeats some")]
    TooShort {
        /// Frames there are.
        have: usize,
        /// Frames asked for.
        wanted: usize,
    },
    /// The container or the pictures are damaged.
    #[error("the video is damaged: {0}")]
    Damaged(String),
    /// It took too long.
    #[error("reading the video took longer than timeout_s, {:.1} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// FFmpeg crashed, in a process of its own.
    #[error("the video crashed FFmpeg: the process that read it ended ({0})")]
    Crashed(String),
    /// FFmpeg hung, in a process of its own.
    #[error(
        "reading the video took longer than timeout_s, {:.1} s, and FFmpeg could not be stopped: its process was ended",
        .0.as_secs_f64()
    )]
    Hung(Duration),
    /// What another process says is wrong.
    #[error("{message}")]
    Told {
        /// Its words.
        message: String,
        /// See [`VideoError::ends_run`].
        ends_run: bool,
    },
    /// No process for FFmpeg could be started.
    #[error("run.isolation: process does not work here, no process can be started: {0}; use isolation: none")]
    NoWorker(std::io::Error),
    /// The run is being stopped.
    #[error("stopped")]
    Stopped,
    /// Hardware decoding was asked for and is not there.
    #[error("hwaccel {name} does not work here: {reason}; use hwaccel: auto or none")]
    Hardware {
        /// The setting.
        name: &'static str,
        /// Why not.
        reason: String,
    },
    /// The file could not be read.
    #[error("the file could not be read: {0}")]
    Io(#[from] std::io::Error),
    /// Another file lies there now.
    #[error("the file changed since it was listed; run the pipeline again, it is listed anew then")]
    Changed,
    /// The cut-out would be too large.
    #[error("the span is larger than {max} bytes when cut out")]
    TooLarge {
        /// Most bytes.
        max: usize,
    },
    /// FFmpeg refused something that should work.
    #[error("FFmpeg could not {action}: {message}")]
    Ffmpeg {
        /// What it was asked to do.
        action: &'static str,
        /// What it said.
        message: String,
    },
}

impl VideoError {
    /// An FFmpeg error code while doing something.
    pub(super) fn ffmpeg(action: &'static str, code: i32) -> Self {
        Self::Ffmpeg { action, message: describe(code) }
    }

    /// Whether the machine or the run is at fault rather than the video: such an error ends the run.
    pub fn ends_run(&self) -> bool {
        match self {
            Self::Stopped | Self::Hardware { .. } | Self::NoWorker(_) | Self::Told { ends_run: true, .. } => true,
            // No clip could be read any more, and all of them would fail.
            Self::Io(error) => storage::is_refused(error),
            _ => false,
        }
    }
}

/// FFmpeg's words for an error code.
pub(super) fn describe(code: i32) -> String {
    if code == ffi::AVERROR(ENOMEM) {
        // Nearly always a number that the file made up.
        return "it asks for more memory than a video may take".to_owned();
    }
    let text = ffmpeg_next::Error::from(code).to_string().to_lowercase();
    if text.is_empty() { format!("error {code}") } else { text }
}
