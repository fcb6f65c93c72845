//! What is to be decoded: the frames of a clip with their times, found without decoding, and the packets that have to
//! be fed for those that are wanted.

use std::ops::Range;

use ffmpeg_next::ffi::{AV_NOPTS_VALUE, AVCodecID};

use super::demux::StreamFacts;
use super::picture::{Shape, Target};
use super::{MediaInfo, Span, VideoError};

/// One packet of the video, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketInfo {
    pub(super) pts: i64,
    pub(super) dts: i64,
    pub(super) position: i64,
    pub(super) size: i32,
    /// Length in ticks, 0 where the container does not say.
    pub(super) duration: i32,
    /// See [`super::bitstream::Nature`].
    pub(super) start: bool,
    pub(super) disposable: bool,
    /// Gives no frame: by its nature, by an edit list, or because what it builds on is not there.
    pub(super) hidden: bool,
    pub(super) layer: u8,
}

impl PacketInfo {
    /// What tells it from all others when it is read again. Times of decoding are left out: some demuxers guess them.
    pub(super) fn identity(&self) -> (i64, i64, i32) {
        (self.pts, self.position, self.size)
    }
}

/// One frame of the clip, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FrameInfo {
    /// Time in ticks.
    pub(super) ticks: i64,
    /// Seconds from the first frame of the file.
    pub(super) time_s: f64,
    /// Number of its packet; where the plan is not exact, its number among all frames that a full decode gives.
    pub(super) packet: u32,
}

/// Which frames of a clip are wanted, and what that takes.
#[derive(Debug)]
pub struct Plan {
    pub(super) packets: Vec<PacketInfo>,
    pub(super) frames: Vec<FrameInfo>,
    /// Whether every frame is known to be one packet with a time of its own; else frames are counted in decoded order.
    pub(super) exact: bool,
    /// The wanted frames, ascending, numbers into `frames`; some may stand there several times.
    pub(super) picks: Vec<u32>,
    pub(super) info: MediaInfo,
    pub(super) span: Span,
    pub(super) shape: Shape,
    pub(super) reorder: usize,
    pub(super) workspace: usize,
}

impl Plan {
    /// What is known about the clip: the span, not the file.
    pub fn info(&self) -> &MediaInfo {
        &self.info
    }

    /// Number of wanted frames.
    pub fn frames(&self) -> usize {
        self.picks.len()
    }

    /// Frames, height, width of what a target gets.
    pub fn output_shape(&self, target: &Target) -> [usize; 3] {
        let (width, height) = self.shape.size(target);
        [self.picks.len(), height as usize, width as usize]
    }

    /// Bytes of all that the targets get.
    pub fn output_bytes(&self, targets: &[Target]) -> usize {
        let bytes = |target| self.output_shape(target).iter().fold(3, |bytes: usize, side| bytes.saturating_mul(*side));
        targets.iter().map(bytes).fold(0, usize::saturating_add)
    }

    /// Bytes that decoding takes besides, estimated: the frames that the decoder keeps to refer to, and itself.
    pub fn workspace_bytes(&self) -> usize {
        self.workspace
    }

    /// Packets of the clip, and those that are fed to the decoder for what is wanted.
    pub fn fed(&self) -> (usize, usize) {
        if !self.exact {
            return (self.packets.len(), self.packets.len());
        }
        let wanted = self.wanted_packets();
        let fed = feeds(&self.packets, &wanted)
            .into_iter()
            .map(|feed| (feed.from..=feed.to).filter(|at| !self.packets[*at].disposable || wanted[*at]).count());
        (self.packets.len(), fed.sum())
    }

    /// For every packet of an exact plan, whether its frame is wanted.
    pub(super) fn wanted_packets(&self) -> Vec<bool> {
        let mut wanted = vec![false; self.packets.len()];
        for pick in &self.picks {
            wanted[self.frames[*pick as usize].packet as usize] = true;
        }
        wanted
    }

    /// The wanted ones of the clip's frames, each with the slots of the output that it fills.
    pub(super) fn slots(&self, frames: &[FrameInfo]) -> impl Iterator<Item = (FrameInfo, Range<usize>)> {
        let mut slot = 0;
        self.picks.chunk_by(PartialEq::eq).map(move |same| {
            let slots = slot..slot + same.len();
            slot = slots.end;
            (frames[same[0] as usize], slots)
        })
    }
}

/// Packets that are fed one after the other; decoding starts afresh at the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Feed {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The least packets to feed so that every wanted one comes out as it would from a full decode: each from the last
/// packet at which decoding can start and which is shown no later.
pub(super) fn feeds(packets: &[PacketInfo], wanted: &[bool]) -> Vec<Feed> {
    let starts: Vec<usize> = (0..packets.len()).filter(|at| packets[*at].start).collect();
    let mut feeds: Vec<Feed> = Vec::new();
    for to in (0..packets.len()).filter(|at| wanted[*at]) {
        let before = &starts[..starts.partition_point(|start| *start <= to)];
        let mut from = before.iter().rev().find(|at| packets[**at].pts <= packets[to].pts).copied().unwrap_or(0);
        // What touches the feed before goes on without a break.
        while let Some(feed) = feeds.pop_if(|feed| from <= feed.to + 1) {
            from = from.min(feed.from);
        }
        feeds.push(Feed { from, to });
    }
    feeds
}

