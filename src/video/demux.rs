//! The boundary to libavformat: packets of one video stream, out of bytes that a [`MediaSource`] gives.
//!
//! A file can name no other file: demuxers are an allow-list without playlists, no protocol is allowed, and every
//! attempt to open something is refused.

#![expect(unsafe_code, reason = "libavformat is a C library")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use ffmpeg_next::error::EAGAIN;
use ffmpeg_next::ffi;
use ffmpeg_next::ffi::AVCodecID;

use super::avio::{Io, interrupted, read, refuse, seek};
use super::container::{self, Container};
use super::error::describe;
use super::packet::{Packet, out_of_memory};
use super::picture::Orientation;
use super::watch::Watch;
use super::{Caps, MediaSource, VideoError};

/// Bytes of one read.
const BUFFER: usize = 64 << 10;
/// Bytes that are looked at to tell what a file is.
const PROBE: u32 = 1 << 20;

/// An open demuxer and its I/O context; frees both.
#[derive(Debug)]
struct Input {
    context: *mut ffi::AVFormatContext,
    io: *mut ffi::AVIOContext,
}

impl Drop for Input {
    fn drop(&mut self) {
        unsafe {
            ffi::avformat_close_input(&mut self.context);
            if !self.io.is_null() {
                ffi::av_freep((&raw mut (*self.io).buffer).cast());
                ffi::avio_context_free(&mut self.io);
            }
        }
    }
}

/// Facts about the video stream that the container tells.
#[derive(Debug, Clone)]
pub(super) struct StreamFacts {
    pub(super) codec: AVCodecID,
    pub(super) codec_name: String,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Seconds of a tick: numerator and denominator.
    pub(super) time_base: (i64, i64),
    pub(super) duration_s: Option<f64>,
    pub(super) mean_rate: Option<f64>,
    pub(super) orientation: Orientation,
    /// The display matrix behind it.
    pub(super) matrix: Option<[i32; 9]>,
    /// Width of a pixel over its height, as FFmpeg has it; 0 over 1 where it is not known.
    pub(super) aspect: (i32, i32),
    pub(super) profile: i32,
    pub(super) level: i32,
    pub(super) extradata: Vec<u8>,
    /// Pixels are numbers of colours, which the first packet brings along.
    pub(super) palette: bool,
    /// Bytes of a decoded pixel as far as it is known.
    pub(super) bytes_per_pixel: f64,
}

/// A demuxer over one source.
#[derive(Debug)]
pub(super) struct Demuxer {
    input: Option<Input>,
    io: NonNull<Io>,
    container: Container,
    stream: c_int,
    max_pixels: u64,
    /// Whether libavformat has decoded a little; at most once, since FFmpeg 5.1 crashes on a second time in some
    /// containers.
    looked: bool,
}

// The pointers are owned and used by one thread at a time; sources are `Send`.
unsafe impl Send for Demuxer {}

impl Drop for Demuxer {
    fn drop(&mut self) {
        self.input = None;
        drop(unsafe { Box::from_raw(self.io.as_ptr()) });
    }
}

impl Demuxer {
    /// Opens the container and finds its video.
    pub(super) fn open(source: Box<dyn MediaSource>, caps: &Caps, watch: &Arc<Watch>) -> Result<Self, VideoError> {
        super::initialise();
        super::codec::limit_blocks(caps.max_pixels);
        let io = Box::new(Io { source, position: 0, watch: Arc::clone(watch), fault: None });
        let mut demuxer = Self {
            input: None,
            io: NonNull::from(Box::leak(io)),
            container: Container::Other,
            stream: 0,
            max_pixels: caps.max_pixels,
            looked: false,
        };
        if demuxer.source().is_empty() {
            return Err(VideoError::Empty);
        }
        demuxer.reopen()?;
        Ok(demuxer)
    }

    /// Begins again at the first packet, with nothing left of what was read before.
    pub(super) fn reopen(&mut self) -> Result<(), VideoError> {
        self.input = None;
        self.looked = false;
        unsafe { self.io.as_mut() }.position = 0;
        let input = self.connect().map_err(|error| self.blame(error))?;
        self.input = Some(input);
        if !self.container.tells_all() {
            self.look_closer()?;
        }
        self.stream = self.find_video()?;
        self.check_header()
    }

    /// Begins again with all that is to be known about the video, also what only its packets tell.
    pub(super) fn reopen_completely(&mut self) -> Result<(), VideoError> {
        self.reopen()?;
        if self.looked { Ok(()) } else { self.look_closer() }
    }

