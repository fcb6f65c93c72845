//! FFmpeg in processes of its own: the same pixels, and a crash that costs one clip.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use simdrop::stage::decode::config::{Fit, ScaleFilter};
use simdrop::stage::shards::config::Cut;
use simdrop::video::{
    self, BytesSource, Caps, FileSource, MediaSource, Reader, Sampling, StopSignal, Target, VideoError, Videos,
    WorkerPool,
};

use super::program::{Workplace, command, expect_code, root};

/// A pool that keeps one process.
fn isolated() -> Videos {
    Videos::isolated(WorkerPool::new(env!("CARGO_BIN_EXE_simdrop"), 1 << 30, 1))
}

fn clip(name: &str) -> PathBuf {
    root().join("data/clips/real").join(name)
}

fn file(path: &Path) -> Box<dyn MediaSource> {
    Box::new(FileSource::open(path).unwrap())
}

fn target(width: u32) -> Target {
    Target { width: Some(width), height: None, fit: Fit::Stretch, filter: ScaleFilter::Area }
}

const FEW: Sampling = Sampling { frames: Some(5), ..Sampling::ALL };

/// Frames of a video, opened by `videos`.
fn frames(videos: &Videos, source: Box<dyn MediaSource>, caps: &Caps) -> Result<Vec<Vec<u8>>, VideoError> {
    let mut video = videos.open(source, caps)?;
    let outline = video.plan((Some(0.1), None), &FEW, &[target(64), target(33)])?;
    let pictures = video.decode()?;
    assert_eq!(outline.shapes, pictures.iter().map(|pictures| pictures.shape).collect::<Vec<_>>());
    Ok(pictures.into_iter().map(|pictures| pictures.data).collect())
}

#[test]
fn a_process_of_its_own_gives_the_same_bits() {
    let (here, there, caps) = (Videos::default(), isolated(), Caps::default());
    for name in ["athlete-cam01.mp4", "big-buck-bunny.mp4", "bikes.mp4", "carphone.mp4", "walkers.mp4"] {
        let path = clip(name);
        let mut reader = Reader::open(file(&path), &caps).unwrap();
        let mut video = there.open(file(&path), &caps).unwrap();
        assert_eq!(video.info(), reader.info(), "{name}");
        assert_eq!(video.duration_s().unwrap().to_bits(), reader.duration_s().unwrap().to_bits(), "{name}");
        let outline = video.plan((None, Some(1.3)), &FEW, &[target(64)]).unwrap();
        let plan = reader.plan((None, Some(1.3)), &FEW).unwrap();
        assert_eq!((&outline.info, outline.workspace), (plan.info(), plan.workspace_bytes()), "{name}");
        drop(video);
        assert!(frames(&there, file(&path), &caps).unwrap() == frames(&here, file(&path), &caps).unwrap(), "{name}");
    }
    let cut = |videos: &Videos, how| {
        videos.open(file(&clip("bikes.mp4")), &caps).unwrap().cut((Some(0.5), Some(1.0)), how, 1 << 30).unwrap()
    };
    for how in [Cut::Copy, Cut::Encode] {
        assert!(cut(&there, how) == cut(&here, how), "{how:?}");
        assert!(
            cut(&there, how)
                == video::cut(file(&clip("bikes.mp4")), (Some(0.5), Some(1.0)), how, 1 << 30, &caps).unwrap()
        );
    }
}

#[test]
fn errors_are_the_same_wherever_they_happen() {
    let caps = Caps::default();
    let bikes = std::fs::read(clip("bikes.mp4")).unwrap();
    let small = Caps { max_pixels: 100, ..Caps::default() };
    let slow = Caps { timeout: Duration::ZERO, ..Caps::default() };
    let there = isolated();
    for (bytes, caps) in [
        (Vec::new(), &caps),
        (b"a text".to_vec(), &caps),
        (bikes[..bikes.len() / 2].to_vec(), &caps),
        (bikes.clone(), &small),
        (bikes.clone(), &slow),
    ] {
        let source = || Box::new(BytesSource::new(bytes.clone()));
        let here = frames(&Videos::default(), source(), caps).map(drop).unwrap_err();
        let error = frames(&there, source(), caps).map(drop).unwrap_err();
        assert_eq!((error.to_string(), error.ends_run()), (here.to_string(), here.ends_run()));
    }
    #[derive(Debug)]
    struct Failing;
    impl MediaSource for Failing {
        fn len(&self) -> u64 {
            100_000
        }
        fn read_at(&mut self, _: u64, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the bucket is gone"))
        }
    }
    let error = there.open(Box::new(Failing), &caps).unwrap_err();
    assert!(error.to_string().contains("the bucket is gone"), "{error}");
}