/// Whether every shown packet is one frame with a time of its own, and decodable from what is there.
pub(super) fn is_exact(packets: &[PacketInfo], from_start: bool) -> bool {
    let Some(first) = packets.first().filter(|first| first.start && !first.hidden) else { return false };
    let mut times: Vec<i64> = packets.iter().filter(|packet| !packet.hidden).map(|packet| packet.pts).collect();
    times.sort_unstable();
    // Whether a picture shown before the first keyframe can be decoded is for the decoder to say.
    let leading = from_start && times[0] < first.pts;
    times[0] != AV_NOPTS_VALUE && !leading && times.windows(2).all(|pair| pair[0] != pair[1])
}

/// Layers that others build on are referred to, whatever their packets say.
pub(super) fn keep_lower_layers(packets: &mut [PacketInfo]) {
    let top = packets.iter().map(|packet| packet.layer).max().unwrap_or(0);
    for packet in packets.iter_mut().filter(|packet| packet.layer < top) {
        packet.disposable = false;
    }
}

/// Most frames that come, in decoding order, before one that is shown earlier.
pub(super) fn reorder_depth(packets: &[PacketInfo]) -> usize {
    // No codec reorders further than 16 frames.
    const FARTHEST: usize = 32;
    (0..packets.len())
        .map(|at| {
            let before = &packets[at.saturating_sub(FARTHEST)..at];
            before.iter().filter(|packet| packet.pts > packets[at].pts).count()
        })
        .max()
        .unwrap_or(0)
}

/// Bytes that a decoder takes: as many frames as it may keep, and itself.
pub(super) fn workspace(facts: &StreamFacts, reorder: usize) -> usize {
    const DECODER: f64 = (6 << 20) as f64;
    // Codecs of which more than 8 bits a sample are known by the profile before anything is decoded.
    let deep = match facts.codec {
        AVCodecID::AV_CODEC_ID_H264 => facts.profile >= 110,
        AVCodecID::AV_CODEC_ID_HEVC | AVCodecID::AV_CODEC_ID_VP9 => facts.profile >= 2,
        _ => false,
    };
    let (width, height) = (f64::from(facts.width) + 64.0, f64::from(facts.height) + 64.0);
    let frame = width * height * facts.bytes_per_pixel.max(if deep { 3.0 } else { 1.5 });
    let kept = match facts.codec {
        AVCodecID::AV_CODEC_ID_H264 => h264_kept(facts) + reorder + 3,
        AVCodecID::AV_CODEC_ID_HEVC => 6 + reorder + 4,
        AVCodecID::AV_CODEC_ID_VP9 | AVCodecID::AV_CODEC_ID_AV1 => 8 + 3,
        _ => 5,
    };
    (DECODER + frame * kept as f64) as usize
}

/// Frames that an H.264 decoder has to keep at this level (table A-1 of the standard).
fn h264_kept(facts: &StreamFacts) -> usize {
    let most = match facts.level {
        1..=11 => 900,
        12 | 13 | 20 => 2376,
        21 => 4752,
        22 | 30 => 8100,
        31 => 18_000,
        32 => 20_480,
        40 | 41 => 32_768,
        42 => 34_816,
        50 => 110_400,
        _ => 184_320,
    };
    let blocks = facts.width.div_ceil(16) as usize * facts.height.div_ceil(16) as usize;
    (most / blocks.max(1)).clamp(1, 16)
}

/// Refuses a plan without frames.
pub(super) fn no_frames(span: (Option<f64>, Option<f64>), length_s: f64) -> VideoError {
    let start = span.0.unwrap_or(0.0);
    VideoError::NoFrames {
        from: format!("{start} s"),
        to: span.1.map_or_else(|| "the end".to_owned(), |end| format!("{end} s"))
            + &format!(" of this video of {length_s:.3} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets from pairs of time and kind: `K` a start, `P` referred to, `b` not.
    fn packets(list: &[(i64, char)]) -> Vec<PacketInfo> {
        let info = |(pts, kind): &(i64, char)| PacketInfo {
            pts: *pts,
            dts: 0,
            position: *pts,
            size: 1,
            duration: 1,
            start: *kind == 'K',
            disposable: *kind == 'b',
            hidden: false,
            layer: 0,
        };
        list.iter().map(info).collect()
    }

    fn feed(list: &[(i64, char)], wanted: &[i64]) -> Vec<(usize, usize)> {
        let packets = packets(list);
        let wanted: Vec<bool> = packets.iter().map(|packet| wanted.contains(&packet.pts)).collect();
        feeds(&packets, &wanted).iter().map(|feed| (feed.from, feed.to)).collect()
    }

    #[test]
    fn groups_without_wanted_frames_are_left_out() {
        let list = [(0, 'K'), (1, 'P'), (2, 'K'), (3, 'P'), (4, 'K'), (5, 'P')];
        assert_eq!(feed(&list, &[0, 5]), [(0, 0), (4, 5)]);
        assert_eq!(feed(&list, &[1, 2]), [(0, 2)]);
        assert_eq!(feed(&list, &[0, 2]), [(0, 0), (2, 2)]);
        assert_eq!(feed(&list, &[3]), [(2, 3)]);
    }

    #[test]
    fn leading_pictures_need_the_group_before() {
        let list = [(0, 'K'), (1, 'P'), (4, 'K'), (2, 'b'), (3, 'b'), (5, 'P')];
        assert_eq!(feed(&list, &[3]), [(0, 4)]);
        assert_eq!(feed(&list, &[5]), [(2, 5)]);
        assert_eq!(feed(&list, &[4, 3]), [(0, 4)]);
    }

    #[test]
    fn depth_of_reordering() {
        assert_eq!(reorder_depth(&packets(&[(0, 'K'), (1, 'P'), (2, 'P')])), 0);
        assert_eq!(reorder_depth(&packets(&[(0, 'K'), (4, 'P'), (2, 'P'), (1, 'b'), (3, 'b')])), 2);
    }
}
