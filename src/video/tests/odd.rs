//! Videos that are right and unusual, compared with what the `ffmpeg` program makes of them.

use super::*;
use crate::stage::decode::config::HwAccel;

/// Largest difference from the `ffmpeg` program with this filter, over all frames.
fn difference(path: &Path, ours: Target, theirs: &str) -> u8 {
    let (_, pictures) = decode(path, (None, None), Sampling::ALL, ours).unwrap();
    largest_difference(&pictures.data, &reference(path, theirs))
}

#[test]
fn colours_depths_and_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("full.mp4", "-vf scale=out_range=full -color_range pc -c:v libx264 -pix_fmt yuv420p"),
        ("jpeg.mp4", "-c:v libx264 -pix_fmt yuvj420p"),
        ("bt709.mp4", "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -c:v libx264 -pix_fmt yuv420p"),
        ("bt2020.mkv", "-colorspace bt2020nc -c:v libx264 -pix_fmt yuv420p10le"),
        ("444.mp4", "-c:v libx264 -pix_fmt yuv444p"),
        ("422deep.mp4", "-c:v libx264 -pix_fmt yuv422p10le"),
        ("grey.mp4", "-c:v libx264 -pix_fmt gray"),
        ("alpha.webm", "-c:v libvpx-vp9 -pix_fmt yuva420p -b:v 200k"),
        ("odd.mp4", "-vf scale=189:107 -c:v libx264 -pix_fmt yuv444p"),
        ("odd.webm", "-vf scale=189:107 -c:v libvpx -b:v 200k"),
        ("rgb.avi", "-c:v rawvideo -pix_fmt bgr24"),
        ("palette.mov", "-c:v qtrle -pix_fmt rgb24"),
    ];
    for (name, settings) in cases {
        let path = make(folder.path(), name, settings);
        for (filter, flags) in [(ScaleFilter::Area, "area"), (ScaleFilter::Bicubic, "bicubic")] {
            let ours = Target { filter, ..target(50, 31) };
            let largest = difference(&path, ours, &format!("scale=50:31:flags={flags},"));
            assert_eq!(largest, 0, "{name} {flags}");
        }
        let largest = difference(&path, NATIVE, "scale=iw:ih:flags=area,");
        assert_eq!(largest, 0, "{name} at its own size");
    }
}

#[test]
fn every_filter_and_ragged_widths() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "sample.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let filters = [
        (ScaleFilter::Area, "area"),
        (ScaleFilter::Bilinear, "bilinear"),
        (ScaleFilter::Bicubic, "bicubic"),
        (ScaleFilter::Lanczos, "lanczos"),
        (ScaleFilter::Point, "neighbor"),
    ];
    for (filter, flags) in filters {
        for (width, height) in [(1, 1), (7, 5), (31, 33), (193, 109), (255, 257)] {
            let largest = difference(
                &path,
                Target { filter, ..target(width, height) },
                &format!("scale={width}:{height}:flags={flags},"),
            );
            assert_eq!(largest, 0, "{flags} {width}x{height}");
        }
    }
}

#[test]
fn rotation_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let upright = make(folder.path(), "upright.mp4", "-c:v libx264 -pix_fmt yuv420p");
    for degrees in ["90", "180", "270"] {
        let path = folder.path().join(format!("{degrees}.mp4"));
        let rotate = format!("rotate={degrees}");
        let arguments = ["-i", upright.to_str().unwrap(), "-c", "copy", "-metadata:s:v:0", &rotate];
        ffmpeg(&[&arguments[..], &[path.to_str().unwrap()]].concat());
        let mut reader = open(&path).unwrap();
        let size = (reader.info().width, reader.info().height);
        assert_eq!(size, if degrees == "180" { (192, 108) } else { (108, 192) });
        let plan = reader.plan((None, None), &spread(2)).unwrap();
        assert_eq!(plan.output_shape(&NATIVE), [2, size.1 as usize, size.0 as usize]);
        assert_eq!(difference(&path, target(27, 48), "scale=27:48:flags=area,"), 0, "{degrees}");
        assert_eq!(difference(&path, NATIVE, "scale=iw:ih:flags=area,"), 0, "{degrees}");
    }
}