/// Processes that this one, or the process `parent`, started and that open videos.
fn workers(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let line = read("cmdline");
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let mine = status.lines().any(|line| line == format!("PPid:\t{parent}"));
        if mine && line.split(|byte| *byte == 0).any(|word| word == b"video-worker") {
            found.push(pid);
        }
    }
    found
}

fn signal(name: &str, pid: u32) -> bool {
    Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap().success()
}

/// A video that sends a signal to the process that reads it, in the middle.
#[derive(Debug)]
struct Striking {
    bytes: BytesSource,
    signal: &'static str,
    worker: u32,
    after: u64,
}

impl MediaSource for Striking {
    fn len(&self) -> u64 {
        self.bytes.len()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        if offset >= self.after {
            self.after = u64::MAX;
            assert!(signal(self.signal, self.worker));
            // The first one of these only makes Rust look whether it was a stack that overflowed.
            signal(self.signal, self.worker);
        }
        self.bytes.read_at(offset, buffer)
    }
}

/// Runs in a process of its own, so that the workers of other tests are not among its children.
fn alone(test: &str, body: impl FnOnce()) {
    const NAME: &str = "SIMDROP_TEST_ALONE";
    if std::env::var_os(NAME).is_some() {
        return body();
    }
    let name = format!("integration::isolation::{test}");
    let own = std::env::current_exe().unwrap();
    let output = Command::new(own).args([&name, "--exact", "--nocapture"]).env(NAME, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_crash_costs_one_video() {
    alone("a_crash_costs_one_video", || {
        let (videos, caps) = (isolated(), Caps::default());
        let bytes = std::fs::read(clip("walkers.mp4")).unwrap();
        let good = frames(&videos, Box::new(BytesSource::new(bytes.clone())), &caps).unwrap();
        let strike = |signal, caps: &Caps| {
            let worker = workers(std::process::id())[0];
            let bytes = BytesSource::new(bytes.clone());
            let started = Instant::now();
            let error = frames(&videos, Box::new(Striking { bytes, signal, worker, after: 1 }), caps);
            let error = error.map(drop).unwrap_err();
            assert!(!workers(std::process::id()).contains(&worker), "the process is still there");
            assert!(!error.ends_run());
            // The next video gets another process.
            assert!(frames(&videos, file(&clip("walkers.mp4")), &Caps::default()).unwrap() == good);
            (error.to_string(), started.elapsed())
        };
        let (crashed, _) = strike("SEGV", &caps);
        assert!(crashed.contains("crashed FFmpeg") && crashed.contains("SIGSEGV"), "{crashed}");
        let (aborted, _) = strike("ABRT", &caps);
        assert!(aborted.contains("SIGABRT"), "{aborted}");
        // Stopped processes neither work nor look at the clock.
        let (hung, took) = strike("STOP", &Caps { timeout: Duration::from_millis(200), ..Caps::default() });
        assert!(hung.contains("timeout_s") && hung.contains("process was ended"), "{hung}");
        assert!(took < Duration::from_secs(20), "{took:?}");
        // One that dies while it waits for work is nobody's fault.
        signal("KILL", workers(std::process::id())[0]);
        assert!(frames(&videos, Box::new(BytesSource::new(bytes.clone())), &caps).unwrap() == good);
    });
}

#[test]
fn a_run_that_stops_ends_a_process_that_hangs() {
    alone("a_run_that_stops_ends_a_process_that_hangs", || {
        let videos = isolated();
        frames(&videos, file(&clip("bikes.mp4")), &Caps::default()).unwrap();
        let worker = workers(std::process::id())[0];
        signal("STOP", worker);
        let started = Instant::now();
        let stop = StopSignal::new(move || started.elapsed() > Duration::from_millis(100));
        let error = frames(&videos, file(&clip("bikes.mp4")), &Caps { stop, ..Caps::default() });
        let error = error.map(drop).unwrap_err();
        assert!(matches!(error, VideoError::Stopped), "{error}");
        assert!(workers(std::process::id()).is_empty());
    });
}

#[test]
fn a_process_takes_no_more_memory_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.mp4");
    let picture = "color=c=gray:s=4000x4000:r=8:d=1";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", picture, "-c:v", "libx264", "-preset", "ultrafast"])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    // Takes 400 MB and more.
    let open = |memory: u64| {
        let videos = Videos::isolated(WorkerPool::new(env!("CARGO_BIN_EXE_simdrop"), memory, 1));
        let mut video = videos.open(file(&path), &Caps::default())?;
        video.plan((None, None), &Sampling::ALL, &[Target { width: None, ..target(1) }])?;
        video.decode().map(drop)
    };
    let error = open(128 << 20).unwrap_err();
    assert!(!error.ends_run(), "{error}");
    assert!(open(1 << 30).is_ok());
}

const STAGES: &str = "  - split: { length_s: 1, minimum_s: 0.1 }
  - decode: { frames: 4, width: 32, height: 32 }
  - measure: {}";

/// Uri, span, fate, reason and a measure of every row.
fn rows(workplace: &Workplace, output: &str) -> Vec<serde_json::Value> {
    workplace.query(
        output,
        "select uri, start_s, end_s, fate, fate_reason, measure_motion, measure_noise, size from clips order by uri, start_s",
    )
}

#[test]
fn a_run_gives_the_same_dataset() {
    let workplace = Workplace::new();
    for name in ["bikes.mp4", "carphone.mp4", "walkers.mp4"] {
        workplace.clip(name, name);
    }
    workplace.file("text.mp4", b"no video");
    let pipeline = workplace.pipeline(STAGES, "output: { path: unused }");
    let isolated = workplace.pipeline(STAGES, "output: { path: unused }\nrun: { isolation: process }");
    expect_code(&workplace.run(&isolated, "process"), 0);
    let plain = workplace.pipeline(STAGES, "output: { path: unused }");
    assert_eq!(pipeline, plain);
    expect_code(&workplace.run(&plain, "none"), 0);
    assert_eq!(rows(&workplace, "process"), rows(&workplace, "none"));
}

#[test]
fn a_run_survives_the_crashes_of_its_processes_and_leaves_none() {
    let workplace = Workplace::new();
    for number in 0..40 {
        workplace.clip("carphone.mp4", &format!("{number:02}.mp4"));
    }
    let stages = "  - decode: { frames: 200, width: 64, height: 64, short: repeat }";
    let pipeline = workplace.pipeline(stages, "output: { path: unused }\nrun: { isolation: process, threads: 2 }");
    let path = format!("output.path={}", workplace.text("out"));
    let mut run = command(&["run", &pipeline, "--set", &path, "--progress", "none"]).spawn().unwrap();
    let mut killed = 0;
    while run.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(300));
        if let Some(worker) = workers(run.id()).first() {
            killed += usize::from(signal("ABRT", *worker));
        }
    }
    assert!(run.wait().unwrap().success());
    let failed = workplace.query("out", "select fate_reason from clips where fate <> 'kept'");
    assert_eq!(workplace.query("out", "select uri from clips").len(), 40);
    assert!(killed > 0 && failed.len() <= killed, "{} failed, {killed} were killed", failed.len());
    for row in &failed {
        assert!(row["fate_reason"].as_str().unwrap().contains("crashed FFmpeg"), "{row}");
    }
}

#[test]
fn processes_end_when_the_run_is_killed() {
    let workplace = Workplace::new();
    for number in 0..20 {
        workplace.clip("walkers.mp4", &format!("{number:02}.mp4"));
    }
    let stages = "  - decode: { width: 64, height: 64 }";
    let pipeline = workplace.pipeline(stages, "output: { path: unused }\nrun: { isolation: process }");
    let path = format!("output.path={}", workplace.text("out"));
    let mut run = command(&["run", &pipeline, "--set", &path, "--progress", "none"]).spawn().unwrap();
    let until = |what: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(60), "waited too long");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&|| !workers(run.id()).is_empty());
    let children = workers(run.id());
    run.kill().unwrap();
    run.wait().unwrap();
    let alive = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
    };
    until(&|| !children.iter().any(alive));
}
