//! What a packet tells about itself without being decoded: whether decoding can start at it, and whether any other
//! picture refers to it.
//!
//! Wrong answers would give wrong pictures, so whatever is not certain counts as "no start" and "referred to".

use ffmpeg_next::ffi::AVCodecID;

/// What is known about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nature {
    /// Decoding can start here; everything that is shown after it comes out exact.
    pub(super) start: bool,
    /// Nothing refers to it: leaving it out changes no other picture.
    pub(super) disposable: bool,
    /// It gives no picture of its own.
    pub(super) hidden: bool,
    /// Temporal layer, where the codec has layers.
    pub(super) layer: u8,
}

/// Reads the headers of packets of one stream.
#[derive(Debug)]
pub(super) struct Headers {
    codec: AVCodecID,
    /// Bytes of a length before each unit; 0 where units stand behind start codes.
    length_size: usize,
    /// Every picture stands by itself.
    intra_only: bool,
}

impl Headers {
    /// For a codec with this extradata; in a palette's colours, only the first packet says which they are.
    pub(super) fn new(codec: AVCodecID, extradata: &[u8], palette: bool) -> Self {
        let framed = extradata.first() == Some(&1);
        let length_size = match codec {
            AVCodecID::AV_CODEC_ID_H264 if framed && extradata.len() > 4 => (extradata[4] & 3) as usize + 1,
            AVCodecID::AV_CODEC_ID_HEVC if framed && extradata.len() > 21 => (extradata[21] & 3) as usize + 1,
            _ => 0,
        };
        Self { codec, length_size, intra_only: !palette && super::codec::is_intra_only(codec) }
    }

    /// What a packet tells; `key` is the container's opinion.
    pub(super) fn nature(&self, packet: &[u8], key: bool) -> Nature {
        let plain = Nature { start: key, disposable: false, hidden: false, layer: 0 };
        let first = packet.first().copied().unwrap_or(0);
        match self.codec {
            AVCodecID::AV_CODEC_ID_H264 => self.h264(packet),
            AVCodecID::AV_CODEC_ID_HEVC => self.hevc(packet),
            // A frame of VP8 or VP9 hands probabilities and motion vectors on even where no picture refers to it, so
            // none may be left out.
            AVCodecID::AV_CODEC_ID_VP8 => Nature { start: key && first & 1 == 0, hidden: first & 0x10 == 0, ..plain },
            AVCodecID::AV_CODEC_ID_VP9 => Nature { start: key && vp9_key(first), ..plain },
            AVCodecID::AV_CODEC_ID_MPEG4 => {
                Nature { start: key && mpeg4_i(packet), disposable: mpeg4_b(packet), ..plain }
            }
            AVCodecID::AV_CODEC_ID_MPEG1VIDEO | AVCodecID::AV_CODEC_ID_MPEG2VIDEO => {
                Nature { start: key && mpeg2_i(packet), disposable: mpeg2_b(packet), ..plain }
            }
            // The first bit tells headers from pictures, the second one pictures that build on others.
            AVCodecID::AV_CODEC_ID_THEORA => Nature { start: key && first & 0xc0 == 0, ..plain },
            // Its containers take the mark from the bitstream.
            AVCodecID::AV_CODEC_ID_AV1 => plain,
            // Many a container marks every packet of others as a key.
            _ => Nature { start: self.intra_only, ..plain },
        }
    }

    fn units<'a>(&self, packet: &'a [u8]) -> Units<'a> {
        Units { rest: packet, length_size: self.length_size }
    }

    fn h264(&self, packet: &[u8]) -> Nature {
        let (mut slices, mut idr, mut referred) = (false, false, false);
        for unit in self.units(packet) {
            let Some(header) = unit.first() else { continue };
            match header & 31 {
                kind @ (1..=5) => {
                    slices = true;
                    idr |= kind == 5;
                    referred |= header >> 5 & 3 != 0;
                }
                // Slices of other layers and views.
                14 | 20 | 21 => referred = true,
                _ => {}
            }
        }
        Nature { start: idr, disposable: slices && !referred, hidden: false, layer: 0 }
    }

    fn hevc(&self, packet: &[u8]) -> Nature {
        let (mut slices, mut start, mut referred, mut layer) = (false, false, false, 0);
        for unit in self.units(packet) {
            let [first, second, ..] = unit else { continue };
            let kind = first >> 1 & 63;
            if kind < 32 {
                slices = true;
                start |= (16..=21).contains(&kind);
                // Of the first sixteen kinds the even ones are not referred to within their layer.
                referred |= kind >= 16 || kind & 1 == 1;
                layer = (second & 7).saturating_sub(1);
            }
        }
        Nature { start, disposable: slices && !referred, hidden: false, layer }
    }
}

/// An H.264 packet with start codes, without its messages (SEI).
pub(super) fn without_messages(packet: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(packet.len());
    for unit in start_codes(packet).filter(|unit| unit.first().is_some_and(|header| header & 31 != 6)) {
        // No unit ends in a zero; those are of the start code that follows.
        let end = unit.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        kept.extend_from_slice(&[0, 0, 0, 1]);
        kept.extend_from_slice(&unit[..end]);
    }
    if kept.is_empty() { packet.to_vec() } else { kept }
}

/// Whether a VP9 frame header begins a keyframe.
fn vp9_key(first: u8) -> bool {
    let reserved = usize::from(first >> 4 & 3 == 3);
    let bit = |at: usize| first >> (7 - at) & 1;
    first >> 6 == 2 && bit(4 + reserved) == 0 && bit(5 + reserved) == 0
}