#[test]
fn fit_and_fill() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "sample.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let fit = Target { fit: Fit::Fit, ..target(64, 64) };
    assert_eq!(difference(&path, fit, "scale=64:36:flags=area,pad=64:64:0:14:black,"), 0);
    let tall = Target { fit: Fit::Fit, ..target(61, 27) };
    assert_eq!(difference(&path, tall, "scale=48:27:flags=area,format=rgb24,pad=61:27:6:0:black,"), 0);
    let fill = Target { fit: Fit::Fill, ..target(32, 32) };
    assert_eq!(difference(&path, fill, "crop=108:108:42:0,scale=32:32:flags=area,"), 0);
}

#[test]
fn pixels_that_are_not_square() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "wide.mp4", "-vf setsar=2 -c:v libx264 -pix_fmt yuv420p");
    let (plan, _) = decode(&path, (None, None), spread(1), NATIVE).unwrap();
    assert_eq!(plan.output_shape(&Target { height: Some(54), ..NATIVE }), [1, 54, 192]);
    assert_eq!(plan.output_shape(&NATIVE), [1, 108, 192]);
    let fit = Target { fit: Fit::Fit, ..target(64, 64) };
    assert_eq!(difference(&path, fit, "scale=64:18:flags=area,format=rgb24,pad=64:64:0:23:black,"), 0);
}

#[test]
fn uneven_times() {
    let folder = tempfile::tempdir().unwrap();
    // Frame n at n²/1000 s.
    let path = make(
        folder.path(),
        "vfr.mp4",
        "-vf settb=1/1000,setpts=N*N -vsync passthrough -enc_time_base 1:1000 -c:v libx264 -bf 2 -pix_fmt yuv420p",
    );
    let all = reference(&path, "scale=16:16:flags=area,");
    let sampling = Sampling { fps: Some(4.0), ..Sampling::ALL };
    let (plan, pictures) = decode(&path, (None, None), sampling, target(16, 16)).unwrap();
    let expected: Vec<u32> = (0..plan.frames()).map(|at| (at as f64 * 250.0 + 0.001).sqrt().floor() as u32).collect();
    assert_eq!(plan.picks, expected);
    assert!(pictures.data == picked(&all, 16 * 16 * 3, &plan.picks));
}

#[test]
fn spans_hold_their_frames() {
    let folder = tempfile::tempdir().unwrap();
    for (name, settings) in [
        ("long.mp4", "-c:v libx264 -g 25 -bf 3 -pix_fmt yuv420p"),
        ("long.mkv", "-c:v libx264 -g 25 -bf 3 -pix_fmt yuv420p"),
        ("long.ts", "-c:v libx264 -g 25 -bf 3 -pix_fmt yuv420p"),
        ("long.webm", "-c:v libvpx-vp9 -g 25 -b:v 100k -cpu-used 8"),
        ("open.mp4", "-c:v libx264 -g 25 -bf 3 -x264-params open-gop=1 -pix_fmt yuv420p"),
    ] {
        let path = make(folder.path(), name, &format!("-vf loop=loop=9:size=50,setpts=N/25/TB {settings} -t 20"));
        let all = reference(&path, "scale=16:16:flags=area,");
        assert_eq!(all.len() / (16 * 16 * 3), 500, "{name}");
        for (start, end) in [(0.0, 0.4), (12.0, 13.0), (13.02, 14.0), (19.5, 21.0), (7.24, 7.28), (3.0, 17.0)] {
            let (plan, pictures) = decode(&path, (Some(start), Some(end)), Sampling::ALL, target(16, 16)).unwrap();
            let numbers: Vec<u32> = (0..500).filter(|at| (start..end).contains(&(f64::from(*at) / 25.0))).collect();
            assert_eq!(plan.frames(), numbers.len(), "{name} {start} to {end}");
            assert!(pictures.data == picked(&all, 16 * 16 * 3, &numbers), "{name} {start} to {end}");
        }
        let (plan, _) = decode(&path, (Some(5.0), None), spread(2), target(16, 16)).unwrap();
        assert_eq!(plan.info().frame_count, Some(375), "{name}");
        let error = decode(&path, (Some(30.0), Some(31.0)), Sampling::ALL, target(16, 16)).unwrap_err();
        assert!(error.to_string().contains("no frame"), "{error}");
    }
}

