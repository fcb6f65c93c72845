//! The boundary to FFmpeg's encoders and its mp4 writer.
//!
//! What is written depends on the input alone: one thread, no dates, no names of versions.

#![expect(unsafe_code, reason = "libavformat and libavcodec are C libraries")]

use std::ffi::{CStr, CString, c_int};
use std::ptr;

use ffmpeg_next::error::{EAGAIN, EINVAL};
use ffmpeg_next::ffi;
use ffmpeg_next::ffi::{AVCodecID, AVPixelFormat, AVRational};

use super::VideoError;
use super::bitstream::without_messages;
use super::codec::{Frame, pixel_format};
use super::demux::{Demuxer, StreamFacts};
use super::packet::{Packet, out_of_memory};

/// How a stream is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presentation {
    /// Seconds of a tick: numerator and denominator.
    pub(super) time_base: (i64, i64),
    /// Width of a pixel over its height; 0 over 1 where it is not known.
    pub(super) aspect: (i32, i32),
    /// Display matrix.
    pub(super) matrix: Option<[i32; 9]>,
}

impl From<&StreamFacts> for Presentation {
    fn from(facts: &StreamFacts) -> Self {
        Self { time_base: facts.time_base, aspect: facts.aspect, matrix: facts.matrix }
    }
}

/// How frames are encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Quality of H.264: 0 loses nothing, 51 is the worst.
    pub(super) crf: u8,
    /// x264's trade of time for size.
    pub(super) preset: &'static CStr,
    /// Pixel format; the nearest to that of the frames where none is given.
    pub(super) format: Option<c_int>,
    /// Most bytes of the file.
    pub(super) max_bytes: usize,
}

/// Writes one video stream into an mp4 in memory.
#[derive(Debug)]
pub(super) struct Muxer {
    context: *mut ffi::AVFormatContext,
    /// Seconds of a tick of the packets that come.
    time_base: AVRational,
    max_bytes: usize,
}

// The context is owned and used by one thread at a time.
unsafe impl Send for Muxer {}

impl Drop for Muxer {
    fn drop(&mut self) {
        unsafe {
            if self.context.is_null() {
                return;
            }
            if !(*self.context).pb.is_null() {
                let mut bytes = ptr::null_mut();
                ffi::avio_close_dyn_buf((*self.context).pb, &mut bytes);
                ffi::av_free(bytes.cast());
                (*self.context).pb = ptr::null_mut();
            }
            ffi::avformat_free_context(self.context);
        }
    }
}

impl Muxer {
    /// A file with the stream of these parameters; none where mp4 has no place for the codec.
    unsafe fn new(
        parameters: impl FnOnce(&mut ffi::AVCodecParameters) -> c_int,
        time_base: AVRational,
        shown: &Presentation,
        max_bytes: usize,
    ) -> Result<Option<Self>, VideoError> {
        unsafe {
            let mut muxer = Self { context: ptr::null_mut(), time_base, max_bytes };
            let (none, name) = (ptr::null(), c"mp4".as_ptr());
            let code = ffi::avformat_alloc_output_context2(&mut muxer.context, ptr::null(), name, none);
            let context = muxer.context.as_mut().ok_or_else(|| VideoError::ffmpeg("write mp4", code))?;
            context.flags |= ffi::AVFMT_FLAG_BITEXACT;
            let stream = ffi::avformat_new_stream(context, ptr::null()).as_mut().ok_or_else(out_of_memory)?;
            let code = parameters(&mut *stream.codecpar);
            if code < 0 {
                return Err(VideoError::ffmpeg("describe the video", code));
            }
            // The tag of another container means nothing here.
            (*stream.codecpar).codec_tag = 0;
            stream.time_base = time_base;
            stream.sample_aspect_ratio = AVRational { num: shown.aspect.0, den: shown.aspect.1 };
            (*stream.codecpar).sample_aspect_ratio = stream.sample_aspect_ratio;
            if let Some(matrix) = shown.matrix {
                let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX;
                let data = ffi::av_stream_new_side_data(stream, kind, size_of_val(&matrix));
                if data.is_null() {
                    return Err(out_of_memory());
                }
                ptr::write_unaligned(data.cast(), matrix);
            }
            let code = ffi::avio_open_dyn_buf(&mut context.pb);
            if code < 0 {
                return Err(VideoError::ffmpeg("take memory", code));
            }
            match ffi::avformat_write_header(context, ptr::null_mut()) {
                code if code == ffi::AVERROR(EINVAL) => Ok(None),
                code if code < 0 => Err(VideoError::ffmpeg("write the header of an mp4", code)),
                _ => Ok(Some(muxer)),
            }
        }
    }

