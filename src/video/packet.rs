//! Packets of libavcodec.

#![expect(unsafe_code, reason = "libavcodec is a C library")]

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use ffmpeg_next::ffi;

use super::VideoError;

/// One packet.
pub(super) struct Packet(NonNull<ffi::AVPacket>);

// A packet's buffer is counted atomically and nothing in it belongs to a thread.
unsafe impl Send for Packet {}

impl Packet {
    pub(super) fn new() -> Result<Self, VideoError> {
        let packet = unsafe { ffi::av_packet_alloc() };
        NonNull::new(packet).map(Self).ok_or_else(out_of_memory)
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::AVPacket {
        self.0.as_ptr()
    }

    /// The packet's fields.
    pub(super) fn raw(&self) -> &ffi::AVPacket {
        unsafe { self.0.as_ref() }
    }

    pub(super) fn data(&self) -> &[u8] {
        let raw = self.raw();
        if raw.data.is_null() || raw.size <= 0 {
            return &[];
        }
        unsafe { std::slice::from_raw_parts(raw.data, raw.size as usize) }
    }

    pub(super) fn clear(&mut self) {
        unsafe { ffi::av_packet_unref(self.as_ptr()) }
    }

    /// Gives the packet other data and leaves its times and flags.
    pub(super) fn replace_data(&mut self, data: &[u8]) -> Result<(), VideoError> {
        let other = Self::new()?;
        unsafe {
            let size = c_int::try_from(data.len()).map_err(|_| out_of_memory())?;
            if ffi::av_new_packet(other.as_ptr(), size) < 0
                || ffi::av_packet_copy_props(other.as_ptr(), self.as_ptr()) < 0
            {
                return Err(out_of_memory());
            }
            ptr::copy_nonoverlapping(data.as_ptr(), other.raw().data, data.len());
            self.clear();
            ffi::av_packet_move_ref(self.as_ptr(), other.as_ptr());
        }
        Ok(())
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Packet").field("pts", &self.raw().pts).finish_non_exhaustive()
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut packet = self.as_ptr();
        unsafe { ffi::av_packet_free(&mut packet) }
    }
}

/// The error for memory that the system does not give.
pub(super) fn out_of_memory() -> VideoError {
    VideoError::Ffmpeg { action: "take memory", message: "out of memory".to_owned() }
}
