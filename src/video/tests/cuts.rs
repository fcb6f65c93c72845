//! Spans cut out of videos: they play, hold the right frames, and are the same every time.

use super::*;
use crate::stage::shards::config::Cut;

fn cut_out(path: &Path, span: Span, how: Cut) -> Vec<u8> {
    cut(Box::new(FileSource::open(path).unwrap()), span, how, usize::MAX >> 1, &Caps::default()).unwrap()
}

/// All frames of a cut-out, and its plan.
fn frames_of(bytes: &[u8], target: Target) -> (Plan, Vec<u8>) {
    let mut reader = Reader::open(Box::new(BytesSource::new(bytes.to_vec())), &Caps::default()).unwrap();
    let plan = reader.plan((None, None), &Sampling::ALL).unwrap();
    let data = reader.decode(&plan, &[target]).unwrap().remove(0).data;
    (plan, data)
}

/// Mean difference of the brightness; colour that is subsampled in the one and not in the other differs at edges.
fn mean_difference(ours: &[u8], theirs: &[u8]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let brightness =
        |pixel: &[u8]| 0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2]);
    let pairs = ours.chunks(3).zip(theirs.chunks(3));
    let sum: f64 = pairs.map(|(one, other)| (brightness(one) - brightness(other)).abs()).sum();
    sum / (ours.len() / 3) as f64
}

/// What `ffprobe` says about a field of the video stream.
fn probe(bytes: &[u8], fields: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.mp4");
    std::fs::write(&path, bytes).unwrap();
    let arguments = ["-v", "error", "-show_entries", fields, "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(arguments).arg(&path).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn encoding_keeps_exactly_the_frames() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("plain.mp4", "-c:v libx264 -g 25 -bf 3 -pix_fmt yuv420p"),
        ("odd.mp4", "-vf scale=189:107 -c:v libx264 -pix_fmt yuv444p"),
        ("odd.webm", "-vf scale=189:107 -c:v libvpx -b:v 1M"),
        ("deep.mkv", "-c:v libx264 -pix_fmt yuv422p10le"),
        ("full.mp4", "-c:v libx264 -pix_fmt yuvj420p"),
        ("rgb.avi", "-c:v rawvideo -pix_fmt bgr24"),
        ("mpeg2.ts", "-c:v mpeg2video -bf 2 -q:v 3"),
    ];
    for (name, settings) in cases {
        let path = make(folder.path(), name, settings);
        let span = (Some(0.5), Some(1.3));
        let bytes = cut_out(&path, span, Cut::Encode);
        assert!(bytes == cut_out(&path, span, Cut::Encode), "{name} differs the second time");
        let (expected, pictures) = decode(&path, span, Sampling::ALL, target(48, 27)).unwrap();
        let (plan, data) = frames_of(&bytes, target(48, 27));
        assert_eq!(plan.frames(), 20, "{name}");
        assert_eq!(plan.info().duration_s.map(|s| (s * 1000.0).round()), Some(800.0), "{name}");
        assert_eq!(plan.info().width, expected.info().width, "{name}");
        let difference = mean_difference(&data, &pictures.data);
        assert!(difference < 2.0, "{name}: {difference}");
        assert_eq!(probe(&bytes, "stream=codec_name"), "h264");
        assert!(!bytes.windows(4).any(|window| window == b"x264" || window == b"Lavf"), "{name} names a version");
    }
}

#[test]
fn copying_begins_at_the_keyframe() {
    let folder = tempfile::tempdir().unwrap();
    for (name, settings) in [
        ("plain.mp4", "-c:v libx264 -g 10 -bf 3 -pix_fmt yuv420p"),
        ("plain.mkv", "-c:v libx264 -g 10 -bf 3 -pix_fmt yuv420p"),
        ("plain.ts", "-c:v libx264 -g 10 -bf 3 -pix_fmt yuv420p"),
        ("vp9.webm", "-c:v libvpx-vp9 -g 10 -b:v 300k -cpu-used 8"),
        ("hevc.mp4", "-c:v libx265 -x265-params keyint=10:bframes=3:log-level=none"),
    ] {
        let path = make(folder.path(), name, settings);
        let bytes = cut_out(&path, (Some(0.9), Some(1.4)), Cut::Copy);
        assert!(bytes == cut_out(&path, (Some(0.9), Some(1.4)), Cut::Copy), "{name} differs the second time");
        let all = reference(&path, "scale=16:16:flags=area,");
        let (plan, data) = frames_of(&bytes, target(16, 16));
        let first = (0..=22).rev().find(|at| all[at * 768..][..768] == data[..768]);
        assert!(first.is_some_and(|first| first.is_multiple_of(10)), "{name} begins at {first:?}");
        let first = first.unwrap();
        assert!(plan.frames() >= 35 - first, "{name} has {} frames", plan.frames());
        assert!(all[first * 768..][..(35 - first) * 768] == data[..(35 - first) * 768], "{name}");
        assert_eq!(probe(&bytes, "stream=avg_frame_rate"), "25/1", "{name}");
    }
}

#[test]
fn what_mp4_cannot_hold_is_encoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "vp8.webm", "-c:v libvpx -b:v 300k");
    let bytes = cut_out(&path, (Some(0.4), Some(0.8)), Cut::Copy);
    assert_eq!(frames_of(&bytes, target(16, 16)).0.frames(), 10);
}

#[test]
fn tags_times_and_rotation_stay() {
    let folder = tempfile::tempdir().unwrap();
    let tags = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv";
    let times = "-vf settb=1/1000,setpts=N*N,setsar=4/3 -vsync passthrough -enc_time_base 1:1000";
    let upright = make(folder.path(), "upright.mp4", &format!("{times} -c:v libx264 -pix_fmt yuv420p {tags}"));
    let path = folder.path().join("turned.mp4");
    let arguments = ["-i", upright.to_str().unwrap(), "-c", "copy", "-metadata:s:v:0", "rotate=90"];
    ffmpeg(&[&arguments[..], &[path.to_str().unwrap()]].concat());
    for how in [Cut::Encode, Cut::Copy] {
        let bytes = cut_out(&path, (None, Some(1.0)), how);
        let said = probe(&bytes, "stream=color_range,color_space,sample_aspect_ratio:stream_side_data=rotation");
        for part in ["tv", "bt709", "4:3", "90"] {
            assert!(said.contains(part), "{how:?}: {said}");
        }
        let (plan, _) = frames_of(&bytes, target(16, 16));
        assert_eq!((plan.info().width, plan.info().height), (108, 192));
        let milliseconds: Vec<i64> = plan.frames.iter().map(|frame| (frame.time_s * 1000.0).round() as i64).collect();
        assert_eq!(milliseconds[..6], [0, 1, 4, 9, 16, 25], "{how:?}");
        if how == Cut::Encode {
            assert_eq!(milliseconds.len(), 32);
        }
    }
}

#[test]
fn a_cut_that_grows_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "sample.mp4", "-c:v libx264 -pix_fmt yuv420p");
    for how in [Cut::Encode, Cut::Copy] {
        let source = Box::new(FileSource::open(&path).unwrap());
        let error = cut(source, (None, None), how, 1000, &Caps::default()).unwrap_err();
        assert!(matches!(error, VideoError::TooLarge { max: 1000 }), "{error}");
    }
}
