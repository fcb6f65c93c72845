//! RGB pictures become an mp4.

use ffmpeg_next::ffi::AVPixelFormat::{AV_PIX_FMT_RGB24, AV_PIX_FMT_YUV420P};

use super::VideoError;
use super::codec::Frame;
use super::mux::{Encoder, Presentation, Settings};

/// How pictures are encoded.
#[derive(Debug, Clone, Copy)]
pub struct Encoding {
    /// Frames a second.
    pub fps: u32,
    /// Quality of H.264: 0 loses nothing, 51 is the worst.
    pub crf: u8,
}

/// An mp4 (H.264 4:2:0, BT.601, limited range) of pictures of one even `size` (width, height): RGB, 8 bits, row by row.
pub fn encode<'a>(
    pictures: impl Iterator<Item = &'a [u8]>,
    size: (u32, u32),
    encoding: Encoding,
) -> Result<Vec<u8>, VideoError> {
    super::initialise();
    let (width, height) = (size.0 as i32, size.1 as i32);
    let settings = Settings {
        crf: encoding.crf,
        preset: c"medium",
        format: Some(AV_PIX_FMT_YUV420P as i32),
        max_bytes: i32::MAX as usize,
    };
    let shown = Presentation { time_base: (1, i64::from(encoding.fps)), aspect: (1, 1), matrix: None };
    let mut encoder = None;
    for (number, picture) in pictures.enumerate() {
        let mut frame = Frame::with_buffer(width, height, AV_PIX_FMT_RGB24 as i32)?;
        frame.fill_rgb(picture)?;
        if encoder.is_none() {
            encoder = Some(Encoder::open(&frame, &shown, &settings)?);
        }
        if let Some(encoder) = encoder.as_mut() {
            encoder.write(&frame, number as i64, 1)?;
        }
    }
    encoder.ok_or_else(|| VideoError::Damaged("there are no pictures".to_owned()))?.finish()
}
