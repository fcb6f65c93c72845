//! How a run's progress is shown: a bar on a terminal, a plain line now and then, or JSON lines for machines; all on
//! standard error.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{ClusterView, Progress};
use crate::stage::StageContext;

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressMode {
    /// A bar on a terminal, else plain lines.
    #[default]
    Auto,
    /// A line every few seconds.
    Plain,
    /// A JSON object a line, every second.
    Json,
    /// Nothing.
    None,
}

/// What is shown at one moment.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Snapshot {
    /// Seconds since the start.
    pub elapsed_s: f64,
    /// Clips that have reached the end.
    pub clips: u64,
    /// Clips in all, as far as is known.
    pub of: u64,
    /// Clips a second so far.
    pub clips_per_s: f64,
    /// Seconds that the rest will take at this rate; none before the first clip is through.
    pub eta_s: Option<f64>,
    /// Clips on their way into a shard.
    pub kept: u64,
    /// Clips that were dropped.
    pub dropped: u64,
    /// Clips that have failed.
    pub failed: u64,
    /// Bytes of frames and decoders in flight.
    pub bytes_in_flight: u64,
    /// Stage that takes most of the processor time.
    pub bottleneck: Option<String>,
    /// Its share of the processor time of all cores, 0 to 1.
    pub bottleneck_share: f64,
    /// The cluster that does the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterView>,
}

impl Snapshot {
    /// The present state of a run.
    pub fn take(progress: &Progress, context: &StageContext) -> Self {
        let (settled, of) = (progress.settled(), progress.expected());
        let elapsed = progress.elapsed().as_secs_f64();
        let rate = settled.clips as f64 / elapsed.max(1e-9);
        let slowest = progress.bottleneck();
        let share = slowest
            .as_ref()
            .map_or(0.0, |stage| stage.busy.as_secs_f64() / (elapsed * context.cpu.threads() as f64).max(1e-9));
        Self {
            elapsed_s: round(elapsed),
            clips: settled.clips,
            of,
            clips_per_s: round(rate),
            eta_s: (settled.clips > 0).then(|| round((of - settled.clips) as f64 / rate)),
            kept: settled.kept,
            dropped: settled.dropped,
            failed: settled.failed,
            bytes_in_flight: context.memory_used(),
            bottleneck: slowest.map(|stage| stage.name),
            bottleneck_share: round(share.min(1.0)),
            cluster: progress.cluster(),
        }
    }

    fn details(&self) -> String {
        let slowest = self
            .bottleneck
            .as_ref()
            .map_or_else(String::new, |stage| format!(" · slowest: {stage} {:.0} %", self.bottleneck_share * 100.0));
        let place = match self.cluster {
            None => format!("{} in flight", HumanBytes(self.bytes_in_flight)),
            Some(ClusterView { executors, slots, lost, units, of_units }) => {
                let lost = if lost > 0 { format!(" ({lost} lost)") } else { String::new() };
                format!("units {units}/{of_units} · {executors} executors{lost}, {slots} slots")
            }
        };
        format!("kept {} · dropped {} · failed {} · {place}{slowest}", self.kept, self.dropped, self.failed)
    }
}

impl Shown for Snapshot {
    const UNIT: &'static str = "clips";

    fn done(&self) -> (u64, u64) {
        (self.clips, self.of)
    }

    fn message(&self) -> String {
        format!("{:.1}/s, {}\n  {}", self.clips_per_s, eta(self.eta_s), self.details())
    }

    fn line(&self) -> String {
        let left = left(self.eta_s);
        format!("{}/{} clips, {:.1}/s{left}; {}", self.clips, self.of, self.clips_per_s, self.details())
    }
}

/// To thousandths: what snapshots show.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The bars of this process; log lines are written above them.
fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
}

/// Standard error for log lines, which never run into a bar.
#[derive(Debug, Default)]
pub struct LogWriter(Vec<u8>);

/// Whether log lines are JSON as well, so that standard error is a stream of objects.
static JSON: AtomicBool = AtomicBool::new(false);

