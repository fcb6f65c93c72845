//! Spans of a video, cut out as mp4. Pictures only: sound is left out.

use std::collections::HashMap;

use super::mux::{Encoder, Muxer, Settings};
use super::packet::Packet;
use super::plan::{PacketInfo, Plan, feeds};
use super::reader::{Reader, Span};
use super::sampling::Sampling;
use super::{Caps, MediaSource, VideoError};
use crate::stage::shards::config::Cut;

/// The span as an mp4 of at most `max_bytes`, the same bytes for the same input.
///
/// Times, rotation, the shape of pixels and colour tags stay as they are; sound is left out. [`Cut::Encode`] has exactly
/// the frames of the span. [`Cut::Copy`] begins at the keyframe at or before it; where a codec has no place in an mp4 or
/// the file gives no usable times, it encodes as well.
pub fn cut(
    source: Box<dyn MediaSource>,
    span: Span,
    how: Cut,
    max_bytes: usize,
    caps: &Caps,
) -> Result<Vec<u8>, VideoError> {
    cut_from(&mut Reader::open(source, caps)?, span, how, max_bytes)
}

/// See [`cut`].
pub(super) fn cut_from(reader: &mut Reader, span: Span, how: Cut, max_bytes: usize) -> Result<Vec<u8>, VideoError> {
    let plan = reader.plan(span, &Sampling::ALL)?;
    if how == Cut::Copy
        && let Some(bytes) = copy(reader, &plan, max_bytes)?
    {
        return Ok(bytes);
    }
    encode(reader, &plan, max_bytes)
}

/// Copies packets; none where that cannot be.
fn copy(reader: &mut Reader, plan: &Plan, max_bytes: usize) -> Result<Option<Vec<u8>>, VideoError> {
    if !plan.exact {
        return Ok(None);
    }
    let _call = reader.watch.begin();
    let wanted = plan.wanted_packets();
    let feeds = feeds(&plan.packets, &wanted);
    let (Some(from), Some(to)) = (feeds.first().map(|feed| feed.from), feeds.last().map(|feed| feed.to)) else {
        return Ok(None);
    };
    // A frame after the span that others build on is shown as well, so what comes between it and them belongs here.
    let latest = plan.packets[from..=to].iter().map(|packet| packet.pts).max().unwrap_or(0);
    let between = plan.packets[to + 1..].iter().take_while(|packet| packet.pts < latest).count();
    let range = from..to + 1 + between;
    let packets = &plan.packets[range.clone()];
    let first = packets[0].pts;
    if packets.iter().any(|packet| packet.hidden) {
        return Ok(None);
    }
    reader.complete()?;
    let Some(mut muxer) = Muxer::copy(&reader.demuxer, &reader.facts, max_bytes)? else { return Ok(None) };
    // Pictures that are shown before the keyframe build on what is left out.
    let kept: Vec<&PacketInfo> = packets.iter().filter(|packet| packet.pts >= first).collect();
    let (times, shift) = decoding_times(&kept);
    let durations = durations(times.iter().copied(), kept.iter().map(|packet| i64::from(packet.duration)).max());
    let mut packet = Packet::new()?;
    let mut times = times.into_iter();
    for at in range.filter(|at| plan.packets[*at].pts >= first) {
        if !reader.fetch(plan, at, &mut packet)? {
            return Err(VideoError::Damaged("its packets differ when they are read again".to_owned()));
        }
        let pts = plan.packets[at].pts;
        let dts = times.next().unwrap_or(pts);
        let duration = durations.get(&pts).copied().unwrap_or(0);
        muxer.write(&mut packet, pts - first, dts - first - shift, duration)?;
    }
    muxer.finish().map(Some)
}

/// Times of decoding for packets in their order: those of showing, sorted, and how much earlier they have to be so that
/// none is decoded after it is shown. Not every container stores them.
fn decoding_times(packets: &[&PacketInfo]) -> (Vec<i64>, i64) {
    let mut times: Vec<i64> = packets.iter().map(|packet| packet.pts).collect();
    times.sort_unstable();
    let shift = times.iter().zip(packets).map(|(time, packet)| time - packet.pts).max().unwrap_or(0);
    (times, shift.max(0))
}

/// How long every frame is shown, by its time: until the next one, the last as long as `last` or the one before.
fn durations(times: impl Iterator<Item = i64>, last: Option<i64>) -> HashMap<i64, i64> {
    let times: Vec<i64> = times.collect();
    let mut durations: HashMap<i64, i64> = times.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).collect();
    if let [.., before, end] = times.as_slice() {
        durations.insert(*end, last.filter(|last| *last > 0).unwrap_or(end - before));
    } else if let ([only], Some(last)) = (times.as_slice(), last) {
        durations.insert(*only, last);
    }
    durations
}

fn encode(reader: &mut Reader, plan: &Plan, max_bytes: usize) -> Result<Vec<u8>, VideoError> {
    let facts = reader.facts.clone();
    let (numerator, denominator) = facts.time_base;
    let start = plan.frames.first().map_or(0.0, |frame| frame.time_s);
    let ticks = |time_s: f64| ((time_s - start) * denominator as f64 / numerator as f64).round() as i64;
    let times: Vec<i64> = plan.frames.iter().map(|frame| ticks(frame.time_s)).collect();
    let last = plan.packets.last().map(|packet| i64::from(packet.duration));
    let durations = durations(times.iter().copied(), last);
    // A loss that cannot be seen.
    let settings = Settings { crf: 16, preset: c"veryfast", format: None, max_bytes };
    let mut encoder = None;
    reader.frames(plan, &mut |slots, frame| {
        let pts = times[slots.start];
        // A first try that went wrong begins again.
        if slots.start == 0 || encoder.is_none() {
            encoder = Some(Encoder::open(frame, &(&facts).into(), &settings)?);
        }
        let duration = durations.get(&pts).copied().unwrap_or(0);
        encoder.as_mut().map_or(Ok(()), |encoder| encoder.write(frame, pts, duration))
    })?;
    let encoder = encoder.ok_or_else(|| VideoError::Damaged("none of its frames can be decoded".to_owned()))?;
    encoder.finish()
}
