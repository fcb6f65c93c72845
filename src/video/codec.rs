//! The boundary to libavcodec: packets in, frames out.

#![expect(unsafe_code, reason = "libavcodec is a C library")]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{LazyLock, Mutex, PoisonError};

use ffmpeg_next::error::EAGAIN;
use ffmpeg_next::ffi;
use ffmpeg_next::ffi::{AVCodecID, AVHWDeviceType, AVPixelFormat};

use super::demux::{Demuxer, StreamFacts};
use super::error::describe;
use super::packet::{Packet, out_of_memory};
use super::{Caps, VideoError};
use crate::stage::decode::config::HwAccel;

/// One decoded picture.
pub(super) struct Frame(NonNull<ffi::AVFrame>);

// A frame's buffers are counted atomically and nothing in it belongs to a thread.
unsafe impl Send for Frame {}

/// Whether every picture of a codec stands by itself.
pub(super) fn is_intra_only(codec: AVCodecID) -> bool {
    let descriptor = unsafe { ffi::avcodec_descriptor_get(codec).as_ref() };
    descriptor.is_some_and(|descriptor| descriptor.props & ffi::AV_CODEC_PROP_INTRA_ONLY as c_int != 0)
}

impl Frame {
    pub(super) fn new() -> Result<Self, VideoError> {
        NonNull::new(unsafe { ffi::av_frame_alloc() }).map(Self).ok_or_else(out_of_memory)
    }

    /// A picture of its own memory.
    pub(super) fn with_buffer(width: c_int, height: c_int, format: c_int) -> Result<Self, VideoError> {
        let frame = Self::new()?;
        unsafe {
            let raw = &mut *frame.as_ptr();
            (raw.width, raw.height, raw.format) = (width, height, format);
            match ffi::av_frame_get_buffer(raw, 0) {
                code if code < 0 => Err(VideoError::ffmpeg("take memory for a frame", code)),
                _ => Ok(frame),
            }
        }
    }