    /// A file for packets that are copied; none where mp4 has no place for the codec.
    pub(super) fn copy(demuxer: &Demuxer, facts: &StreamFacts, max_bytes: usize) -> Result<Option<Self>, VideoError> {
        let source = demuxer.parameters()?;
        let time_base = demuxer.time_base()?;
        unsafe { Self::new(|to| ffi::avcodec_parameters_copy(to, source), time_base, &facts.into(), max_bytes) }
    }

    /// Writes a packet whose times are ticks from 0 on.
    pub(super) fn write(&mut self, packet: &mut Packet, pts: i64, dts: i64, duration: i64) -> Result<(), VideoError> {
        unsafe {
            let raw = &mut *packet.as_ptr();
            (raw.pts, raw.dts, raw.duration, raw.stream_index, raw.pos) = (pts, dts, duration, 0, -1);
            raw.flags &= ffi::AV_PKT_FLAG_KEY;
            let stream = *(*self.context).streams;
            ffi::av_packet_rescale_ts(raw, self.time_base, (*stream).time_base);
            let code = ffi::av_interleaved_write_frame(self.context, raw);
            if code < 0 {
                return Err(VideoError::ffmpeg("write a packet", code));
            }
            self.check_length()
        }
    }

    fn check_length(&self) -> Result<(), VideoError> {
        let length = unsafe { ffi::avio_seek((*self.context).pb, 0, 1) };
        if length > self.max_bytes as i64 { Err(VideoError::TooLarge { max: self.max_bytes }) } else { Ok(()) }
    }

    /// Ends the file and takes its bytes.
    pub(super) fn finish(self) -> Result<Vec<u8>, VideoError> {
        unsafe {
            let code = ffi::av_write_trailer(self.context);
            if code < 0 {
                return Err(VideoError::ffmpeg("end an mp4", code));
            }
            self.check_length()?;
            let mut bytes = ptr::null_mut();
            let length = ffi::avio_close_dyn_buf((*self.context).pb, &mut bytes);
            (*self.context).pb = ptr::null_mut();
            if bytes.is_null() || length < 0 {
                return Err(out_of_memory());
            }
            let copy = std::slice::from_raw_parts(bytes, length as usize).to_vec();
            ffi::av_free(bytes.cast());
            Ok(copy)
        }
    }
}

/// Encodes frames into an mp4: H.264, or MPEG-4 at its best quality where FFmpeg has no x264.
#[derive(Debug)]
pub(super) struct Encoder {
    context: *mut ffi::AVCodecContext,
    muxer: Muxer,
    packet: Packet,
    staged: Frame,
    converted: Option<(Frame, *mut ffi::SwsContext)>,
    first: bool,
    /// Length in ticks of every frame, by its time.
    durations: std::collections::HashMap<i64, i64>,
}

// The contexts are owned and used by one thread at a time.
unsafe impl Send for Encoder {}

impl Drop for Encoder {
    fn drop(&mut self) {
        unsafe {
            ffi::avcodec_free_context(&mut self.context);
            if let Some((_, scaler)) = self.converted.take() {
                ffi::sws_freeContext(scaler);
            }
        }
    }
}

/// An encoder context on its way into an [`Encoder`].
struct Opening(*mut ffi::AVCodecContext);

impl Drop for Opening {
    fn drop(&mut self) {
        unsafe { ffi::avcodec_free_context(&mut self.0) }
    }
}