    /// The source; for safe code that looks at the bytes itself.
    pub(super) fn source(&mut self) -> &mut dyn MediaSource {
        &mut *unsafe { self.io.as_mut() }.source
    }

    pub(super) fn container(&self) -> Container {
        self.container
    }

    /// The true cause of an error: a limit, the source, or what FFmpeg says.
    fn blame(&mut self, error: VideoError) -> VideoError {
        let io = unsafe { self.io.as_mut() };
        match io.watch.check() {
            Err(limit) => limit,
            Ok(()) => io.fault.take().map_or(error, VideoError::Io),
        }
    }

    fn connect(&mut self) -> Result<Input, VideoError> {
        unsafe {
            let buffer = ffi::av_mallocz(BUFFER).cast::<u8>();
            if buffer.is_null() {
                return Err(out_of_memory());
            }
            let opaque = self.io.as_ptr().cast::<c_void>();
            let mut input = Input { context: ptr::null_mut(), io: ptr::null_mut() };
            input.io = ffi::avio_alloc_context(buffer, BUFFER as c_int, 0, opaque, Some(read), None, Some(seek));
            if input.io.is_null() {
                ffi::av_free(buffer.cast());
                return Err(out_of_memory());
            }
            let mut format = ptr::null();
            let code = ffi::av_probe_input_buffer2(input.io, &mut format, ptr::null(), ptr::null_mut(), 0, PROBE);
            if code < 0 || format.is_null() {
                return Err(VideoError::NotVideo(container::guess(self.source())));
            }
            let name = CStr::from_ptr((*format).name).to_string_lossy();
            let Some(container) = Container::allowed(&name) else {
                let long = (*format).long_name;
                let long = if long.is_null() { name } else { CStr::from_ptr(long).to_string_lossy() };
                return Err(VideoError::NotVideo(long.into_owned()));
            };
            self.container = container;

            input.context = ffi::avformat_alloc_context();
            let context = input.context.as_mut().ok_or_else(out_of_memory)?;
            context.pb = input.io;
            context.flags |= ffi::AVFMT_FLAG_CUSTOM_IO;
            context.io_open = Some(refuse);
            context.interrupt_callback = ffi::AVIOInterruptCB { callback: Some(interrupted), opaque };
            context.format_whitelist = copy_text(&container::ALLOWED.join(","))?;
            context.protocol_whitelist = copy_text("none")?;
            // Frees the context where it fails, and sets the pointer to null.
            let code = ffi::avformat_open_input(&mut input.context, ptr::null(), format, ptr::null_mut());
            if code < 0 {
                return Err(match container {
                    Container::Mov if !container::has_box(self.source(), b"moov") => VideoError::Unfinished,
                    _ => VideoError::Damaged(format!("its header cannot be read, {}", describe(code))),
                });
            }
            Ok(input)
        }
    }

    fn context(&self) -> Result<NonNull<ffi::AVFormatContext>, VideoError> {
        self.input
            .as_ref()
            .and_then(|input| NonNull::new(input.context))
            .ok_or_else(|| VideoError::Ffmpeg { action: "read", message: "the file is not open".to_owned() })
    }

    fn stream(&self) -> Result<*mut ffi::AVStream, VideoError> {
        let context = unsafe { self.context()?.as_ref() };
        Ok(unsafe { *context.streams.add(self.stream as usize) })
    }

    /// The best video stream, all others switched off.
    fn find_video(&mut self) -> Result<c_int, VideoError> {
        let context = self.context()?.as_ptr();
        unsafe {
            let video = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
            let best = ffi::av_find_best_stream(context, video, -1, -1, ptr::null_mut(), 0);
            let streams = std::slice::from_raw_parts((*context).streams, (*context).nb_streams as usize);
            let cover = |at: c_int| (*streams[at as usize]).disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0;
            if best < 0 || cover(best) {
                let audio = ffi::AVMediaType::AVMEDIA_TYPE_AUDIO;
                let has_audio = streams.iter().any(|stream| (*(**stream).codecpar).codec_type == audio);
                return Err(VideoError::NoVideo(if has_audio { "only audio" } else { "no stream of pictures" }));
            }
            for (at, stream) in streams.iter().enumerate() {
                if at != best as usize {
                    (**stream).discard = ffi::AVDiscard::AVDISCARD_ALL;
                }
            }
            Ok(best)
        }
    }