    /// Fills a picture of RGB, 8 bits, from its pixels row by row.
    pub(super) fn fill_rgb(&mut self, pixels: &[u8]) -> Result<(), VideoError> {
        let raw = self.raw();
        let (row, rows, stride) = (raw.width as usize * 3, raw.height as usize, raw.linesize[0] as usize);
        if pixels.len() != row * rows {
            let message = format!("{} bytes were given for {}x{} pixels", pixels.len(), raw.width, raw.height);
            return Err(VideoError::Ffmpeg { action: "fill a frame", message });
        }
        for (number, line) in pixels.chunks_exact(row).enumerate() {
            // The buffer has `rows` lines of `stride` bytes, and a line of pixels is no longer than one of those.
            unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), raw.data[0].add(number * stride), row) };
        }
        Ok(())
    }

    /// Brings samples of more than 8 bits that are larger than their bits allow down to what they allow: damaged H.264 of 10 bits
    /// has such, and x264 ends the process over them.
    pub(super) fn limit_samples(&mut self) -> Result<(), VideoError> {
        let Some(format) = pixel_format(self.raw().format) else { return Ok(()) };
        let planes: Vec<Plane> =
            (0..usize::from(format.nb_components)).filter_map(|at| self.plane(format, at)).collect();
        let is_beyond =
            |plane: &Plane| plane.rows(self.raw()).any(|row| row.iter().any(|sample| *sample > plane.limit));
        if !planes.iter().any(is_beyond) {
            return Ok(());
        }
        // Others may hold the same picture.
        let code = unsafe { ffi::av_frame_make_writable(self.as_ptr()) };
        if code < 0 {
            return Err(VideoError::ffmpeg("hold a frame", code));
        }
        for plane in &planes {
            for row in plane.rows_mut(unsafe { &mut *self.as_ptr() }) {
                row.iter_mut().for_each(|sample| *sample = (*sample).min(plane.limit));
            }
        }
        Ok(())
    }

    /// A component whose samples are numbers of 9 to 15 bits, each in 16 of this machine's; none where they are others.
    fn plane(&self, format: &ffi::AVPixFmtDescriptor, component: usize) -> Option<Plane> {
        let (raw, of) = (self.raw(), format.comp[component]);
        let is_other_end = (format.flags & ffi::AV_PIX_FMT_FLAG_BE as u64 != 0) == cfg!(target_endian = "little");
        if !(9..16).contains(&of.depth) || of.step != 2 || of.shift != 0 || of.offset != 0 || is_other_end {
            return None;
        }
        let is_chroma = component == 1 || component == 2;
        let shifts = if is_chroma { (format.log2_chroma_w, format.log2_chroma_h) } else { (0, 0) };
        let size = |side: c_int, shift: u8| usize::try_from(side).unwrap_or(0).div_ceil(1 << shift);
        let (width, height) = (size(raw.width, shifts.0), size(raw.height, shifts.1));
        Some(Plane { number: of.plane as usize, width, height, limit: (1 << of.depth) - 1 })
    }

    /// Takes colours, times and the like over from another frame.
    pub(super) fn copy_properties(&mut self, other: &Self) {
        unsafe {
            let (to, from) = (&mut *self.as_ptr(), other.raw());
            // Read as numbers: a file may say any.
            (&raw mut to.colorspace).cast::<c_int>().write((&raw const from.colorspace).cast::<c_int>().read());
            (&raw mut to.color_range).cast::<c_int>().write((&raw const from.color_range).cast::<c_int>().read());
        }
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::AVFrame {
        self.0.as_ptr()
    }

    /// The frame's fields.
    pub(super) fn raw(&self) -> &ffi::AVFrame {
        unsafe { self.0.as_ref() }
    }

    /// Time in ticks: the packet's, else FFmpeg's best guess.
    pub(super) fn ticks(&self) -> Option<i64> {
        let raw = self.raw();
        [raw.pts, raw.best_effort_timestamp].into_iter().find(|ticks| *ticks != ffi::AV_NOPTS_VALUE)
    }

    /// Whether parts of the picture are made up because the data are damaged.
    pub(super) fn is_damaged(&self) -> bool {
        let raw = self.raw();
        raw.decode_error_flags != 0 || raw.flags & ffi::AV_FRAME_FLAG_CORRUPT != 0
    }

    pub(super) fn clear(&mut self) {
        unsafe { ffi::av_frame_unref(self.as_ptr()) }
    }

    /// Another reference to the picture of `other`.
    pub(super) fn refer(&mut self, other: &Self) -> Result<(), VideoError> {
        self.clear();
        match unsafe { ffi::av_frame_ref(self.as_ptr(), other.as_ptr()) } {
            code if code < 0 => Err(VideoError::ffmpeg("hold a frame", code)),
            _ => Ok(()),
        }
    }
}

/// Samples of 16 bits in rows.
struct Plane {
    number: usize,
    width: usize,
    height: usize,
    limit: u16,
}

impl Plane {
    fn rows<'a>(&self, frame: &'a ffi::AVFrame) -> impl Iterator<Item = &'a [u16]> {
        let (first, stride, width) = (frame.data[self.number], frame.linesize[self.number] as isize, self.width);
        (0..self.height as isize)
            .map(move |row| unsafe { std::slice::from_raw_parts(first.offset(row * stride).cast::<u16>(), width) })
    }

    fn rows_mut<'a>(&self, frame: &'a mut ffi::AVFrame) -> impl Iterator<Item = &'a mut [u16]> {
        let (first, stride, width) = (frame.data[self.number], frame.linesize[self.number] as isize, self.width);
        (0..self.height as isize)
            .map(move |row| unsafe { std::slice::from_raw_parts_mut(first.offset(row * stride).cast::<u16>(), width) })
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Frame").field("pts", &self.raw().pts).finish_non_exhaustive()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut frame = self.as_ptr();
        unsafe { ffi::av_frame_free(&mut frame) }
    }
}

/// A decoder of one stream.
pub(super) struct Decoder {
    context: NonNull<ffi::AVCodecContext>,
    /// Where frames come to from a device.
    landing: Option<Frame>,
}

// The context is owned and used by one thread at a time.
unsafe impl Send for Decoder {}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decoder").field("on_device", &self.landing.is_some()).finish_non_exhaustive()
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        unsafe { ffi::avcodec_free_context(&mut context) }
    }
}