/// Whether an MPEG-4 packet is one B-picture and nothing else.
fn mpeg4_b(packet: &[u8]) -> bool {
    let mut pictures = start_codes(packet).filter(|unit| unit.first() == Some(&0xb6));
    let first = pictures.next().and_then(|unit| unit.get(1)).map(|byte| byte >> 6);
    first == Some(2) && pictures.next().is_none()
}

/// Whether the first picture of an MPEG-4 packet stands by itself.
fn mpeg4_i(packet: &[u8]) -> bool {
    let first = start_codes(packet).find(|unit| unit.first() == Some(&0xb6));
    first.and_then(|unit| unit.get(1)).is_some_and(|byte| byte >> 6 == 0)
}

/// Whether the first picture of an MPEG-2 packet stands by itself.
fn mpeg2_i(packet: &[u8]) -> bool {
    let first = start_codes(packet).find(|unit| unit.first() == Some(&0));
    first.and_then(|unit| unit.get(2)).is_some_and(|byte| byte >> 3 & 7 == 1)
}

/// Whether an MPEG-2 packet is B-pictures only.
fn mpeg2_b(packet: &[u8]) -> bool {
    let mut kinds = start_codes(packet).filter(|unit| unit.first() == Some(&0)).map(|unit| unit.get(2)).peekable();
    kinds.peek().is_some() && kinds.all(|byte| byte.is_some_and(|byte| byte >> 3 & 7 == 3))
}

fn start_codes(packet: &[u8]) -> Units<'_> {
    Units { rest: packet, length_size: 0 }
}

/// The units of a packet, each without its length or start code.
struct Units<'a> {
    rest: &'a [u8],
    length_size: usize,
}

impl<'a> Iterator for Units<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.length_size > 0 {
            let (length, rest) = self.rest.split_at_checked(self.length_size)?;
            let length = length.iter().fold(0, |number: usize, byte| number << 8 | usize::from(*byte));
            let unit = &rest[..length.min(rest.len())];
            self.rest = &rest[unit.len()..];
            return Some(unit);
        }
        let begin = find_start(self.rest)? + 3;
        let rest = &self.rest[begin..];
        let end = find_start(rest).unwrap_or(rest.len());
        self.rest = &rest[end..];
        Some(&rest[..end])
    }
}

fn find_start(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|window| window == [0, 0, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h264(units: &[&[u8]]) -> Nature {
        let headers = Headers::new(AVCodecID::AV_CODEC_ID_H264, &[1, 66, 0, 30, 0xff, 0xe1], false);
        let packet: Vec<u8> =
            units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes(), *unit].concat()).collect();
        headers.nature(&packet, true)
    }

    #[test]
    fn h264_starts_at_idr_only_whatever_the_container_says() {
        assert!(h264(&[&[0x06, 5], &[0x65, 0]]).start);
        assert!(!h264(&[&[0x41, 0]]).start);
    }

    #[test]
    fn h264_is_disposable_when_no_slice_is_referred_to() {
        assert!(h264(&[&[0x06, 5], &[0x01, 0], &[0x01, 1]]).disposable);
        assert!(!h264(&[&[0x01, 0], &[0x41, 1]]).disposable);
        assert!(!h264(&[&[0x06, 5]]).disposable);
        assert!(!h264(&[]).disposable);
    }

    #[test]
    fn hevc_kinds() {
        let headers = Headers::new(AVCodecID::AV_CODEC_ID_HEVC, &[], false);
        let nature = |kind: u8| headers.nature(&[0, 0, 0, 1, kind << 1, 2, 9], false);
        assert!(nature(0).disposable && nature(8).disposable);
        assert!(!nature(1).disposable && !nature(19).disposable);
        assert!(nature(19).start && nature(21).start && !nature(1).start);
        assert_eq!(nature(0).layer, 1);
    }

    #[test]
    fn only_codecs_without_other_pictures_are_trusted_without_a_look() {
        let start = |codec: AVCodecID, palette: bool| Headers::new(codec, &[], palette).nature(&[0; 8], true).start;
        assert!(start(AVCodecID::AV_CODEC_ID_MJPEG, false) && start(AVCodecID::AV_CODEC_ID_RAWVIDEO, false));
        assert!(!start(AVCodecID::AV_CODEC_ID_RAWVIDEO, true));
        assert!(!start(AVCodecID::AV_CODEC_ID_H263, false) && !start(AVCodecID::AV_CODEC_ID_WMV2, false));
    }

    #[test]
    fn mpeg_pictures() {
        assert!(mpeg4_b(&[0, 0, 1, 0xb6, 0x80]));
        assert!(!mpeg4_b(&[0, 0, 1, 0xb6, 0x40, 0, 0, 1, 0xb6, 0x80]));
        assert!(mpeg4_i(&[0, 0, 1, 0xb6, 0x10]) && !mpeg4_i(&[0, 0, 1, 0xb6, 0x40]) && !mpeg4_i(&[]));
        assert!(mpeg2_i(&[0, 0, 1, 0, 0, 1 << 3]) && !mpeg2_i(&[0, 0, 1, 0, 0, 2 << 3]));
        assert!(mpeg2_b(&[0, 0, 1, 0, 0, 3 << 3]));
        assert!(!mpeg2_b(&[0, 0, 1, 0, 0, 1 << 3]));
    }
}