    /// Checks what the header claims before anything is decoded.
    fn check_header(&mut self) -> Result<(), VideoError> {
        let parameters = unsafe { &*(*self.stream()?).codecpar };
        let (width, height) = (i64::from(parameters.width), i64::from(parameters.height));
        // FFmpeg leaves the size of these to their decoders, whatever the container says.
        let left_open = matches!(
            parameters.codec_id,
            AVCodecID::AV_CODEC_ID_MPEG4
                | AVCodecID::AV_CODEC_ID_H263
                | AVCodecID::AV_CODEC_ID_MPEG1VIDEO
                | AVCodecID::AV_CODEC_ID_MPEG2VIDEO
        );
        if self.container.tells_all() && left_open && width == 0 && height == 0 {
            self.look_closer()?;
            let parameters = unsafe { &*(*self.stream()?).codecpar };
            return self.check_size(parameters.width.into(), parameters.height.into());
        }
        self.check_size(width, height)
    }

    /// Refuses a picture that cannot be, or that is too large.
    pub(super) fn check_size(&self, width: i64, height: i64) -> Result<(), VideoError> {
        if width <= 0 || height <= 0 {
            return Err(VideoError::NoSize { width, height });
        }
        if width as u64 * height as u64 > self.max_pixels {
            return Err(VideoError::TooManyPixels { width, height, max: self.max_pixels });
        }
        Ok(())
    }

    /// Lets libavformat decode a little, where a header does not tell enough.
    fn look_closer(&mut self) -> Result<(), VideoError> {
        self.looked = true;
        let context = self.context()?.as_ptr();
        unsafe {
            // A decoder is opened for every stream that there is so far; streams found later get none of these.
            let count = (*context).nb_streams as usize;
            let limit = CString::new(self.max_pixels.to_string()).unwrap_or_default();
            let mut options: Vec<*mut ffi::AVDictionary> = vec![ptr::null_mut(); count];
            for option in &mut options {
                ffi::av_dict_set(option, c"max_pixels".as_ptr(), limit.as_ptr(), 0);
                ffi::av_dict_set(option, c"threads".as_ptr(), c"1".as_ptr(), 0);
            }
            let list = if count == 0 { ptr::null_mut() } else { options.as_mut_ptr() };
            let code = ffi::avformat_find_stream_info(context, list);
            for option in &mut options {
                ffi::av_dict_free(option);
            }
            if code < 0 {
                let error = VideoError::Damaged(format!("its streams cannot be read, {}", describe(code)));
                return Err(self.blame(error));
            }
        }
        Ok(())
    }

    /// What the container tells about the video.
    pub(super) fn facts(&self) -> Result<StreamFacts, VideoError> {
        let context = self.context()?.as_ptr();
        let stream = self.stream()?;
        unsafe {
            let parameters = &*(*stream).codecpar;
            let base = (*stream).time_base;
            let time_base = (i64::from(base.num.max(1)), i64::from(base.den.max(1)));
            let seconds = |ticks: i64| ticks as f64 * time_base.0 as f64 / time_base.1 as f64;
            let known = |ticks: i64| (ticks != ffi::AV_NOPTS_VALUE && ticks > 0).then_some(ticks);
            let duration_s = known((*stream).duration)
                .map(seconds)
                .or_else(|| known((*context).duration).map(|ticks| ticks as f64 / f64::from(ffi::AV_TIME_BASE)));
            let rate = (*stream).avg_frame_rate;
            let matrix = display_matrix(stream);
            let aspect = ffi::av_guess_sample_aspect_ratio(context, stream, ptr::null_mut());
            let extradata = if parameters.extradata.is_null() || parameters.extradata_size <= 0 {
                Vec::new()
            } else {
                std::slice::from_raw_parts(parameters.extradata, parameters.extradata_size as usize).to_vec()
            };
            Ok(StreamFacts {
                codec: parameters.codec_id,
                codec_name: CStr::from_ptr(ffi::avcodec_get_name(parameters.codec_id)).to_string_lossy().into_owned(),
                width: parameters.width as u32,
                height: parameters.height as u32,
                time_base,
                duration_s,
                mean_rate: (rate.num > 0 && rate.den > 0).then(|| f64::from(rate.num) / f64::from(rate.den)),
                orientation: matrix.as_ref().map(Orientation::from_matrix).unwrap_or_default(),
                matrix,
                aspect: if aspect.num > 0 && aspect.den > 0 { (aspect.num, aspect.den) } else { (0, 1) },
                profile: profile(parameters, &extradata),
                level: level(parameters, &extradata),
                extradata,
                palette: (1..=8).contains(&parameters.bits_per_coded_sample),
                bytes_per_pixel: super::codec::bytes_per_pixel(parameters.format),
            })
        }
    }