#[test]
fn edit_list_and_late_start() {
    let folder = tempfile::tempdir().unwrap();
    let whole = make(folder.path(), "whole.mp4", "-c:v libx264 -g 50 -bf 2 -pix_fmt yuv420p");
    let path = folder.path().join("edited.mp4");
    // A cut in the middle of a group: what comes before it is stored, and hidden by an edit list.
    ffmpeg(&["-ss", "0.5", "-i", whole.to_str().unwrap(), "-c", "copy", path.to_str().unwrap()]);
    let all = reference(&path, "scale=16:16:flags=area,");
    let (plan, pictures) = decode(&path, (None, None), spread(3), target(16, 16)).unwrap();
    assert_eq!(plan.info().frame_count, Some((all.len() / (16 * 16 * 3)) as u64));
    assert!(pictures.data == picked(&all, 16 * 16 * 3, &plan.picks));
    assert!(plan.fed().0 > plan.frames.len(), "the hidden packets are there");
}

#[test]
fn no_duration_in_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live.mkv");
    let bytes = ffmpeg(&["-f", "lavfi", "-i", "testsrc2=s=192x108:r=25:d=2", "-c:v", "libx264", "-f", "matroska", "-"]);
    std::fs::write(&path, bytes).unwrap();
    let mut reader = open(&path).unwrap();
    assert_eq!(reader.info().duration_s, None);
    assert!((reader.duration_s().unwrap() - 2.0).abs() < 0.01);
    let plan = reader.plan((None, None), &spread(2)).unwrap();
    assert_eq!(plan.info().frame_count, Some(50));
    assert!(reader.decode(&plan, &[NATIVE]).is_ok());
}

#[test]
fn a_size_that_changes_midway() {
    let folder = tempfile::tempdir().unwrap();
    let small = make(folder.path(), "small.ts", "-c:v libx264 -g 25 -pix_fmt yuv420p");
    let large = make(folder.path(), "large.ts", "-vf scale=256:144 -c:v libx264 -g 25 -pix_fmt yuv420p");
    let path = folder.path().join("both.ts");
    std::fs::write(&path, [std::fs::read(small).unwrap(), std::fs::read(large).unwrap()].concat()).unwrap();
    // The times begin again in the middle, so frames are counted instead.
    let (plan, pictures) = decode(&path, (None, None), Sampling::ALL, target(16, 16)).unwrap();
    assert_eq!(plan.frames(), 100);
    let first = &pictures.data[..16 * 16 * 3];
    let again = &pictures.data[50 * 16 * 16 * 3..][..16 * 16 * 3];
    assert!(largest_difference(first, again) < 30);
}

#[test]
fn too_short_and_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "short.mp4", "-c:v libx264 -pix_fmt yuv420p -frames:v 3");
    let error = decode(&path, (None, None), spread(8), NATIVE).unwrap_err().to_string();
    assert!(error.contains("3 frames, 8"), "{error}");
    let repeat = Sampling { short: ShortClip::Repeat, ..spread(4) };
    let (_, pictures) = decode(&path, (None, None), repeat, target(16, 16)).unwrap();
    let frames: Vec<&[u8]> = pictures.data.chunks(16 * 16 * 3).collect();
    assert!(frames[0] == frames[1] && frames[0] != frames[2] && frames[3] != frames[2]);
}

#[test]
fn several_sizes_from_one_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "sample.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let mut reader = open(&path).unwrap();
    let plan = reader.plan((None, None), &spread(4)).unwrap();
    let targets = [target(16, 16), target(64, 36)];
    let both = reader.decode(&plan, &targets).unwrap();
    assert_eq!(both.iter().map(|pictures| pictures.data.len()).sum::<usize>(), plan.output_bytes(&targets));
    for (together, target) in both.iter().zip(targets) {
        let (_, alone) = decode(&path, (None, None), spread(4), target).unwrap();
        assert!(together.data == alone.data);
    }
    // A plan can be decoded again.
    assert!(reader.decode(&plan, &[target(16, 16)]).unwrap()[0].data == both[0].data);
}

#[test]
fn hardware_falls_back_or_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "sample.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let with = |hwaccel| {
        let caps = Caps { hwaccel, ..Caps::default() };
        let mut reader = Reader::open(Box::new(FileSource::open(&path)?), &caps)?;
        let plan = reader.plan((None, None), &spread(2))?;
        reader.decode(&plan, &[target(16, 16)])
    };
    assert!(with(HwAccel::Auto).is_ok());
    // A machine with such a device decodes; this one may have none.
    for hwaccel in [HwAccel::Cuda, HwAccel::Vaapi] {
        if let Err(error) = with(hwaccel) {
            assert!(error.ends_run() && error.to_string().contains("hwaccel"), "{error}");
        }
    }
}
