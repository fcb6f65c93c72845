//! One Blender process: scenes in, frames and ground truth in a folder out.
//!
//! The process may crash, hang or grow at any moment; whatever happens, a call ends within its time limit and says what
//! became of the scene.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::blender::Blender;
use crate::error::{Error, Result};

/// What our lines on standard output begin with; Blender itself prints there, too.
const PREFIX: &str = "simdrop ";
/// Lines of output that are kept for the record of a failure.
const LOG_LINES: usize = 80;
/// How long Blender may take to start.
const START: Duration = Duration::from_secs(180);
/// How often the clock, the memory and the stop signal are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Where the time of a scene went, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timing {
    /// Building the scene.
    #[serde(default)]
    pub build_s: f64,
    /// Rendering its frames.
    #[serde(default)]
    pub render_s: f64,
    /// Ground truth.
    #[serde(default)]
    pub truth_s: f64,
    /// Resident memory of the process afterwards.
    #[serde(default)]
    pub memory_bytes: u64,
}

/// Why there is no clip.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// The scene cannot be rendered; the process goes on.
    Scene(Failure),
    /// The process is gone, or had to be ended.
    Process(Failure),
    /// The run is being stopped.
    Stopped,
}

/// What went wrong, for people.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// `configuration`, `render`, `crash`, `timeout`, `memory` or `output`.
    pub kind: String,
    /// One line.
    pub message: String,
    /// Python's traceback.
    #[serde(default)]
    pub traceback: String,
    /// The last lines of Blender's output.
    #[serde(default)]
    pub log: Vec<String>,
}

/// What a process says of itself and its work.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Ready(String),
    Done(Timing),
    Failed(Failure),
    #[serde(untagged)]
    Frame {
        frame: u64,
    },
}

/// Limits of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) scene: Duration,
    pub(super) memory: u64,
}

/// A running Blender.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    said: Receiver<Said>,
    log: Arc<Mutex<VecDeque<String>>>,
    /// Version of Blender.
    pub(super) version: String,
    /// Scenes that it was given.
    pub(super) scenes: usize,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.input = None;
        // Whatever it started goes as well; it may be gone already.
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    /// Starts Blender with the scripts in `scripts`; blocking until it is ready.
    pub(super) fn start(blender: &Blender, scripts: &Path, stop: &CancellationToken) -> Result<Self> {
        let mut command = blender.command(scripts);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C on the terminal is for us: scenes under way are to finish.
        command.process_group(0);
        let mut child = command.spawn().map_err(Error::io("start", blender.program()))?;
        let (sender, said) = channel();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(output) = child.stdout.take() {
            listen(output, Some(sender), Arc::clone(&log));
        }
        if let Some(errors) = child.stderr.take() {
            listen(errors, None, Arc::clone(&log));
        }
        let input = child.stdin.take();
        let mut worker = Self { child, input, said, log, version: String::new(), scenes: 0 };
        let deadline = Instant::now() + START;
        while Instant::now() < deadline && !stop.is_cancelled() {
            match worker.said.recv_timeout(LOOK) {
                Ok(Said::Ready(version)) => {
                    worker.version = version;
                    return Ok(worker);
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if stop.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let log = worker.log();
        let tail = log.iter().rev().take(5).rev().cloned().collect::<Vec<_>>().join(" | ");
        Err(Error::State(format!(
            "Blender ({}) did not start within {} s: {tail}; try it by hand, or run `make blender`",
            blender.program().display(),
            START.as_secs()
        )))
    }

    /// Renders the scene in file `scene` into `output`; blocking. Calls `frame` after every frame.
    pub(super) fn render(
        &mut self,
        scene: &Path,
        output: &Path,
        bounds: Bounds,
        stop: &CancellationToken,
        frame: &dyn Fn(u64),
    ) -> Result<Timing, Fault> {
        self.scenes += 1;
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let job = serde_json::json!({"scene": scene, "output": output});
        let sent =
            self.input.as_mut().is_some_and(|input| writeln!(input, "{job}").and_then(|()| input.flush()).is_ok());
        if !sent {
            return Err(self.gone());
        }
        let start = Instant::now();
        loop {
            match self.said.recv_timeout(LOOK) {
                Ok(Said::Done(timing)) => return Ok(timing),
                Ok(Said::Failed(failure)) => return Err(Fault::Scene(Failure { log: self.log(), ..failure })),
                Ok(Said::Frame { frame: number }) => frame(number),
                Ok(Said::Ready(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
            }
            if stop.is_cancelled() {
                return Err(Fault::Stopped);
            }
            if start.elapsed() > bounds.scene {
                let seconds = bounds.scene.as_secs_f64();
                return Err(self.fault("timeout", format!("the scene took longer than run.timeout_s, {seconds} s")));
            }
            let memory = resident(self.child.id());
            if memory > bounds.memory {
                let size = bytesize::ByteSize(memory);
                return Err(self.fault("memory", format!("Blender grew to {size}, beyond run.worker_memory")));
            }
        }
    }

    /// Resident memory in bytes.
    pub(super) fn memory(&self) -> u64 {
        resident(self.child.id())
    }

    fn gone(&mut self) -> Fault {
        // Its last words may still be on their way.
        std::thread::sleep(Duration::from_millis(100));
        let how = match self.child.try_wait() {
            Ok(Some(status)) => status.to_string(),
            _ => "its output ended".to_owned(),
        };
        self.fault("crash", format!("Blender ended while it rendered the scene ({how})"))
    }

    fn fault(&self, kind: &str, message: String) -> Fault {
        Fault::Process(Failure { kind: kind.to_owned(), message, traceback: String::new(), log: self.log() })
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Reads lines until there are no more: ours go on as messages, all others into the log.
fn listen(from: impl Read + Send + 'static, said: Option<Sender<Said>>, log: Arc<Mutex<VecDeque<String>>>) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut bytes = Vec::new();
        // Not `lines()`: what Blender prints need not be UTF-8.
        while lines.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            let message = said.as_ref().and_then(|_| serde_json::from_str(line.strip_prefix(PREFIX)?).ok());
            if let (Some(message), Some(said)) = (message, &said) {
                if said.send(message).is_err() {
                    return;
                }
                continue;
            }
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(line.chars().take(500).collect());
        }
    });
}

/// Resident memory of a process in bytes; 0 where the system does not say.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
