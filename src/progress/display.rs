//! How a run's progress is shown: a bar on a terminal, a plain line now and then, or JSON lines for machines; all on
//! standard error.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Progress;
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
        }
    }

    fn line(&self) -> String {
        let eta = self
            .eta_s
            .map_or_else(String::new, |eta| format!(", {} left", HumanDuration(Duration::from_secs_f64(eta.min(1e9)))));
        format!("{}/{} clips, {:.1}/s{eta}; {}", self.clips, self.of, self.clips_per_s, self.details())
    }

    fn details(&self) -> String {
        let slowest = self
            .bottleneck
            .as_ref()
            .map_or_else(String::new, |stage| format!(" · slowest: {stage} {:.0} %", self.bottleneck_share * 100.0));
        format!(
            "kept {} · dropped {} · failed {} · {} in flight{slowest}",
            self.kept,
            self.dropped,
            self.failed,
            HumanBytes(self.bytes_in_flight)
        )
    }
}

/// To thousandths: what snapshots show.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The bars of this process; log lines are written above them.
pub(crate) fn bars() -> &'static MultiProgress {
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
pub(crate) fn write_line(line: &str) {
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

/// Shows progress until it is dropped.
pub async fn show(progress: Arc<Progress>, context: Arc<StageContext>, mode: ProgressMode) {
    match mode {
        ProgressMode::None => std::future::pending().await,
        ProgressMode::Auto if std::io::stderr().is_terminal() => show_bar(&progress, &context).await,
        ProgressMode::Auto | ProgressMode::Plain => {
            show_lines(&progress, &context, Duration::from_secs(5), Snapshot::line).await;
        }
        ProgressMode::Json => {
            logs_are_json();
            let json = |snapshot: &Snapshot| serde_json::to_string(snapshot).unwrap_or_default();
            show_lines(&progress, &context, Duration::from_secs(1), json).await;
        }
    }
}

/// From now on, log lines are JSON objects with the text under `log`.
pub(crate) fn logs_are_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Takes the bar off the terminal when the run is over, however it ended.
#[derive(Debug)]
pub(crate) struct Bar(pub(crate) ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

async fn show_bar(progress: &Progress, context: &StageContext) {
    let bar = Bar(bars().add(ProgressBar::new(0)));
    let template = "{spinner} [{elapsed}] {bar:30.cyan/blue} {pos}/{len} clips, {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.0.set_style(style);
    }
    loop {
        let snapshot = Snapshot::take(progress, context);
        bar.0.set_length(snapshot.of);
        bar.0.set_position(snapshot.clips);
        let eta = snapshot.eta_s.map_or_else(|| "-".to_owned(), |eta| format!("{eta:.0} s"));
        bar.0.set_message(format!("{:.1}/s, ETA {eta}\n  {}", snapshot.clips_per_s, snapshot.details()));
        bar.0.tick();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn show_lines(
    progress: &Progress,
    context: &StageContext,
    every: Duration,
    render: impl Fn(&Snapshot) -> String,
) {
    loop {
        tokio::time::sleep(every).await;
        write_line(&render(&Snapshot::take(progress, context)));
    }
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
