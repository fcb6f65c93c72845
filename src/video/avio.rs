//! What libavformat calls to get bytes.

#![expect(unsafe_code, reason = "libavformat is a C library")]

use std::ffi::{c_char, c_int, c_void};
use std::panic::AssertUnwindSafe;
use std::ptr;
use std::sync::Arc;

use ffmpeg_next::error::{EACCES, EINVAL, EIO};
use ffmpeg_next::ffi;

use super::MediaSource;
use super::watch::Watch;

/// What the callbacks of libavformat read from. Lives behind a pointer that FFmpeg holds.
#[derive(Debug)]
pub(super) struct Io {
    pub(super) source: Box<dyn MediaSource>,
    pub(super) position: u64,
    pub(super) watch: Arc<Watch>,
    pub(super) fault: Option<std::io::Error>,
}

pub(super) unsafe extern "C" fn read(opaque: *mut c_void, buffer: *mut u8, size: c_int) -> c_int {
    let io = unsafe { &mut *opaque.cast::<Io>() };
    if size <= 0 || io.watch.check().is_err() {
        return ffi::AVERROR_EXIT;
    }
    // FFmpeg goes on using what lies in the buffer where no more comes.
    if io.position >= io.source.len() {
        return ffi::AVERROR_EOF;
    }
    let buffer = unsafe {
        ptr::write_bytes(buffer, 0, size as usize);
        std::slice::from_raw_parts_mut(buffer, size as usize)
    };
    // A panic must not unwind into C.
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| io.source.read_at(io.position, buffer)));
    match result {
        Ok(Ok(0)) => ffi::AVERROR_EOF,
        Ok(Ok(length)) => {
            io.position += length as u64;
            length as c_int
        }
        Ok(Err(error)) => {
            io.fault = Some(error);
            ffi::AVERROR(EIO)
        }
        Err(_) => {
            io.fault = Some(std::io::Error::other("the source panicked"));
            ffi::AVERROR_EXTERNAL
        }
    }
}

pub(super) unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    let io = unsafe { &mut *opaque.cast::<Io>() };
    let length = io.source.len() as i64;
    let target = match whence & !ffi::AVSEEK_FORCE {
        ffi::AVSEEK_SIZE => return length,
        0 => Some(offset),
        1 => offset.checked_add(io.position as i64),
        2 => offset.checked_add(length),
        _ => None,
    };
    match target {
        Some(target) if target >= 0 => {
            io.position = target as u64;
            target
        }
        _ => i64::from(ffi::AVERROR(EINVAL)),
    }
}

pub(super) unsafe extern "C" fn interrupted(opaque: *mut c_void) -> c_int {
    // Only the watch is touched: a read may be in progress further up the stack.
    let watch = unsafe { &(*opaque.cast::<Io>()).watch };
    c_int::from(watch.check().is_err())
}

/// No file may open another one.
pub(super) unsafe extern "C" fn refuse(
    _context: *mut ffi::AVFormatContext,
    _io: *mut *mut ffi::AVIOContext,
    _url: *const c_char,
    _flags: c_int,
    _options: *mut *mut ffi::AVDictionary,
) -> c_int {
    ffi::AVERROR(EACCES)
}