impl Encoder {
    /// For frames like `frame`; times will be ticks from 0 on.
    pub(super) fn open(frame: &Frame, shown: &Presentation, settings: &Settings) -> Result<Self, VideoError> {
        unsafe {
            let mut codec = ffi::avcodec_find_encoder_by_name(c"libx264".as_ptr());
            let x264 = !codec.is_null();
            if !x264 {
                codec = ffi::avcodec_find_encoder(AVCodecID::AV_CODEC_ID_MPEG4);
            }
            if codec.is_null() {
                return Err(VideoError::UnknownCodec("h264 (to encode)".to_owned()));
            }
            let mut opening = Opening(ffi::avcodec_alloc_context3(codec));
            let context = opening.0.as_mut().ok_or_else(out_of_memory)?;
            let raw = frame.raw();
            let format = settings.format.unwrap_or_else(|| encoded_format(raw, x264));
            (context.width, context.height) = (raw.width, raw.height);
            // The formats come from FFmpeg's own lists, so the number is one of the enumeration's.
            (&raw mut context.pix_fmt).cast::<c_int>().write(format);
            context.time_base = AVRational { num: shown.time_base.0 as c_int, den: shown.time_base.1 as c_int };
            context.sample_aspect_ratio = AVRational { num: shown.aspect.0, den: shown.aspect.1 };
            context.thread_count = 1;
            context.flags |= (ffi::AV_CODEC_FLAG_GLOBAL_HEADER | ffi::AV_CODEC_FLAG_BITEXACT) as c_int;
            copy_colours(context, raw, is_rgb(raw.format));
            let result = if x264 {
                let crf = CString::new(settings.crf.to_string()).unwrap_or_default();
                ffi::av_opt_set(context.priv_data, c"preset".as_ptr(), settings.preset.as_ptr(), 0);
                ffi::av_opt_set(context.priv_data, c"crf".as_ptr(), crf.as_ptr(), 0);
                // Its tree of macroblocks reads memory that nothing has written, and so gives other bytes now and then.
                ffi::av_opt_set(context.priv_data, c"mbtree".as_ptr(), c"0".as_ptr(), 0);
                ffi::avcodec_open2(context, codec, ptr::null_mut())
            } else {
                context.flags |= ffi::AV_CODEC_FLAG_QSCALE as c_int;
                context.global_quality = 2 * 118;
                ffi::avcodec_open2(context, codec, ptr::null_mut())
            };
            if result < 0 {
                return Err(VideoError::ffmpeg("open the encoder", result));
            }
            let describe = |to: &mut ffi::AVCodecParameters| ffi::avcodec_parameters_from_context(to, context);
            let muxer = Muxer::new(describe, context.time_base, shown, settings.max_bytes)?
                .ok_or_else(|| VideoError::ffmpeg("write the header of an mp4", ffi::AVERROR(EINVAL)))?;
            let (packet, staged) = (Packet::new()?, Frame::new()?);
            let context = std::mem::replace(&mut opening.0, ptr::null_mut());
            let durations = std::collections::HashMap::new();
            Ok(Self { context, muxer, packet, staged, converted: None, first: true, durations })
        }
    }

    /// Encodes a frame that is shown at `pts` for `duration` ticks.
    pub(super) fn write(&mut self, frame: &Frame, pts: i64, duration: i64) -> Result<(), VideoError> {
        self.durations.insert(pts, duration);
        unsafe {
            let (width, height) = ((*self.context).width, (*self.context).height);
            let format = (&raw const (*self.context).pix_fmt).cast::<c_int>().read();
            let raw = frame.raw();
            if (raw.width, raw.height, raw.format) == (width, height, format) {
                self.staged.refer(frame)?;
            } else {
                self.convert(frame, width, height, format)?;
            }
            self.staged.limit_samples()?;
            let staged = &mut *self.staged.as_ptr();
            staged.pts = pts;
            // The types of the pictures in the source are no orders to the encoder.
            staged.pict_type = ffi::AVPictureType::AV_PICTURE_TYPE_NONE;
            staged.key_frame = 0;
            let code = ffi::avcodec_send_frame(self.context, staged);
            if code < 0 {
                return Err(VideoError::ffmpeg("encode a frame", code));
            }
        }
        self.staged.clear();
        self.drain()
    }

    unsafe fn convert(&mut self, frame: &Frame, width: c_int, height: c_int, format: c_int) -> Result<(), VideoError> {
        unsafe {
            let (mut target, scaler) = match self.converted.take() {
                Some(have) => have,
                None => (Frame::with_buffer(width, height, format)?, ptr::null_mut()),
            };
            let raw = frame.raw();
            let flags = ffi::SWS_BICUBIC | ffi::SWS_ACCURATE_RND | ffi::SWS_FULL_CHR_H_INT;
            let (none, known) = (ptr::null_mut(), AVPixelFormat::AV_PIX_FMT_NONE);
            let enumerated =
                |format: c_int| pixel_format(format).map_or(known, |found| ffi::av_pix_fmt_desc_get_id(found));
            let (from, to) = (enumerated(raw.format), enumerated(format));
            let size = (raw.width, raw.height);
            let scaler = ffi::sws_getCachedContext(
                scaler,
                size.0,
                size.1,
                from,
                width,
                height,
                to,
                flags,
                none,
                none,
                ptr::null(),
            );
            if scaler.is_null() {
                return Err(VideoError::Ffmpeg {
                    action: "encode a frame",
                    message: format!("its pixel format ({}) cannot be converted", raw.format),
                });
            }
            // The encoder may still hold the picture before.
            ffi::av_frame_make_writable(target.as_ptr());
            target.copy_properties(frame);
            let to = &*target.as_ptr();
            let code = ffi::sws_scale(
                scaler,
                raw.data.as_ptr().cast(),
                raw.linesize.as_ptr(),
                0,
                raw.height,
                to.data.as_ptr(),
                to.linesize.as_ptr(),
            );
            let result =
                if code < 0 { Err(VideoError::ffmpeg("convert a frame", code)) } else { self.staged.refer(&target) };
            self.converted = Some((target, scaler));
            result
        }
    }

