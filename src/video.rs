//! The boundary to FFmpeg: bytes of a video in, RGB frames or a cut-out video out; and RGB frames in, a video out.
//!
//! The only unsafe code of simdrop is in here. A video is untrusted: containers are an allow-list, nothing can open
//! another file, and size, length and time have limits ([`Caps`]). Decoding has two steps, so that memory can be taken
//! in between: [`Reader::plan`] reads packets and chooses frames, [`Reader::decode`] decodes no more than those need.
//! The frames are the same, bit for bit, as those of a full decode.

mod avio;
mod bitstream;
mod codec;
mod container;
mod cut;
mod demux;
mod encode;
mod error;
mod isolation;
mod mux;
mod packet;
mod picture;
mod plan;
mod reader;
mod sampling;
mod scale;
mod scan;
mod source;
mod watch;

#[cfg(test)]
mod tests;

pub use codec::ffmpeg_version;
pub use cut::cut;
pub use encode::{Encoding, encode};
pub use error::VideoError;
pub use isolation::{Isolation, Outline, Video, Videos, WorkerPool, serve};
pub use picture::Target;
pub use plan::Plan;
pub use reader::{MediaInfo, Pictures, Reader, Span};
pub use sampling::Sampling;
pub use source::{BytesSource, FileSource, MediaSource, StoreSource, open_source};
pub use watch::{Caps, StopSignal};

/// Silences FFmpeg, whose messages would land among the program's own: what matters is in the errors.
fn initialise() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Quiet);
        // The texts of error codes.
        ffmpeg_next::error::register_all();
    });
}
