//! What comes out is compared with the `ffmpeg` program, which decodes every frame and scales with its own filter.

mod cuts;
mod hostile;
mod odd;

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::stage::decode::config::{Fit, ScaleFilter, ShortClip};

/// Runs the `ffmpeg` program; panics with its words where it fails.
fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "ffmpeg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A video made by FFmpeg from its test picture: 2 s at 25 frames a second, 192×108, with these settings.
fn make(folder: &Path, name: &str, settings: &str) -> PathBuf {
    let path = folder.join(name);
    let mut arguments = vec!["-f", "lavfi", "-i", "testsrc2=s=192x108:r=25:d=2"];
    arguments.extend(settings.split_whitespace());
    let text = path.to_str().unwrap().to_owned();
    arguments.push(&text);
    ffmpeg(&arguments);
    path
}

fn open(path: &Path) -> Result<Reader, VideoError> {
    Reader::open(Box::new(FileSource::open(path)?), &Caps::default())
}

fn target(width: u32, height: u32) -> Target {
    Target { width: Some(width), height: Some(height), fit: Fit::Stretch, filter: ScaleFilter::Area }
}

const NATIVE: Target = Target { width: None, height: None, fit: Fit::Stretch, filter: ScaleFilter::Area };

fn spread(frames: u32) -> Sampling {
    Sampling { frames: Some(frames), ..Sampling::ALL }
}

fn decode(path: &Path, span: Span, sampling: Sampling, target: Target) -> Result<(Plan, Pictures), VideoError> {
    let mut reader = open(path)?;
    let plan = reader.plan(span, &sampling)?;
    let pictures = reader.decode(&plan, &[target])?.remove(0);
    Ok((plan, pictures))
}

/// Every frame of a file as the `ffmpeg` program decodes and scales it.
fn reference(path: &Path, filter: &str) -> Vec<u8> {
    let filter = format!("{filter}format=rgb24");
    ffmpeg(&["-i", path.to_str().unwrap(), "-an", "-vsync", "passthrough", "-vf", &filter, "-f", "rawvideo", "-"])
}

fn largest_difference(ours: &[u8], theirs: &[u8]) -> u8 {
    assert_eq!(ours.len(), theirs.len(), "number of bytes");
    ours.iter().zip(theirs).map(|(one, other)| one.abs_diff(*other)).max().unwrap_or(0)
}

fn real(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/clips/real").join(name)
}

const REAL: [&str; 7] = [
    "athlete-cam01.mp4",
    "athlete-cam02.mp4",
    "athlete-cam03.mp4",
    "big-buck-bunny.mp4",
    "bikes.mp4",
    "carphone.mp4",
    "walkers.mp4",
];

/// The frames of `picks` out of all frames of a file.
fn picked(all: &[u8], frame: usize, picks: &[u32]) -> Vec<u8> {
    picks.iter().flat_map(|pick| &all[*pick as usize * frame..][..frame]).copied().collect()
}

/// Takes frames in several ways and compares each, bit for bit, with a decode of everything. Returns the share of
/// packets that a few frames took.
fn check_exact(path: &Path) -> f64 {
    let (side, mut share) = (48, 1.0);
    let all = reference(path, &format!("scale={side}:{side}:flags=area,"));
    let frame = side * side * 3;
    let target = target(side as u32, side as u32);
    for frames in [None, Some(8), Some(3), Some(2), Some(1)] {
        let (plan, pictures) =
            decode(path, (None, None), Sampling { frames, ..Sampling::ALL }, target.clone()).unwrap();
        assert_eq!(plan.info().frame_count, Some((all.len() / frame) as u64), "frames of {}", path.display());
        let expected = picked(&all, frame, &plan.picks);
        assert!(pictures.data == expected, "{} with {frames:?} frames", path.display());
        let (packets, fed) = plan.fed();
        share = if frames == Some(3) { fed as f64 / packets as f64 } else { share };
    }
    share
}

#[test]
fn skipping_changes_no_bit_of_real_clips() {
    for name in REAL {
        let share = check_exact(&real(name));
        assert!(name != "bikes.mp4" || share < 0.35, "{share} of the packets were fed");
    }
}

#[test]
fn skipping_changes_no_bit_of_any_codec() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("closed.mp4", "-c:v libx264 -g 12 -bf 3 -pix_fmt yuv420p"),
        ("open.mp4", "-c:v libx264 -g 12 -bf 3 -x264-params open-gop=1:b-pyramid=normal -pix_fmt yuv420p"),
        ("fields.mp4", "-c:v libx264 -g 12 -bf 2 -flags +ilme+ildct -pix_fmt yuv420p"),
        ("deep.mkv", "-c:v libx264 -g 15 -pix_fmt yuv420p10le"),
        ("hevc.mp4", "-c:v libx265 -x265-params keyint=12:bframes=4:log-level=none -pix_fmt yuv420p -tag:v hvc1"),
        (
            "hevc-layers.mp4",
            "-c:v libx265 -x265-params keyint=24:bframes=4:temporal-layers=1:log-level=none -tag:v hvc1",
        ),
        ("vp8.webm", "-c:v libvpx -g 12 -auto-alt-ref 1 -lag-in-frames 16 -b:v 300k"),
        ("vp9.webm", "-c:v libvpx-vp9 -g 12 -auto-alt-ref 1 -lag-in-frames 16 -b:v 300k"),
        ("av1.mp4", "-c:v libaom-av1 -cpu-used 8 -g 12 -b:v 200k"),
        ("mpeg4.avi", "-c:v mpeg4 -bf 2 -g 12 -q:v 4"),
        ("mpeg4.mp4", "-c:v mpeg4 -bf 2 -g 12 -q:v 4"),
        ("mpeg2.ts", "-c:v mpeg2video -bf 2 -g 12 -q:v 4"),
        ("mpeg2.mpg", "-c:v mpeg2video -bf 2 -g 12 -q:v 4"),
        ("h264.ts", "-c:v libx264 -g 12 -bf 3 -pix_fmt yuv420p"),
        ("h264.flv", "-c:v libx264 -g 12 -bf 3 -pix_fmt yuv420p"),
        ("h264.avi", "-c:v libx264 -g 12 -bf 2 -pix_fmt yuv420p"),
        ("theora.ogg", "-c:v libtheora -g 12 -q:v 6"),
        ("mjpeg.mov", "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p"),
        // Their containers mark every packet as a key.
        ("h263.avi", "-c:v h263 -s 176x144 -g 12"),
        ("h263.mov", "-c:v h263 -s 176x144 -g 12"),
        ("h261.mkv", "-c:v h261 -s 176x144 -g 12"),
        ("ffv1.avi", "-c:v ffv1 -g 12"),
        ("wmv2.avi", "-c:v wmv2 -g 12"),
        ("palette.avi", "-c:v rawvideo -s 64x48 -pix_fmt pal8"),
        ("fragmented.mp4", "-c:v libx264 -g 12 -bf 3 -pix_fmt yuv420p -movflags frag_keyframe+empty_moov"),
    ];
    for (name, settings) in cases {
        let share = check_exact(&make(folder.path(), name, settings));
        println!("{name}: {share:.2} of the packets were fed for 3 frames");
    }
}