    fn drain(&mut self) -> Result<(), VideoError> {
        loop {
            let code = unsafe { ffi::avcodec_receive_packet(self.context, self.packet.as_ptr()) };
            if code == ffi::AVERROR(EAGAIN) || code == ffi::AVERROR_EOF {
                return Ok(());
            }
            if code < 0 {
                return Err(VideoError::ffmpeg("encode a frame", code));
            }
            if std::mem::take(&mut self.first) {
                // x264 begins with a message that names its version and all its settings.
                let kept = without_messages(self.packet.data());
                self.packet.replace_data(&kept)?;
            }
            let raw = self.packet.raw();
            let (pts, dts) = (raw.pts, raw.dts);
            let duration = self.durations.remove(&pts).unwrap_or(0);
            self.muxer.write(&mut self.packet, pts, dts, duration)?;
        }
    }

    /// Ends the file and takes its bytes.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, VideoError> {
        let code = unsafe { ffi::avcodec_send_frame(self.context, ptr::null()) };
        if code < 0 {
            return Err(VideoError::ffmpeg("end the encoding", code));
        }
        self.drain()?;
        let empty = Muxer { context: ptr::null_mut(), time_base: self.muxer.time_base, max_bytes: 0 };
        std::mem::replace(&mut self.muxer, empty).finish()
    }
}

fn is_rgb(format: c_int) -> bool {
    let flag = ffi::AV_PIX_FMT_FLAG_RGB as u64;
    pixel_format(format).is_some_and(|format| format.flags & flag != 0)
}

/// The format to encode a frame in: its own where the encoder takes it, else the nearest one.
unsafe fn encoded_format(frame: &ffi::AVFrame, x264: bool) -> c_int {
    use AVPixelFormat::{
        AV_PIX_FMT_GRAY8, AV_PIX_FMT_NONE, AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUV420P10LE, AV_PIX_FMT_YUV422P,
        AV_PIX_FMT_YUV422P10LE, AV_PIX_FMT_YUV444P, AV_PIX_FMT_YUV444P10LE, AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ422P,
        AV_PIX_FMT_YUVJ444P,
    };
    let even = [
        AV_PIX_FMT_YUV420P,
        AV_PIX_FMT_YUVJ420P,
        AV_PIX_FMT_YUV422P,
        AV_PIX_FMT_YUVJ422P,
        AV_PIX_FMT_YUV420P10LE,
        AV_PIX_FMT_YUV422P10LE,
    ];
    let any = [AV_PIX_FMT_YUV444P, AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUV444P10LE, AV_PIX_FMT_GRAY8];
    if !x264 {
        return AV_PIX_FMT_YUV420P as c_int;
    }
    // H.264 cuts odd sides off where colour is subsampled.
    let mut formats = any.to_vec();
    if frame.width % 2 == 0 && frame.height % 2 == 0 {
        formats.extend(even);
    }
    if formats.iter().any(|format| *format as c_int == frame.format) {
        return frame.format;
    }
    // The names with a J are for those that have it already.
    formats.retain(|format| ![AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUVJ444P].contains(format));
    formats.push(AV_PIX_FMT_NONE);
    let known = pixel_format(frame.format);
    let source = known.map_or(AV_PIX_FMT_NONE, |format| unsafe { ffi::av_pix_fmt_desc_get_id(format) });
    let best = unsafe { ffi::avcodec_find_best_pix_fmt_of_list(formats.as_ptr(), source, 0, ptr::null_mut()) };
    best as c_int
}

/// Takes a frame's colour tags over; what was RGB becomes what the scaler makes of it.
unsafe fn copy_colours(context: &mut ffi::AVCodecContext, frame: &ffi::AVFrame, rgb: bool) {
    let number = |from: *const c_int| unsafe { from.read() };
    unsafe {
        let range = (&raw mut context.color_range).cast::<c_int>();
        let matrix = (&raw mut context.colorspace).cast::<c_int>();
        range.write(number((&raw const frame.color_range).cast()));
        matrix.write(number((&raw const frame.colorspace).cast()));
        (&raw mut context.color_primaries).cast::<c_int>().write(number((&raw const frame.color_primaries).cast()));
        (&raw mut context.color_trc).cast::<c_int>().write(number((&raw const frame.color_trc).cast()));
        if rgb {
            range.write(ffi::AVColorRange::AVCOL_RANGE_MPEG as c_int);
            matrix.write(ffi::AVColorSpace::AVCOL_SPC_SMPTE170M as c_int);
        }
    }
}
