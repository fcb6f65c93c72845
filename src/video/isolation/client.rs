//! The side that asks: processes, started when they are needed and used again, and what is said to one about one video.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::wire::{self, BLOCK, Reply, Request};
use super::{Outline, not_planned};
use crate::stage::decode::config::HwAccel;
use crate::stage::shards::config::Cut;
use crate::video::{Caps, MediaInfo, MediaSource, Pictures, Sampling, Span, StopSignal, Target, VideoError};

/// Least memory of a worker in bytes.
const LEAST_MEMORY: u64 = 1 << 30;
/// Videos that a worker opens before another one takes its place, so that what FFmpeg leaks stays bounded.
const MOST_CLIPS: u32 = 1000;
/// How often a worker is started before that is said to be impossible.
const TRIES: u32 = 3;
/// How often the clock and the signal to stop are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a worker has to say itself that time is up.
const GRACE: Duration = Duration::from_secs(3);
/// How long a worker may take to start.
const START: Duration = Duration::from_secs(60);
/// What a worker gets to know of the environment: where libraries and devices are, and no credentials.
const ENVIRONMENT: &[&str] = &["LD_", "LIBVA", "CUDA", "NVIDIA", "PATH", "LANG", "LC_"];

/// Processes that open videos.
#[derive(Debug)]
pub struct WorkerPool {
    program: PathBuf,
    memory: u64,
    /// Most idle workers.
    keep: usize,
    idle: Mutex<Vec<Worker>>,
}

impl WorkerPool {
    /// Workers that run `program`, which is simdrop, each with `memory` bytes at most; `keep` of them are kept for the
    /// next video.
    pub fn new(program: impl Into<PathBuf>, memory: u64, keep: usize) -> Self {
        Self { program: program.into(), memory, keep, idle: Mutex::default() }
    }

    /// Workers that run this very program, also where its file was replaced since, with at least 1 GiB each.
    pub fn of_this_program(memory: u64, keep: usize) -> io::Result<Self> {
        let own = Path::new("/proc/self/exe");
        let program = if own.exists() { own.to_owned() } else { std::env::current_exe()? };
        Ok(Self::new(program, memory.max(LEAST_MEMORY), keep))
    }

    fn take(&self, caps: &Caps) -> Result<Worker, Broken> {
        // Drivers map more address space than there is memory.
        let memory = (caps.hwaccel == HwAccel::None).then_some(self.memory);
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let fitting = idle.iter().rposition(|worker| worker.memory == memory);
            fitting.map(|at| idle.swap_remove(at))
        };
        if let Some(worker) = idle {
            return Ok(worker);
        }
        // A machine that is short of memory may end one at its start.
        let mut tries = 0;
        loop {
            tries += 1;
            match Worker::start(&self.program, memory, caps) {
                Err(Broken::NotStarted(_)) if tries < TRIES => {}
                started => return started,
            }
        }
    }

    fn give(&self, worker: Worker) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if worker.clips < MOST_CLIPS && idle.len() < self.keep {
            idle.push(worker);
        }
    }
}