impl Decoder {
    /// Opens a decoder with one thread; many clips at once fill the cores better than threads within a clip.
    ///
    /// `reorder` is the number of frames that may come before one that is shown earlier.
    pub(super) fn open(
        demuxer: &Demuxer,
        facts: &StreamFacts,
        caps: &Caps,
        reorder: usize,
    ) -> Result<Self, VideoError> {
        let candidates: &[AVHWDeviceType] = match caps.hwaccel {
            HwAccel::None => &[],
            HwAccel::Cuda => &[AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA],
            HwAccel::Vaapi => &[AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI],
            HwAccel::Auto => &[AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA, AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI],
        };
        let mut refused = String::new();
        for kind in candidates {
            match Self::open_on(demuxer, facts, caps, reorder, Some(*kind)) {
                Ok(decoder) => return Ok(decoder),
                Err(VideoError::Hardware { reason, .. }) => refused = reason,
                Err(error) => return Err(error),
            }
        }
        match caps.hwaccel {
            HwAccel::None | HwAccel::Auto => Self::open_on(demuxer, facts, caps, reorder, None),
            HwAccel::Cuda => Err(VideoError::Hardware { name: "cuda", reason: refused }),
            HwAccel::Vaapi => Err(VideoError::Hardware { name: "vaapi", reason: refused }),
        }
    }

    fn open_on(
        demuxer: &Demuxer,
        facts: &StreamFacts,
        caps: &Caps,
        reorder: usize,
        device: Option<AVHWDeviceType>,
    ) -> Result<Self, VideoError> {
        let unknown = || VideoError::UnknownCodec(facts.codec_name.clone());
        unsafe {
            let codec = ffi::avcodec_find_decoder(facts.codec);
            if codec.is_null() {
                return Err(unknown());
            }
            let native = device.map(|kind| device_format(codec, kind)).transpose()?;
            let context = NonNull::new(ffi::avcodec_alloc_context3(codec)).ok_or_else(out_of_memory)?;
            let decoder = Self { context, landing: device.map(|_| Frame::new()).transpose()? };
            let raw = &mut *context.as_ptr();
            let code = ffi::avcodec_parameters_to_context(raw, demuxer.parameters()?);
            if code < 0 {
                return Err(VideoError::ffmpeg("set the decoder up", code));
            }
            raw.pkt_timebase = demuxer.time_base()?;
            raw.thread_count = 1;
            raw.max_pixels = most_pixels(facts, caps);
            // Without it H.264 learns the reordering as it goes and loses frames until it has.
            raw.has_b_frames = raw.has_b_frames.max(reorder.min(16) as c_int);
            if let (Some(kind), Some(native)) = (device, native) {
                raw.hw_device_ctx = open_device(kind, caps.device)?;
                raw.opaque = native as usize as *mut c_void;
                raw.get_format = Some(choose_format);
            }
            let code = ffi::avcodec_open2(raw, codec, ptr::null_mut());
            if code < 0 {
                let codec = &facts.codec_name;
                return Err(VideoError::Damaged(format!(
                    "its {codec} stream has no readable header, {}",
                    describe(code)
                )));
            }
            Ok(decoder)
        }
    }

    /// Where the stream has pictures of a size that the decoder may not take: the most pixels that it may.
    pub(super) fn refuses_size(&self) -> Option<i64> {
        let raw = unsafe { self.context.as_ref() };
        let refused =
            raw.width <= 0 || raw.height <= 0 || i64::from(raw.width) * i64::from(raw.height) > raw.max_pixels;
        refused.then_some(raw.max_pixels)
    }

