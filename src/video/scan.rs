//! The pass over the packets of a span, before anything is decoded.

use ffmpeg_next::ffi;

use super::VideoError;
use super::bitstream::Headers;
use super::container::{Container, claimed_length};
use super::packet::Packet;
use super::plan::{FrameInfo, PacketInfo, keep_lower_layers};
use super::reader::{NONE, Reader, Span, UNKNOWN};

/// No codec shows a frame more than this many packets after or before its own.
const REORDER: usize = 33;
/// A plan takes memory for every packet, so there is an end to them: 18 hours at 60 frames a second.
pub(super) const MOST_PACKETS: usize = 4 << 20;

/// What a pass over the packets found.
pub(super) struct Scan {
    pub(super) packets: Vec<PacketInfo>,
    pub(super) from_start: bool,
    /// Time of the file's first frame in ticks.
    pub(super) origin: i64,
    /// Whether the end of the file was reached.
    pub(super) ended: bool,
}

impl Reader {
    /// Begins again at the first packet.
    pub(super) fn rewind(&mut self) -> Result<(), VideoError> {
        if self.next.is_some() {
            self.demuxer.reopen()?;
        }
        self.next = Some(UNKNOWN);
        Ok(())
    }

    /// Begins again, with all that is to be known about the stream to copy it.
    pub(super) fn complete(&mut self) -> Result<(), VideoError> {
        self.next = Some(UNKNOWN);
        self.demuxer.reopen_completely()
    }

    /// Reads the packets of a span, from the start of the file or from a keyframe before the span.
    pub(super) fn scan(&mut self, span: Span) -> Result<Scan, VideoError> {
        self.rewind()?;
        let headers = Headers::new(self.facts.codec, &self.facts.extradata, self.facts.palette);
        let mut packet = Packet::new()?;
        let mut packets = Vec::new();
        let mut ended = false;
        while packets.len() < REORDER && !ended {
            ended = !self.next_packet(&headers, &mut packet, &mut packets)?;
        }
        let origin =
            packets.iter().filter(|packet| !packet.hidden && packet.pts != NONE).map(|packet| packet.pts).min();
        let origin = origin.unwrap_or(0);
        let latest = packets.iter().map(|packet| packet.pts).max().unwrap_or(origin);
        let start = span.0.unwrap_or(0.0);
        let mut from_start = true;
        if !ended && start > self.seconds(latest.saturating_sub(origin)) + 2.0 {
            from_start = !self.seek_before(origin, start, &headers, &mut packet, &mut packets)?;
        }

        let end = span.1.map_or(i64::MAX, |end| origin.saturating_add(self.ticks(end).saturating_add(1)));
        let most = origin.saturating_add(self.ticks(start + self.caps.max_duration_s));
        let mut behind = 0;
        while !ended && behind < REORDER {
            ended = !self.next_packet(&headers, &mut packet, &mut packets)?;
            let Some(latest) = packets.last() else { continue };
            // Where times of decoding are true, nothing later is shown before them.
            if self.demuxer.container() == Container::Mov && latest.dts != NONE && latest.dts >= end {
                break;
            }
            behind = if latest.pts >= end { behind + 1 } else { 0 };
            if (latest.pts > most && most < end) || packets.len() > MOST_PACKETS {
                return Err(VideoError::TooLong { max_s: self.caps.max_duration_s });
            }
        }
        if ended {
            self.check_complete(origin)?;
        }
        if packets.is_empty() {
            return Err(VideoError::Damaged("it has no pictures".to_owned()));
        }
        keep_lower_layers(&mut packets);
        Ok(Scan { packets, from_start, origin, ended })
    }

    /// Reads one packet; false at the end.
    fn next_packet(
        &mut self,
        headers: &Headers,
        packet: &mut Packet,
        packets: &mut Vec<PacketInfo>,
    ) -> Result<bool, VideoError> {
        match self.demuxer.read(packet) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                let origin = packets.first().map_or(0, |first| first.pts);
                self.check_complete(origin)?;
                return Err(error);
            }
        }
        let raw = packet.raw();
        let nature = headers.nature(packet.data(), raw.flags & ffi::AV_PKT_FLAG_KEY != 0);
        packets.push(PacketInfo {
            pts: raw.pts,
            dts: raw.dts,
            position: raw.pos,
            size: raw.size,
            duration: i32::try_from(raw.duration).unwrap_or(0),
            start: nature.start && raw.pts != NONE,
            disposable: nature.disposable,
            hidden: nature.hidden || raw.flags & ffi::AV_PKT_FLAG_DISCARD != 0,
            layer: nature.layer,
        });
        Ok(true)
    }

    /// Goes to a keyframe shown no later than `start` and reads it; false, back at the beginning, where there is none.
    fn seek_before(
        &mut self,
        origin: i64,
        start: f64,
        headers: &Headers,
        packet: &mut Packet,
        packets: &mut Vec<PacketInfo>,
    ) -> Result<bool, VideoError> {
        for back in [0.0, 2.0, 10.0, 30.0] {
            packets.clear();
            let target = origin.saturating_add(self.ticks(start - back));
            if start < back || !self.demuxer.seek(target)? {
                break;
            }
            self.next_packet(headers, packet, packets)?;
            if packets.first().is_some_and(|first| first.start && self.seconds(first.pts - origin) <= start) {
                return Ok(true);
            }
        }
        packets.clear();
        self.rewind()?;
        Ok(false)
    }

    /// At the end of the data: whether the headers promise more.
    fn check_complete(&mut self, origin: i64) -> Result<(), VideoError> {
        if let Some(ticks) = self.demuxer.first_missing()? {
            let (there, all) = (self.seconds(ticks.saturating_sub(origin)).max(0.0), self.facts.duration_s);
            let all = all.map_or_else(String::new, |all| format!(" of {all:.2} s"));
            return Err(VideoError::Truncated(format!("the data of the video end after {there:.2} s{all}")));
        }
        let container = self.demuxer.container();
        let source = self.demuxer.source();
        match claimed_length(source, container) {
            Some(claimed) if claimed > source.len() => {
                Err(VideoError::Truncated(format!("its header claims {claimed} bytes, {} are there", source.len())))
            }
            _ => Ok(()),
        }
    }

    /// The frames of a span where every shown packet is one, and the length of what was read in seconds.
    pub(super) fn frames_of(&self, scan: &Scan, span: Span) -> (Vec<FrameInfo>, f64) {
        let first = scan.packets.first().map_or(0, |first| first.pts);
        let shown = scan.packets.iter().enumerate().filter(|(_, packet)| !packet.hidden && packet.pts >= first);
        let mut frames: Vec<FrameInfo> = shown
            .map(|(at, packet)| FrameInfo {
                ticks: packet.pts,
                time_s: self.seconds(packet.pts - scan.origin),
                packet: at as u32,
            })
            .collect();
        frames.sort_unstable_by_key(|frame| frame.ticks);
        let length_s = frames.last().map_or(0.0, |last| last.time_s);
        frames.retain(|frame| within(span, frame.time_s));
        (frames, length_s)
    }
}

/// Whether a time lies in a span.
pub(super) fn within((start, end): Span, time_s: f64) -> bool {
    start.is_none_or(|start| time_s >= start) && end.is_none_or(|end| time_s < end)
}