impl LogWriter {
    fn text(line: &[u8]) -> Vec<u8> {
        if !JSON.load(Ordering::Relaxed) {
            return line.to_vec();
        }
        let text = String::from_utf8_lossy(line);
        format!("{}\n", serde_json::json!({ "log": text.trim() })).into_bytes()
    }
}

/// Writes a line to standard error, past the bars.
fn write_line(line: &str) {
    // A closed standard error is no reason to end a run.
    let _ = bars().suspend(|| writeln!(std::io::stderr(), "{line}"));
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let line = std::mem::take(&mut self.0);
        if line.is_empty() {
            return Ok(());
        }
        let text = Self::text(&line);
        bars().suspend(|| std::io::stderr().write_all(&text))
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // There is nowhere left to report a closed standard error to.
        let _ = self.flush();
    }
}

/// What long work shows of itself at one moment; its fields are the JSON.
pub(crate) trait Shown: serde::Serialize {
    /// What is counted: `clips`.
    const UNIT: &'static str;

    /// How much is done, and of how much.
    fn done(&self) -> (u64, u64);

    /// What stands behind the bar, rate and ETA first.
    fn message(&self) -> String;

    /// A line that stands for itself.
    fn line(&self) -> String;
}

/// Shows progress until it is dropped.
pub async fn show(progress: Arc<Progress>, context: Arc<StageContext>, mode: ProgressMode) {
    show_states(|| Snapshot::take(&progress, &context), mode).await;
}

/// Shows states until it is dropped.
pub(crate) async fn show_states<S: Shown>(take: impl Fn() -> S, mode: ProgressMode) {
    match mode {
        ProgressMode::None => std::future::pending().await,
        ProgressMode::Auto if std::io::stderr().is_terminal() => show_bar(take).await,
        ProgressMode::Auto | ProgressMode::Plain => show_lines(Duration::from_secs(5), || take().line()).await,
        ProgressMode::Json => {
            logs_are_json();
            show_lines(Duration::from_secs(1), || serde_json::to_string(&take()).unwrap_or_default()).await;
        }
    }
}

/// From now on, log lines are JSON objects with the text under `log`.
fn logs_are_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Takes the bar off the terminal when the run is over, however it ended.
#[derive(Debug)]
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

async fn show_bar<S: Shown>(take: impl Fn() -> S) {
    let bar = Bar(bars().add(ProgressBar::new(0)));
    let template = format!("{{spinner}} [{{elapsed}}] {{bar:30.cyan/blue}} {{pos}}/{{len}} {}, {{msg}}", S::UNIT);
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.0.set_style(style);
    }
    loop {
        let state = take();
        let (done, of) = state.done();
        bar.0.set_length(of);
        bar.0.set_position(done);
        bar.0.set_message(state.message());
        bar.0.tick();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn show_lines(every: Duration, line: impl Fn() -> String) {
    loop {
        tokio::time::sleep(every).await;
        write_line(&line());
    }
}

/// Seconds that are left as people read them, for lines.
pub(crate) fn left(eta_s: Option<f64>) -> String {
    eta_s.map_or_else(String::new, |eta| format!(", {} left", HumanDuration(Duration::from_secs_f64(eta.min(1e9)))))
}

/// Seconds that are left, for bars.
pub(crate) fn eta(eta_s: Option<f64>) -> String {
    eta_s.map_or_else(|| "ETA -".to_owned(), |eta| format!("ETA {eta:.0} s"))
}

/// A bar for work that counts by itself, on a terminal only.
#[derive(Debug)]
pub struct Counter(ProgressBar);

/// Counts `what`, from nothing.
pub fn counter(mode: ProgressMode, what: &str) -> Counter {
    let bar = match mode {
        ProgressMode::Auto => bars().add(ProgressBar::new(0)),
        ProgressMode::Plain | ProgressMode::Json | ProgressMode::None => ProgressBar::hidden(),
    };
    let template = format!("{{spinner}} [{{elapsed}}] {{bar:30.cyan/blue}} {{pos}}/{{len}} {what}, ETA {{eta}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    Counter(bar)
}

impl Counter {
    /// Shows that `done` of `all` are done.
    pub fn set(&self, done: u64, all: u64) {
        self.0.set_length(all);
        self.0.set_position(done);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