    /// Feeds a packet; none says that no more come. The text of an error is FFmpeg's.
    pub(super) fn send(&mut self, packet: Option<&Packet>) -> Result<(), String> {
        let packet = packet.map_or(ptr::null_mut(), Packet::as_ptr);
        match unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), packet) } {
            code if code < 0 && code != ffi::AVERROR_EOF => Err(describe(code)),
            _ => Ok(()),
        }
    }

    /// Takes a frame, where one is ready.
    pub(super) fn receive(&mut self, frame: &mut Frame) -> Result<bool, String> {
        let code = unsafe { ffi::avcodec_receive_frame(self.context.as_ptr(), frame.as_ptr()) };
        if code == ffi::AVERROR(EAGAIN) || code == ffi::AVERROR_EOF {
            return Ok(false);
        }
        if code < 0 { Err(describe(code)) } else { Ok(true) }
    }

    /// Brings a frame that lies on a device into memory.
    pub(super) fn fetch(&mut self, frame: &mut Frame) -> Result<(), VideoError> {
        let Some(landing) = self.landing.as_mut() else { return Ok(()) };
        if frame.raw().hw_frames_ctx.is_null() {
            return Ok(());
        }
        landing.clear();
        unsafe {
            let code = ffi::av_hwframe_transfer_data(landing.as_ptr(), frame.as_ptr(), 0);
            if code < 0 {
                return Err(VideoError::ffmpeg("fetch a frame from the device", code));
            }
            ffi::av_frame_copy_props(landing.as_ptr(), frame.as_ptr());
            ffi::av_frame_unref(frame.as_ptr());
            ffi::av_frame_move_ref(frame.as_ptr(), landing.as_ptr());
        }
        Ok(())
    }

    /// Forgets everything, to start at another keyframe.
    pub(super) fn flush(&mut self) {
        unsafe { ffi::avcodec_flush_buffers(self.context.as_ptr()) }
    }
}

/// Most pixels that a stream's pictures may have. Memory is taken by what the container claims: a stream may have larger
/// pictures than that, since some change their size, but not as large as it likes.
fn most_pixels(facts: &StreamFacts, caps: &Caps) -> i64 {
    const SMALL: u64 = 4096 * 2304;
    let claimed = u64::from(facts.width) * u64::from(facts.height);
    i64::try_from(caps.max_pixels.min(SMALL.max(4 * claimed))).unwrap_or(i64::MAX)
}

/// Lets FFmpeg take no more memory in one piece than a picture of `max_pixels` has in the largest format: what a header
/// counts is taken before it is read. For the whole process, so the largest limit that was ever asked for holds.
pub(super) fn limit_blocks(max_pixels: u64) {
    const LARGEST_PIXEL: u64 = 8;
    const LEAST: u64 = 64 << 20;
    static MOST: Mutex<u64> = Mutex::new(0);
    let mut most = MOST.lock().unwrap_or_else(PoisonError::into_inner);
    // The margins of a picture come on top.
    let wanted = max_pixels.saturating_mul(LARGEST_PIXEL).saturating_mul(9) / 8 + LEAST;
    if wanted > *most {
        *most = wanted;
        unsafe { ffi::av_max_alloc(usize::try_from(wanted).unwrap_or(usize::MAX)) };
    }
}

/// The pixel format in which a decoder leaves frames on a device.
unsafe fn device_format(codec: *const ffi::AVCodec, kind: AVHWDeviceType) -> Result<i32, VideoError> {
    let method = ffi::AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as c_int;
    for at in 0.. {
        let Some(config) = (unsafe { ffi::avcodec_get_hw_config(codec, at).as_ref() }) else { break };
        if config.device_type == kind && config.methods & method != 0 {
            return Ok(config.pix_fmt as i32);
        }
    }
    Err(VideoError::Hardware { name: "", reason: "this FFmpeg has no such decoder for the codec".to_owned() })
}

/// A device that is open for the rest of the process.
struct Device(*mut ffi::AVBufferRef);

// Device contexts are counted atomically and may be used from any thread.
unsafe impl Send for Device {}

/// Devices, or why they could not be opened, by kind and number.
type Devices = HashMap<(i32, u32), Result<Device, String>>;

/// Opening a device takes a good part of a second, and a device that failed will fail again.
static DEVICES: LazyLock<Mutex<Devices>> = LazyLock::new(Mutex::default);

