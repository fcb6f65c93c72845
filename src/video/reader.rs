//! A video, open: first a plan is made of what is to be decoded, by reading packets only, then it is decoded. Between
//! the two the caller takes the memory that the plan asks for.

use std::ops::Range;
use std::sync::Arc;

use ffmpeg_next::ffi;

use super::codec::{Decoder, Frame};
use super::container::Container;
use super::demux::{Demuxer, StreamFacts};
use super::packet::{Packet, out_of_memory};
use super::picture::{Shape, Target};
use super::plan::{FrameInfo, Plan, feeds, is_exact, no_frames, reorder_depth, workspace};
use super::sampling::Sampling;
use super::scale::{SLACK, Scaler};
use super::scan::{MOST_PACKETS, within};
use super::watch::Watch;
use super::{Caps, MediaSource, VideoError};

/// Gaps of more bytes than this are jumped over where the container can.
const JUMP: i64 = 1 << 20;
/// A place among the packets that is not known.
pub(super) const UNKNOWN: usize = usize::MAX;
/// A time that is not known.
pub(super) const NONE: i64 = ffi::AV_NOPTS_VALUE;

/// Takes a frame, with the numbers of the slots that it fills.
pub(super) type Sink<'a> = dyn FnMut(Range<usize>, &Frame) -> Result<(), VideoError> + 'a;

/// What is known about a video or a clip of it.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaInfo {
    /// Width of the picture in pixels, after rotation.
    pub width: u32,
    /// Height of the picture in pixels, after rotation.
    pub height: u32,
    /// Mean frames a second, where known.
    pub fps: Option<f64>,
    /// Number of frames, where known.
    pub frame_count: Option<u64>,
    /// Length in seconds, where known.
    pub duration_s: Option<f64>,
    /// Video codec, FFmpeg's name.
    pub codec: String,
}

/// Decoded frames of one size.
#[derive(Debug)]
pub struct Pictures {
    /// Bytes, frames × height × width × 3, RGB.
    pub data: Vec<u8>,
    /// Frames, height, width.
    pub shape: [usize; 3],
}

/// A span of a file in seconds from its first frame: a start that is in it and an end that is not; none for the
/// file's own.
pub type Span = (Option<f64>, Option<f64>);

/// A video, open.
#[derive(Debug)]
pub struct Reader {
    pub(super) demuxer: Demuxer,
    pub(super) facts: StreamFacts,
    pub(super) caps: Caps,
    pub(super) watch: Arc<Watch>,
    pub(super) shape: Shape,
    /// Number, in the plan's packets, of the packet that is read next, or [`UNKNOWN`]; none before the first.
    pub(super) next: Option<usize>,
}

impl Reader {
    /// Opens a video and checks what its headers claim against the limits.
    pub fn open(source: Box<dyn MediaSource>, caps: &Caps) -> Result<Self, VideoError> {
        let watch = Watch::new(caps);
        let call = watch.begin();
        let demuxer = Demuxer::open(source, caps, &watch)?;
        let facts = demuxer.facts()?;
        if facts.codec == ffi::AVCodecID::AV_CODEC_ID_NONE {
            return Err(VideoError::UnknownCodec("unknown".to_owned()));
        }
        let shape = Shape {
            width: facts.width,
            height: facts.height,
            orientation: facts.orientation,
            pixel_aspect: if facts.aspect.0 > 0 { f64::from(facts.aspect.0) / f64::from(facts.aspect.1) } else { 1.0 },
        };
        drop(call);
        Ok(Self { demuxer, facts, caps: caps.clone(), watch, shape, next: None })
    }

    /// What the header tells about the file.
    pub fn info(&self) -> MediaInfo {
        let (width, height) = self.shape.upright();
        MediaInfo {
            width,
            height,
            fps: self.facts.mean_rate,
            frame_count: None,
            duration_s: self.facts.duration_s,
            codec: self.facts.codec_name.clone(),
        }
    }

    /// Length of the video in seconds: what the header tells, else by reading all packets.
    pub fn duration_s(&mut self) -> Result<f64, VideoError> {
        if let Some(duration) = self.facts.duration_s {
            return Ok(duration);
        }
        let plan = self.plan((None, None), &Sampling { frames: Some(1), ..Sampling::ALL })?;
        plan.info.duration_s.ok_or_else(|| VideoError::Damaged("its length cannot be told".to_owned()))
    }

