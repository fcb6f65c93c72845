//! Files that are wrong: each gives an error that says what is wrong with it.

use std::fs;
use std::time::Duration;

use super::*;

fn error(path: &Path) -> String {
    decode(path, (None, None), spread(3), target(8, 8)).unwrap_err().to_string()
}

fn error_of(bytes: &[u8]) -> String {
    let open = || {
        let mut reader = Reader::open(Box::new(BytesSource::new(bytes.to_vec())), &Caps::default())?;
        let plan = reader.plan((None, None), &spread(3))?;
        reader.decode(&plan, &[target(8, 8)])
    };
    open().unwrap_err().to_string()
}

fn assert_says(text: &str, part: &str) {
    assert!(text.contains(part), "{text:?} does not say {part:?}");
}

fn sample() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "sample.mp4", "-c:v libx264 -g 12 -bf 3 -pix_fmt yuv420p");
    (folder, path)
}

#[test]
fn what_is_no_video() {
    assert_says(&error_of(b""), "empty");
    assert_says(&error_of(b"This is a text that someone named .mp4.\n"), "text");
    assert_says(&error_of(&[0xa7; 5000]), "unknown data");
    assert_says(
        &error_of(b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n"),
        "HTTP Live Streaming",
    );
    assert_says(&error_of(b"ffconcat version 1.0\nfile '/etc/passwd'\n"), "concat");
    assert_says(&error(Path::new("/nowhere/clip.mp4")), "No such file");
    assert_says(&error(Path::new("/")), "no regular file");
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("picture.mp4");
    ffmpeg(&["-f", "lavfi", "-i", "testsrc2=d=0.04", "-f", "image2", "-c:v", "png", picture.to_str().unwrap()]);
    assert_says(&error(&picture), "png");
}

#[test]
fn audio_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sound.mp4");
    ffmpeg(&["-f", "lavfi", "-i", "sine=d=1", path.to_str().unwrap()]);
    assert_says(&error(&path), "only audio");
}

#[test]
fn cut_short() {
    let (folder, path) = sample();
    let bytes = fs::read(&path).unwrap();
    assert_says(&error_of(&bytes[..bytes.len() / 2]), "moov");
    let fast = folder.path().join("fast.mp4");
    ffmpeg(&["-i", path.to_str().unwrap(), "-c", "copy", "-movflags", "faststart", fast.to_str().unwrap()]);
    let bytes = fs::read(&fast).unwrap();
    assert_says(&error_of(&bytes[..bytes.len() * 3 / 4]), "cut short: the data of the video end after");
    assert_says(&error_of(&bytes[..bytes.len() - 10]), "cut short");
    let matroska = folder.path().join("sample.mkv");
    ffmpeg(&["-i", path.to_str().unwrap(), "-c", "copy", matroska.to_str().unwrap()]);
    let bytes = fs::read(&matroska).unwrap();
    assert_says(&error_of(&bytes[..bytes.len() * 3 / 4]), "cut short");
}

#[test]
fn a_whole_span_before_the_cut_is_fine() {
    let (folder, path) = sample();
    let fast = folder.path().join("fast.mp4");
    ffmpeg(&["-i", path.to_str().unwrap(), "-c", "copy", "-movflags", "faststart", fast.to_str().unwrap()]);
    let bytes = fs::read(&fast).unwrap();
    fs::write(&fast, &bytes[..bytes.len() * 3 / 4]).unwrap();
    let span = (None, Some(0.2));
    let (_, cut) = decode(&fast, span, spread(3), target(16, 16)).unwrap();
    let (_, whole) = decode(&path, span, spread(3), target(16, 16)).unwrap();
    assert_eq!(cut.data, whole.data);
}

/// An mp4 whose container claims another size than its stream has.
fn claiming(width: u16, height: u16) -> Vec<u8> {
    let (_folder, path) = sample();
    let mut bytes = fs::read(&path).unwrap();
    // Width and height of the sample entry come 24 bytes after its name, which is also a brand in the file's header.
    let at = bytes.windows(4).rposition(|window| window == b"avc1").unwrap() + 4;
    bytes[at + 24..at + 26].copy_from_slice(&width.to_be_bytes());
    bytes[at + 26..at + 28].copy_from_slice(&height.to_be_bytes());
    bytes
}

#[test]
fn impossible_sizes() {
    assert_says(&error_of(&claiming(30_000, 30_000)), "30000x30000");
    assert_says(&error_of(&claiming(0, 0)), "0x0");
}

#[test]
fn pictures_beyond_max_pixels_are_refused() {
    let with = |bytes: Vec<u8>| {
        let caps = Caps { max_pixels: 192 * 108 - 1, ..Caps::default() };
        let mut reader = Reader::open(Box::new(BytesSource::new(bytes)), &caps)?;
        let plan = reader.plan((None, None), &spread(3))?;
        reader.decode(&plan, &[target(8, 8)])
    };
    assert_says(&with(claiming(192, 108)).unwrap_err().to_string(), "max_pixels");
    // The header claims less than the stream has.
    assert_says(&with(claiming(96, 54)).unwrap_err().to_string(), "max_pixels");
}