unsafe fn open_device(kind: AVHWDeviceType, number: u32) -> Result<*mut ffi::AVBufferRef, VideoError> {
    let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let device = devices.entry((kind as i32, number)).or_insert_with(|| {
        let name = if kind == AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI {
            format!("/dev/dri/renderD{}", 128 + number)
        } else {
            number.to_string()
        };
        let name = CString::new(name).unwrap_or_default();
        let mut device = ptr::null_mut();
        match unsafe { ffi::av_hwdevice_ctx_create(&mut device, kind, name.as_ptr(), ptr::null_mut(), 0) } {
            code if code < 0 => Err(describe(code)),
            _ => Ok(Device(device)),
        }
    });
    match device {
        Ok(device) => Ok(unsafe { ffi::av_buffer_ref(device.0) }),
        Err(reason) => Err(VideoError::Hardware { name: "", reason: format!("the device cannot be opened, {reason}") }),
    }
}

/// Takes the device's format where it is offered, else what FFmpeg would take.
unsafe extern "C" fn choose_format(context: *mut ffi::AVCodecContext, formats: *const AVPixelFormat) -> AVPixelFormat {
    unsafe {
        let native = (*context).opaque as usize as i32;
        let mut at = formats;
        while *at != AVPixelFormat::AV_PIX_FMT_NONE {
            if *at as i32 == native {
                return *at;
            }
            at = at.add(1);
        }
        ffi::avcodec_default_get_format(context, formats)
    }
}

/// Version of the FFmpeg in use, such as `5.1.9-0+deb12u1`.
pub fn ffmpeg_version() -> String {
    unsafe { CStr::from_ptr(ffi::av_version_info()) }.to_string_lossy().into_owned()
}

/// FFmpeg's description of a pixel format number; none for a number that is no format.
pub(super) fn pixel_format(format: c_int) -> Option<&'static ffi::AVPixFmtDescriptor> {
    unsafe {
        let mut descriptor = ffi::av_pix_fmt_desc_next(ptr::null());
        while !descriptor.is_null() {
            if ffi::av_pix_fmt_desc_get_id(descriptor) as c_int == format {
                return Some(&*descriptor);
            }
            descriptor = ffi::av_pix_fmt_desc_next(descriptor);
        }
    }
    None
}

/// Bytes that a pixel of a format takes on average; 1.5, those of 8-bit 4:2:0, where the format is not known.
pub(super) fn bytes_per_pixel(format: c_int) -> f64 {
    let Some(descriptor) = pixel_format(format) else { return 1.5 };
    let colours = f64::from(descriptor.nb_components.saturating_sub(1).min(2));
    let subsampled = f64::from(1_u32 << (descriptor.log2_chroma_w + descriptor.log2_chroma_h));
    let samples = 1.0 + colours / subsampled + f64::from(u8::from(descriptor.nb_components > 3));
    samples * if descriptor.comp[0].depth > 8 { 2.0 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::ffi::AVPixelFormat::AV_PIX_FMT_YUV420P10LE;

    use super::*;

    /// A picture whose samples use all 16 bits of their 10.
    fn wild(seed: u64) -> Frame {
        let frame = Frame::with_buffer(96, 80, AV_PIX_FMT_YUV420P10LE as c_int).unwrap();
        let format = pixel_format(frame.raw().format).unwrap();
        let mut state = seed;
        for at in 0..3 {
            let plane = frame.plane(format, at).unwrap();
            for row in plane.rows_mut(unsafe { &mut *frame.as_ptr() }) {
                for sample in row {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    *sample = (state >> 48) as u16;
                }
            }
        }
        frame
    }

    fn samples(frame: &Frame) -> Vec<u16> {
        let format = pixel_format(frame.raw().format).unwrap();
        let planes: Vec<Plane> = (0..3).filter_map(|at| frame.plane(format, at)).collect();
        planes.iter().flat_map(|plane| plane.rows(frame.raw()).flatten().copied().collect::<Vec<_>>()).collect()
    }

    #[test]
    fn samples_beyond_their_bits_are_limited_in_a_copy() {
        let (source, mut held) = (wild(1), Frame::new().unwrap());
        held.refer(&source).unwrap();
        let before = samples(&source);
        held.limit_samples().unwrap();
        assert_eq!(before.len(), 96 * 80 * 3 / 2);
        assert_eq!(samples(&held), before.iter().map(|sample| (*sample).min(1023)).collect::<Vec<_>>());
        assert_eq!(samples(&source), before);
    }
}