/// A process that opens one video at a time.
#[derive(Debug)]
struct Worker {
    child: Child,
    channel: UnixStream,
    memory: Option<u64>,
    clips: u32,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.channel.shutdown(Shutdown::Both);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why a conversation cannot go on.
#[derive(Debug)]
enum Broken {
    /// The process is gone.
    Gone,
    /// Time is up, and the process does not say so.
    Late,
    /// The run is being stopped.
    Stopped,
    /// It says what makes no sense.
    Nonsense(String),
    /// It could not be started.
    NotStarted(io::Error),
}

impl Worker {
    fn start(program: &Path, memory: Option<u64>, caps: &Caps) -> Result<Self, Broken> {
        let spawn = || {
            let (channel, theirs) = UnixStream::pair()?;
            channel.set_read_timeout(Some(LOOK))?;
            channel.set_write_timeout(Some(LOOK))?;
            let mut command = Command::new(program);
            command.arg("video-worker").args(memory.map(|memory| format!("--memory={memory}")));
            command.env_clear().envs(
                std::env::vars_os()
                    .filter(|(name, _)| ENVIRONMENT.iter().any(|begin| name.to_string_lossy().starts_with(begin))),
            );
            command.stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs)).stderr(Stdio::null());
            // A Ctrl-C on the terminal is for us: clips under way are finished.
            command.process_group(0);
            Ok(Self { child: command.spawn()?, channel, memory, clips: 0 })
        };
        let mut worker = spawn().map_err(Broken::NotStarted)?;
        let patience = Patience { start: Instant::now(), limit: START, stop: &caps.stop };
        match worker.receive(&patience) {
            Ok(Reply::Ready) => Ok(worker),
            Ok(other) => Err(Broken::Nonsense(format!("{other:?}"))),
            Err(Broken::Gone) => Err(Broken::NotStarted(io::Error::other(worker.ending()))),
            Err(broken) => Err(broken),
        }
    }

    fn send(&mut self, request: &Request, behind: &[u8], patience: &Patience<'_>) -> Result<(), Broken> {
        let mut channel = Patient { channel: &self.channel, patience, broken: None };
        let sent = wire::send(&mut channel, request).and_then(|()| channel.write_all(behind));
        sent.map_err(|_| channel.broken.unwrap_or(Broken::Gone))
    }

    fn receive(&mut self, patience: &Patience<'_>) -> Result<Reply, Broken> {
        let mut channel = Patient { channel: &self.channel, patience, broken: None };
        wire::receive(&mut channel).map_err(|error| match (channel.broken, error.kind()) {
            (Some(broken), _) => broken,
            (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Broken::Gone,
            (None, _) => Broken::Nonsense(error.to_string()),
        })
    }

    fn receive_bytes(&mut self, bytes: &mut [u8], patience: &Patience<'_>) -> Result<(), Broken> {
        let mut channel = Patient { channel: &self.channel, patience, broken: None };
        channel.read_exact(bytes).map_err(|_| channel.broken.unwrap_or(Broken::Gone))
    }

    /// How the process ended.
    fn ending(&mut self) -> String {
        // It may be about to.
        for _ in 0..100 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.to_string();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        "it closed its output".to_owned()
    }
}

/// How long to wait.
struct Patience<'a> {
    start: Instant,
    limit: Duration,
    stop: &'a StopSignal,
}

/// A channel whose reads and writes wait until time is up or the run is stopped.
struct Patient<'a> {
    channel: &'a UnixStream,
    patience: &'a Patience<'a>,
    broken: Option<Broken>,
}