#[test]
fn pictures_much_larger_than_the_header_claims_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.mp4");
    let picture = "color=c=gray:s=4400x2400:r=5:d=0.8";
    ffmpeg(&["-f", "lavfi", "-i", picture, "-c:v", "libx264", "-preset", "ultrafast", path.to_str().unwrap()]);
    let mut bytes = fs::read(&path).unwrap();
    assert!(decode(&path, (None, None), spread(2), target(8, 8)).is_ok());
    let at = bytes.windows(4).rposition(|window| window == b"avc1").unwrap() + 4;
    bytes[at + 24..at + 28].copy_from_slice(&[0, 64, 0, 64]);
    assert_says(&error_of(&bytes), "much larger than the 64x64 that its header claims");
}

/// A fragmented mp4 of which a fragment counts so many frames.
fn counting(frames: u32) -> Vec<u8> {
    let (folder, path) = sample();
    let fragmented = folder.path().join("fragmented.mp4");
    let flags = "frag_keyframe+empty_moov";
    ffmpeg(&["-i", path.to_str().unwrap(), "-c", "copy", "-movflags", flags, fragmented.to_str().unwrap()]);
    let mut bytes = fs::read(&fragmented).unwrap();
    let at = bytes.windows(4).position(|window| window == b"trun").unwrap() + 8;
    bytes[at..at + 4].copy_from_slice(&frames.to_be_bytes());
    bytes
}

#[test]
fn what_a_header_counts_takes_no_memory_before_it_is_read() {
    assert_says(&error_of(&counting(100_000_000)), "more memory");
    let peak = crate::engine::prepare::peak_memory();
    assert!(peak < 2 << 30, "{peak} bytes");
}

#[test]
fn damage_within() {
    let (_folder, path) = sample();
    let mut bytes = fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    bytes[half..half + 3000].fill(0x55);
    let all = || {
        let mut reader = Reader::open(Box::new(BytesSource::new(bytes.clone())), &Caps::default())?;
        let plan = reader.plan((None, None), &Sampling::ALL)?;
        reader.decode(&plan, &[target(8, 8)])
    };
    assert_says(&all().unwrap_err().to_string(), "damaged");
}

#[test]
fn noise_never_panics() {
    let (_folder, path) = sample();
    let bytes = fs::read(&path).unwrap();
    // A fixed sequence, so that a failure can be repeated.
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..200 {
        let mut bytes = bytes.clone();
        for _ in 0..20 {
            let at = next(bytes.len());
            bytes[at] = next(256) as u8;
        }
        let Ok(mut reader) = Reader::open(Box::new(BytesSource::new(bytes)), &Caps::default()) else { continue };
        if let Ok(plan) = reader.plan((None, None), &spread(4)) {
            let _ = reader.decode(&plan, &[target(8, 8)]);
        }
    }
}

#[test]
fn limits() {
    let (_folder, path) = sample();
    let with = |caps: Caps| {
        let mut reader = Reader::open(Box::new(FileSource::open(&path)?), &caps)?;
        let plan = reader.plan((None, None), &spread(3))?;
        reader.decode(&plan, &[target(8, 8)])
    };
    let long = Caps { max_duration_s: 1.5, ..Caps::default() };
    assert_says(&with(long).unwrap_err().to_string(), "max_duration_s");
    let slow = Caps { timeout: Duration::ZERO, ..Caps::default() };
    assert_says(&with(slow).unwrap_err().to_string(), "timeout_s");
    let stopped = Caps { stop: StopSignal::new(|| true), ..Caps::default() };
    assert!(matches!(with(stopped), Err(VideoError::Stopped)));
    let asked = std::sync::atomic::AtomicU32::new(0);
    let later = StopSignal::new(move || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 60);
    assert!(matches!(with(Caps { stop: later, ..Caps::default() }), Err(VideoError::Stopped)));
}

#[test]
fn a_failing_source_is_named() {
    #[derive(Debug)]
    struct Failing(BytesSource);
    impl MediaSource for Failing {
        fn len(&self) -> u64 {
            self.0.len()
        }
        fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = buffer.len().min(1000);
            if offset > 2000 {
                return Err(std::io::Error::other("the bucket is gone"));
            }
            self.0.read_at(offset, &mut buffer[..length])
        }
    }
    let (_folder, path) = sample();
    let source = Failing(BytesSource::new(fs::read(path).unwrap()));
    assert_says(&Reader::open(Box::new(source), &Caps::default()).unwrap_err().to_string(), "the bucket is gone");
}
