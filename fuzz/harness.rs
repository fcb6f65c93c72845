//! What is fuzzed: bytes of a video in; whatever comes out, no crash, no hang, and what was promised holds.
//!
//! The fuzz targets and a test of the integration tests share it.

use std::time::Duration;

use simdrop::stage::decode::config::{Fit, ScaleFilter, ShortClip};
use simdrop::stage::shards::config::Cut;
use simdrop::video::{self, BytesSource, Caps, MediaSource, Reader, Sampling, Target};

/// Small enough that an input takes milliseconds.
fn caps() -> Caps {
    Caps { max_pixels: 512 * 512, max_duration_s: 60.0, timeout: Duration::from_secs(5), ..Caps::default() }
}

fn source(bytes: &[u8]) -> Box<dyn MediaSource> {
    Box::new(BytesSource::new(bytes.to_vec()))
}

/// What the split stage does: opens a video and asks for its length.
pub(crate) fn probe(bytes: &[u8]) {
    let Ok(mut reader) = Reader::open(source(bytes), &caps()) else { return };
    let info = reader.info();
    assert!(info.width > 0 && info.height > 0, "{info:?}");
    assert!(u64::from(info.width) * u64::from(info.height) <= caps().max_pixels, "{info:?}");
    if let Ok(duration) = reader.duration_s() {
        assert!(duration.is_finite() && duration >= 0.0, "{duration}");
    }
}

/// What the decode stage and the shards do: chooses frames, decodes them in two sizes, and cuts a span out.
pub(crate) fn decode(bytes: &[u8]) {
    // The content decides, so that one input always does the same.
    let choice = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let span = [(None, None), (Some(0.1), None), (None, Some(0.2)), (Some(0.1), Some(0.3))][usize::from(choice & 3)];
    let sampling = Sampling {
        frames: (choice & 4 == 0).then_some(8),
        fps: (choice & 8 == 0).then_some(7.5),
        short: ShortClip::Repeat,
    };
    let target = |width, fit| Target { width: Some(width), height: Some(24), fit, filter: ScaleFilter::Area };
    let targets = [target(32, Fit::Fill), target(17, Fit::Fit)];
    let Ok(mut reader) = Reader::open(source(bytes), &caps()) else { return };
    if let Ok(plan) = reader.plan(span, &sampling) {
        assert!(plan.frames() > 0, "a plan without frames");
        if plan.output_bytes(&targets) > 64 << 20 {
            return;
        }
        if let Ok(pictures) = reader.decode(&plan, &targets) {
            for (pictures, target) in pictures.iter().zip(&targets) {
                assert_eq!(pictures.shape, plan.output_shape(target));
                assert_eq!(pictures.data.len(), pictures.shape.iter().product::<usize>() * 3);
            }
        }
    }
    let how = if choice & 16 == 0 { Cut::Copy } else { Cut::Encode };
    if let Ok(bytes) = video::cut(source(bytes), span, how, 4 << 20, &caps()) {
        assert!(bytes.len() <= 4 << 20);
    }
}