    /// The stream's codec parameters, valid while `self` is not opened again.
    pub(super) fn parameters(&self) -> Result<*const ffi::AVCodecParameters, VideoError> {
        Ok(unsafe { (*self.stream()?).codecpar })
    }

    /// Seconds of a tick, as FFmpeg has it.
    pub(super) fn time_base(&self) -> Result<ffi::AVRational, VideoError> {
        Ok(unsafe { (*self.stream()?).time_base })
    }

    /// The next packet of the video; false at the end.
    pub(super) fn read(&mut self, packet: &mut Packet) -> Result<bool, VideoError> {
        let context = self.context()?.as_ptr();
        let mut again = 0;
        loop {
            unsafe { self.io.as_ref() }.watch.check()?;
            packet.clear();
            let code = unsafe { ffi::av_read_frame(context, packet.as_ptr()) };
            if code >= 0 {
                if packet.raw().stream_index == self.stream {
                    return Ok(true);
                }
                continue;
            }
            // Some demuxers want to be asked once more, such as that of transport streams.
            if code == ffi::AVERROR(EAGAIN) && again < 1000 {
                again += 1;
                continue;
            }
            let end = VideoError::Damaged(format!("its data cannot be read on, {}", describe(code)));
            return match self.blame(end) {
                VideoError::Damaged(_) if code == ffi::AVERROR_EOF => Ok(false),
                error => Err(error),
            };
        }
    }

    /// Goes to the last keyframe at or before `ticks`, as far as the container knows; false where it cannot.
    pub(super) fn seek(&mut self, ticks: i64) -> Result<bool, VideoError> {
        let context = self.context()?.as_ptr();
        let code = unsafe { ffi::av_seek_frame(context, self.stream, ticks, ffi::AVSEEK_FLAG_BACKWARD) };
        unsafe { self.io.as_ref() }.watch.check()?;
        Ok(code >= 0)
    }

    /// Where an index lists data behind the end of the file: the time of the first such entry, in ticks.
    pub(super) fn first_missing(&mut self) -> Result<Option<i64>, VideoError> {
        let length = i64::try_from(self.source().len()).unwrap_or(i64::MAX);
        let stream = self.stream()?;
        unsafe {
            for at in 0..ffi::avformat_index_get_entries_count(stream) {
                let Some(entry) = ffi::avformat_index_get_entry(stream, at).as_ref() else { continue };
                if entry.pos.saturating_add(i64::from(entry.size())) > length {
                    return Ok(Some(entry.timestamp));
                }
            }
        }
        Ok(None)
    }
}

/// The codec's profile; MP4 and Matroska keep it in the codec's own header.
fn profile(parameters: &ffi::AVCodecParameters, extradata: &[u8]) -> i32 {
    match (parameters.codec_id, extradata) {
        (AVCodecID::AV_CODEC_ID_H264, [1, profile, ..]) => i32::from(*profile),
        (AVCodecID::AV_CODEC_ID_HEVC, [1, profile, ..]) => i32::from(profile & 31),
        _ => parameters.profile,
    }
}

/// The codec's level, likewise.
fn level(parameters: &ffi::AVCodecParameters, extradata: &[u8]) -> i32 {
    match (parameters.codec_id, extradata) {
        (AVCodecID::AV_CODEC_ID_H264, [1, _, _, level, ..]) => i32::from(*level),
        _ => parameters.level,
    }
}

/// How the picture is to be turned.
unsafe fn display_matrix(stream: *mut ffi::AVStream) -> Option<[i32; 9]> {
    unsafe {
        let mut size = 0;
        let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX;
        let data = ffi::av_stream_get_side_data(stream, kind, &mut size);
        (!data.is_null() && size >= 36).then(|| ptr::read_unaligned(data.cast()))
    }
}

/// A copy of `text` that FFmpeg owns.
unsafe fn copy_text(text: &str) -> Result<*mut c_char, VideoError> {
    let text = CString::new(text).unwrap_or_default();
    let copy = unsafe { ffi::av_strdup(text.as_ptr()) };
    if copy.is_null() { Err(out_of_memory()) } else { Ok(copy) }
}