impl Patient<'_> {
    fn again<T>(&mut self, mut call: impl FnMut(&mut &UnixStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match call(&mut self.channel) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                done => return done,
            }
            if self.patience.stop.is_on() {
                self.broken = Some(Broken::Stopped);
            } else if self.patience.start.elapsed() > self.patience.limit {
                self.broken = Some(Broken::Late);
            } else {
                continue;
            }
            return Err(io::Error::other("waited long enough"));
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.again(|channel| channel.read(buffer))
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.again(|channel| channel.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is said about one video. The worker goes back to its pool when this is dropped, unless it is broken.
#[derive(Debug)]
pub(super) struct Conversation {
    pool: Arc<WorkerPool>,
    /// None once it is broken.
    worker: Option<Worker>,
    source: Box<dyn MediaSource>,
    caps: Caps,
    /// Time of the calls so far.
    spent: Duration,
    info: MediaInfo,
    outline: Option<Outline>,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let Some(mut worker) = self.worker.take() else { return };
        let patience = Patience { start: Instant::now(), limit: GRACE, stop: &self.caps.stop };
        if worker.send(&Request::Close, &[], &patience).is_ok() {
            self.pool.give(worker);
        }
    }
}

impl Conversation {
    pub(super) fn open(pool: &Arc<WorkerPool>, source: Box<dyn MediaSource>, caps: &Caps) -> Result<Self, VideoError> {
        let info =
            MediaInfo { width: 0, height: 0, fps: None, frame_count: None, duration_s: None, codec: String::new() };
        let mut conversation = Self {
            pool: Arc::clone(pool),
            worker: None,
            source,
            caps: caps.clone(),
            spent: Duration::ZERO,
            info,
            outline: None,
        };
        let request = Request::Open { length: conversation.source.len(), limits: caps.into() };
        loop {
            let mut worker = pool.take(caps).map_err(|broken| conversation.fault(broken, String::new()))?;
            let used = worker.clips > 0;
            worker.clips += 1;
            conversation.worker = Some(worker);
            let mut touched = false;
            match conversation.exchange(&request, &mut touched) {
                Ok(Reply::Opened { info }) => {
                    conversation.info = info.into();
                    return Ok(conversation);
                }
                Ok(reply) => return Err(conversation.unexpected(reply)),
                // It ended while it waited for work: no fault of this video.
                Err(Broken::Gone) if used && !touched => conversation.worker = None,
                Err(broken) => return Err(conversation.broken(broken)),
            }
        }
    }

    pub(super) fn info(&self) -> &MediaInfo {
        &self.info
    }

    pub(super) fn duration_s(&mut self) -> Result<f64, VideoError> {
        match self.ask(&Request::Duration)? {
            Reply::Seconds { seconds } => Ok(seconds.into()),
            reply => Err(self.unexpected(reply)),
        }
    }

    pub(super) fn plan(&mut self, span: Span, sampling: &Sampling, targets: &[Target]) -> Result<Outline, VideoError> {
        let request = Request::Plan { span: wire::ends(span), choice: sampling.into(), targets: targets.to_vec() };
        match self.ask(&request)? {
            Reply::Planned { info, shapes, workspace } if shapes.len() == targets.len() => {
                let outline = Outline { info: info.into(), shapes, workspace };
                Ok(self.outline.insert(outline).clone())
            }
            reply => Err(self.unexpected(reply)),
        }
    }

    pub(super) fn decode(&mut self) -> Result<Vec<Pictures>, VideoError> {
        let outline = self.outline.clone().ok_or_else(not_planned)?;
        match self.ask(&Request::Decode)? {
            Reply::Decoded => {}
            reply => return Err(self.unexpected(reply)),
        }
        let mut pictures = Vec::with_capacity(outline.shapes.len());
        for (shape, size) in outline.shapes.iter().zip(outline.sizes()) {
            pictures.push(Pictures { data: self.bytes(size)?, shape: *shape });
        }
        Ok(pictures)
    }

    pub(super) fn cut(&mut self, span: Span, how: Cut, max_bytes: usize) -> Result<Vec<u8>, VideoError> {
        match self.ask(&Request::Cut { span: wire::ends(span), how, max_bytes })? {
            Reply::Cut { length } if length <= max_bytes => self.bytes(length),
            reply => Err(self.unexpected(reply)),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, VideoError> {
        self.exchange(request, &mut false).map_err(|broken| self.broken(broken))
    }

    /// Asks, and serves the video's bytes until the answer comes; `touched` tells whether any were asked for.
    fn exchange(&mut self, request: &Request, touched: &mut bool) -> Result<Reply, Broken> {
        let start = Instant::now();
        let worker = self.worker.as_mut().ok_or(Broken::Gone)?;
        let left = self.caps.timeout.saturating_sub(self.spent).saturating_add(GRACE);
        let patience = Patience { start, limit: left, stop: &self.caps.stop };
        worker.send(request, &[], &patience)?;
        let reply = loop {
            match worker.receive(&patience)? {
                Reply::Read { offset, length } => {
                    *touched = true;
                    let (request, bytes) = read(self.source.as_mut(), offset, length);
                    worker.send(&request, &bytes, &patience)?;
                }
                reply => break reply,
            }
        };
        self.spent += start.elapsed();
        Ok(reply)
    }

    /// The bytes behind a reply.
    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, VideoError> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| crate::video::packet::out_of_memory())?;
        bytes.resize(length, 0);
        let patience = Patience { start: Instant::now(), limit: START, stop: &self.caps.stop };
        let received =
            self.worker.as_mut().map_or(Err(Broken::Gone), |worker| worker.receive_bytes(&mut bytes, &patience));
        received.map_err(|broken| self.broken(broken))?;
        Ok(bytes)
    }

    /// Ends the worker, and says what that means for the video.
    fn broken(&mut self, broken: Broken) -> VideoError {
        let ending = match (&broken, self.worker.as_mut()) {
            (Broken::Gone, Some(worker)) => worker.ending(),
            _ => String::new(),
        };
        self.worker = None;
        self.fault(broken, ending)
    }

    fn fault(&self, broken: Broken, ending: String) -> VideoError {
        match broken {
            Broken::Gone => VideoError::Crashed(ending),
            Broken::Late => VideoError::Hung(self.caps.timeout),
            Broken::Stopped => VideoError::Stopped,
            Broken::Nonsense(what) => VideoError::Crashed(format!("it answered {what}")),
            Broken::NotStarted(error) => VideoError::NoWorker(error),
        }
    }

    fn unexpected(&mut self, reply: Reply) -> VideoError {
        match reply {
            Reply::Failed { message, ends_run } => VideoError::Told { message, ends_run },
            other => self.broken(Broken::Nonsense(format!("{other:.100?}"))),
        }
    }
}

/// Reads what a worker asked for.
fn read(source: &mut dyn MediaSource, offset: u64, length: usize) -> (Request, Vec<u8>) {
    let mut bytes = vec![0; length.min(BLOCK)];
    let mut filled = 0;
    while filled < bytes.len() {
        match source.read_at(offset.saturating_add(filled as u64), &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (Request::Unreadable { message: error.to_string() }, Vec::new()),
        }
    }
    bytes.truncate(filled);
    (Request::Bytes { length: bytes.len() }, bytes)
}