    /// Finds the frames of a span and chooses the wanted ones. Reads packets, decodes nothing, unless the packets have
    /// no usable times.
    pub fn plan(&mut self, span: Span, sampling: &Sampling) -> Result<Plan, VideoError> {
        let _call = self.watch.begin();
        let scan = self.scan(span)?;
        let exact = is_exact(&scan.packets, scan.from_start);
        let (frames, length_s) = if exact { self.frames_of(&scan, span) } else { self.count(span)? };
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Err(no_frames(span, length_s));
        };
        let start = span.0.unwrap_or(first.time_s);
        let step = if frames.len() > 1 { (last.time_s - first.time_s) / (frames.len() - 1) as f64 } else { 0.0 };
        let rate = self.facts.mean_rate.unwrap_or(25.0);
        let last_duration = scan.packets.iter().max_by_key(|packet| packet.pts).map_or(0, |last| last.duration);
        let tail = if last_duration > 0 && scan.ended {
            self.seconds(i64::from(last_duration))
        } else if step > 0.0 {
            step
        } else {
            1.0 / rate
        };
        let end = span.1.unwrap_or(f64::INFINITY).min(last.time_s + tail);
        let duration_s = end - start;
        if duration_s > self.caps.max_duration_s {
            return Err(VideoError::TooLong { max_s: self.caps.max_duration_s });
        }
        let times: Vec<f64> = frames.iter().map(|frame| frame.time_s - start).collect();
        let picks = sampling.choose(&times, duration_s)?;
        let reorder = reorder_depth(&scan.packets);
        let info = MediaInfo {
            fps: if step > 0.0 { Some(self.mean_rate(frames.len(), step)) } else { self.facts.mean_rate },
            frame_count: Some(frames.len() as u64),
            duration_s: Some(duration_s),
            ..self.info()
        };
        Ok(Plan {
            workspace: workspace(&self.facts, reorder),
            packets: scan.packets,
            frames,
            exact,
            picks,
            info,
            span,
            shape: self.shape,
            reorder,
        })
    }

    /// Mean frames a second: the container's where the frames agree with it, since theirs are rounded to ticks.
    fn mean_rate(&self, frames: usize, step: f64) -> f64 {
        let measured = 1.0 / step;
        let tick = self.seconds(1) / (step * frames as f64);
        match self.facts.mean_rate {
            Some(rate) if (rate / measured - 1.0).abs() <= tick.max(1e-3) => rate,
            _ => measured,
        }
    }

    /// Decodes what `plan`, made by this reader, wants, once for each target.
    pub fn decode(&mut self, plan: &Plan, targets: &[Target]) -> Result<Vec<Pictures>, VideoError> {
        let mut outputs =
            targets.iter().map(|target| Output::new(plan, target)).collect::<Result<Vec<_>, VideoError>>()?;
        let shape = plan.shape;
        self.frames(plan, &mut |slots, frame| {
            outputs.iter_mut().try_for_each(|output| output.write(slots.clone(), frame, &shape))
        })?;
        Ok(outputs.into_iter().map(Output::finish).collect())
    }

    /// Hands the wanted frames out in order, each with the numbers of the slots that it fills.
    pub(super) fn frames(&mut self, plan: &Plan, sink: &mut Sink<'_>) -> Result<(), VideoError> {
        let _call = self.watch.begin();
        if plan.exact && self.decode_exact(plan, sink)? {
            return Ok(());
        }
        self.decode_all(plan, sink)
    }

    pub(super) fn seconds(&self, ticks: i64) -> f64 {
        let (numerator, denominator) = self.facts.time_base;
        (ticks as f64 * numerator as f64) / denominator as f64
    }

    pub(super) fn ticks(&self, seconds: f64) -> i64 {
        let (numerator, denominator) = self.facts.time_base;
        (seconds * denominator as f64 / numerator as f64) as i64
    }

    /// The frames of a span as a full decode gives them; for files whose packets have no usable times.
    fn count(&mut self, span: Span) -> Result<(Vec<FrameInfo>, f64), VideoError> {
        let step = 1.0 / self.facts.mean_rate.unwrap_or(25.0);
        let (mut frames, mut origin, max_s) = (Vec::new(), None, self.caps.max_duration_s);
        let mut last = None;
        self.decode_through(0, &mut |number, frame| {
            let ticks = frame.ticks();
            frames.push((ticks, number));
            if number >= MOST_PACKETS {
                return Err(VideoError::TooLong { max_s });
            }
            if origin.is_none() {
                origin = ticks;
            }
            Ok(true)
        })?;
        let origin = origin.unwrap_or(0);
        let frames: Vec<FrameInfo> = frames
            .into_iter()
            .map(|(ticks, number)| {
                // Times that are missing or run backwards are made up of the rate.
                let time_s = ticks.map(|ticks| self.seconds(ticks.saturating_sub(origin)));
                let time_s = match (time_s, last) {
                    (Some(time), Some(last)) if time <= last => last + step,
                    (Some(time), _) => time,
                    (None, last) => last.map_or(0.0, |last| last + step),
                };
                last = Some(time_s);
                FrameInfo { ticks: ticks.unwrap_or(NONE), time_s, packet: number as u32 }
            })
            .collect();
        let length_s = frames.last().map_or(0.0, |last| last.time_s);
        Ok((frames.into_iter().filter(|frame| within(span, frame.time_s)).collect(), length_s))
    }

    /// Decodes only what the wanted frames need; false where a frame did not come as planned.
    fn decode_exact(&mut self, plan: &Plan, sink: &mut Sink<'_>) -> Result<bool, VideoError> {
        let wanted = plan.wanted_packets();
        let mut slots = plan.slots(&plan.frames).map(|(frame, slots)| (frame.ticks, slots)).peekable();
        let mut decoder = Decoder::open(&self.demuxer, &self.facts, &self.caps, plan.reorder)?;
        let (mut packet, mut frame) = (Packet::new()?, Frame::new()?);
        let watch = Arc::clone(&self.watch);
        // False where something is wrong. Frames come in the order in which they are shown, as the slots do.
        let mut collect = |decoder: &mut Decoder| -> Result<bool, VideoError> {
            loop {
                watch.check()?;
                match decoder.receive(&mut frame) {
                    Ok(true) if frame.is_damaged() => return Ok(false),
                    Ok(true) => {}
                    Ok(false) => return Ok(true),
                    Err(_) => return Ok(false),
                }
                match slots.peek() {
                    Some((ticks, _)) if frame.ticks() == Some(*ticks) => {}
                    // A wanted frame was passed over.
                    Some((ticks, _)) if frame.ticks().is_some_and(|have| have > *ticks) => return Ok(false),
                    _ => continue,
                }
                if let Some((_, slots)) = slots.next() {
                    decoder.fetch(&mut frame)?;
                    sink(slots, &frame)?;
                }
            }
        };
        for (number, feed) in feeds(&plan.packets, &wanted).into_iter().enumerate() {
            if number > 0 {
                if decoder.send(None).is_err() || !collect(&mut decoder)? {
                    return Ok(false);
                }
                decoder.flush();
            }
            for (at, info) in plan.packets.iter().enumerate().take(feed.to + 1).skip(feed.from) {
                if info.disposable && !wanted[at] {
                    continue;
                }
                if !self.fetch(plan, at, &mut packet)?
                    || decoder.send(Some(&packet)).is_err()
                    || !collect(&mut decoder)?
                {
                    return Ok(false);
                }
            }
        }
        if decoder.send(None).is_err() || !collect(&mut decoder)? {
            return Ok(false);
        }
        Ok(slots.peek().is_none())
    }

    /// Reads packet number `at` of the plan; false where it is not found again.
    pub(super) fn fetch(&mut self, plan: &Plan, at: usize, packet: &mut Packet) -> Result<bool, VideoError> {
        let target = &plan.packets[at];
        let next = self.next.unwrap_or(UNKNOWN);
        let near = |next: usize| (target.position - plan.packets[next].position).abs() < JUMP;
        if next > at || !near(next) {
            let ticks = match self.demuxer.container() {
                // Its index is in the order of decoding.
                Container::Mov if target.dts != NONE => target.dts,
                _ => target.pts,
            };
            // The colours come with the first packet after opening, not after a seek.
            let sought = !self.facts.palette && self.demuxer.seek(ticks)?;
            if !sought || !self.read_until(plan, at, packet)? {
                self.rewind()?;
                if !self.read_until(plan, at, packet)? {
                    return Ok(false);
                }
            }
        } else if !self.read_until(plan, at, packet)? {
            return Ok(false);
        }
        self.next = Some(at + 1);
        Ok(true)
    }

    /// Reads on until packet number `at` comes; false where a later one or the end comes first.
    fn read_until(&mut self, plan: &Plan, at: usize, packet: &mut Packet) -> Result<bool, VideoError> {
        let target = &plan.packets[at];
        while self.demuxer.read(packet)? {
            let raw = packet.raw();
            if (raw.pts, raw.pos, raw.size) == target.identity() {
                return Ok(true);
            }
            if target.position >= 0 && raw.pos > target.position + 16 * JUMP {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Decodes everything and takes frames by their number.
    fn decode_all(&mut self, plan: &Plan, sink: &mut Sink<'_>) -> Result<(), VideoError> {
        let counted = plan.exact.then(|| self.count(plan.span)).transpose()?;
        let frames = counted.as_ref().map_or(&plan.frames, |(frames, _)| frames);
        if frames.len() != plan.frames.len() {
            let (listed, there) = (plan.frames.len(), frames.len());
            return Err(VideoError::Damaged(format!("it lists {listed} frames, {there} can be decoded")));
        }
        let mut slots = plan.slots(frames).map(|(frame, slots)| (frame.packet as usize, slots)).peekable();
        self.decode_through(plan.reorder, &mut |number, frame| {
            if let Some((_, slots)) = slots.next_if(|(wanted, _)| *wanted == number) {
                sink(slots, frame)?;
            }
            Ok(slots.peek().is_some())
        })?;
        if slots.peek().is_some() {
            return Err(VideoError::Damaged("some of its frames cannot be decoded".to_owned()));
        }
        Ok(())
    }

    /// Decodes from the start of the file, every packet, until `sink` says that it has enough.
    fn decode_through(
        &mut self,
        reorder: usize,
        sink: &mut dyn FnMut(usize, &Frame) -> Result<bool, VideoError>,
    ) -> Result<(), VideoError> {
        self.rewind()?;
        let mut decoder = Decoder::open(&self.demuxer, &self.facts, &self.caps, reorder)?;
        let (mut packet, mut frame) = (Packet::new()?, Frame::new()?);
        let (mut number, mut more) = (0, true);
        while more {
            more = self.demuxer.read(&mut packet)?;
            let sent = decoder.send(more.then_some(&packet));
            if number == 0
                && let Some(most) = decoder.refuses_size()
            {
                return Err(self.refused_size(most));
            }
            // Before the first whole picture, errors are what a stream looks like that one joins midway.
            if let Err(error) = sent.as_ref()
                && number > 0
            {
                return Err(self.damaged_at(&packet, error));
            }
            while decoder.receive(&mut frame).map_err(|error| self.damaged_at(&packet, &error))? {
                self.watch.check()?;
                if frame.is_damaged() {
                    if number == 0 {
                        continue;
                    }
                    return Err(self.damaged_at(&packet, "parts of a picture are missing"));
                }
                decoder.fetch(&mut frame)?;
                if !sink(number, &frame)? {
                    return Ok(());
                }
                number += 1;
            }
        }
        Ok(())
    }

    fn refused_size(&self, most: i64) -> VideoError {
        let max = self.caps.max_pixels;
        VideoError::Damaged(if u64::try_from(most).is_ok_and(|most| most < max) {
            let (width, height) = (self.facts.width, self.facts.height);
            format!("its pictures are much larger than the {width}x{height} that its header claims, or of no size")
        } else {
            format!("its pictures are larger than max_pixels, {max}, or of no size")
        })
    }

    fn damaged_at(&self, packet: &Packet, message: &str) -> VideoError {
        let ticks = packet.raw().pts;
        if ticks == NONE {
            return VideoError::Damaged(message.to_owned());
        }
        VideoError::Damaged(format!("{message}, near {:.2} s", self.seconds(ticks)))
    }
}

/// Where the frames of one target go.
struct Output {
    data: Vec<u8>,
    shape: [usize; 3],
    scaler: Scaler,
}

impl Output {
    fn new(plan: &Plan, target: &Target) -> Result<Self, VideoError> {
        let shape = plan.output_shape(target);
        let bytes = plan.output_bytes(std::slice::from_ref(target));
        let mut data = Vec::new();
        data.try_reserve_exact(bytes.saturating_add(SLACK)).map_err(|_| out_of_memory())?;
        data.resize(bytes + SLACK, 0);
        Ok(Self { data, shape, scaler: Scaler::new(target, plan.shape.size(target))? })
    }

    fn write(&mut self, slots: Range<usize>, frame: &Frame, shape: &Shape) -> Result<(), VideoError> {
        let bytes = self.shape[1] * self.shape[2] * 3;
        let first = slots.start * bytes;
        self.scaler.scale(frame, shape, &mut self.data[first..])?;
        for slot in slots.skip(1) {
            self.data.copy_within(first..first + bytes, slot * bytes);
        }
        Ok(())
    }

    fn finish(self) -> Pictures {
        let mut data = self.data;
        data.truncate(self.shape.iter().product::<usize>() * 3);
        Pictures { data, shape: self.shape }
    }
}
