//! How far a run is: counters that every part of the engine adds to, and how they are shown.

pub mod display;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::dataset::{Counts, StageRun};
use crate::error::Result;
use crate::schema;
use crate::stage::ClipBatch;

/// Failed clips that are logged one by one.
const TOLD_FAILURES: u64 = 10;

/// Counters of a run.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    /// Clips that the manifest lists for this run; stages that split clips raise it as they go.
    expected: AtomicU64,
    kept: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    /// Clips of units that are done, by their receipts.
    done: Mutex<Counts>,
    units_done: AtomicU64,
    first_unit: Mutex<Option<Duration>>,
    units: AtomicU64,
    cluster: Mutex<Option<ClusterView>>,
    /// Failures that were told.
    told: AtomicU64,
    stages: Mutex<Vec<Option<Arc<StageCounters>>>>,
}

/// What is known of the cluster that a run is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ClusterView {
    /// Executors that are alive.
    pub executors: u64,
    /// Work units that they can do at once.
    pub slots: u64,
    /// Executors that were lost during the run.
    pub lost: u64,
    /// Work units that are done.
    pub units: u64,
    /// Work units of the run.
    pub of_units: u64,
}

/// Counters of a stage.
#[derive(Debug)]
pub struct StageCounters {
    name: String,
    kind: String,
    entered: AtomicU64,
    passed: AtomicU64,
    left: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    busy_ns: AtomicU64,
    memory: AtomicU64,
}

/// What the counters of a stage say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageView {
    /// Name of the stage.
    pub name: String,
    /// Kind of the stage.
    pub kind: String,
    /// Rows that it was given to handle.
    pub handled: u64,
    /// Rows that are inside.
    pub inside: u64,
    /// Rows that it dropped.
    pub dropped: u64,
    /// Rows that it failed.
    pub failed: u64,
    /// Bytes of the rows that left.
    pub bytes: u64,
    /// Processor time over all threads.
    pub busy: Duration,
    /// Most bytes of frames that it held at once.
    pub memory: u64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            expected: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            done: Mutex::default(),
            units_done: AtomicU64::new(0),
            first_unit: Mutex::default(),
            units: AtomicU64::new(0),
            cluster: Mutex::default(),
            told: AtomicU64::new(0),
            stages: Mutex::default(),
        }
    }
}

impl Progress {
    /// Since when the run goes.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sets how many clips the run will handle.
    pub fn expect(&self, clips: u64) {
        self.expected.store(clips, Ordering::Relaxed);
    }

    /// Sets how many work units the run will handle.
    pub fn expect_units(&self, units: u64) {
        self.units.store(units, Ordering::Relaxed);
    }

    /// Notes how many executors and slots there are; those that were there before and are not any more are lost.
    pub fn show_cluster(&self, now: ClusterView) {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        let before = cluster.unwrap_or(now);
        let lost = before.lost + before.executors.saturating_sub(now.executors);
        *cluster = Some(ClusterView { lost, ..now });
    }

    /// The cluster that the run is on; none where it is on this machine alone.
    pub fn cluster(&self) -> Option<ClusterView> {
        let cluster = *self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        let (units, of_units) = (self.units_done(), self.units.load(Ordering::Relaxed));
        cluster.map(|cluster| ClusterView { units, of_units, ..cluster })
    }

    /// A stage made so many more clips of those that it was given.
    pub fn expect_more(&self, clips: u64) {
        self.expected.fetch_add(clips, Ordering::Relaxed);
    }

    /// Clips that the run will handle, as far as is known.
    pub fn expected(&self) -> u64 {
        self.expected.load(Ordering::Relaxed).max(self.settled().clips)
    }

    /// The counters of stage number `index`.
    pub fn stage(&self, index: usize, name: &str, kind: &str) -> Arc<StageCounters> {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        if stages.len() <= index {
            stages.resize(index + 1, None);
        }
        let counters = stages[index].get_or_insert_with(|| {
            Arc::new(StageCounters {
                name: name.to_owned(),
                kind: kind.to_owned(),
                entered: AtomicU64::new(0),
                passed: AtomicU64::new(0),
                left: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                busy_ns: AtomicU64::new(0),
                memory: AtomicU64::new(0),
            })
        });
        Arc::clone(counters)
    }

    /// Adds what the stages did of a work unit somewhere else.
    pub fn add_stages(&self, stages: &[StageRun]) {
        for (index, stage) in stages.iter().enumerate() {
            self.stage(index, &stage.stage, &stage.kind).add(stage);
        }
    }

    /// Counts clips that have reached the end.
    pub fn settle(&self, kept: u64, dropped: u64, failed: u64) {
        self.kept.fetch_add(kept, Ordering::Relaxed);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }

    /// Counts a unit that is done.
    pub fn finish_unit(&self, counts: Counts) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).add(counts);
        self.units_done.fetch_add(1, Ordering::Relaxed);
        self.first_unit.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| self.started.elapsed());
    }

    /// Logs the failed clips of a batch, as long as they are few: all of them are in the metadata.
    pub fn tell_failures(&self, clips: &ClipBatch) -> Result<()> {
        let (fates, uris) = (clips.text(schema::FATE)?, clips.text(schema::URI)?);
        let (stages, reasons) = (clips.text(schema::FATE_STAGE)?, clips.text(schema::FATE_REASON)?);
        for row in (0..clips.rows()).filter(|row| fates.value(*row) == "failed") {
            match self.told.fetch_add(1, Ordering::Relaxed) {
                TOLD_FAILURES => {
                    tracing::warn!("more clips have failed; `simdrop sql DATASET -f failures` shows all of them")
                }
                number if number < TOLD_FAILURES => {
                    tracing::warn!("{}: {}: {}", uris.value(row), stages.value(row), reasons.value(row));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Clips that have reached the end, by fate.
    pub fn settled(&self) -> Counts {
        let (kept, dropped) = (self.kept.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed));
        let failed = self.failed.load(Ordering::Relaxed);
        Counts { clips: kept + dropped + failed, kept, dropped, failed }
    }

    /// Units that are done.
    pub fn units_done(&self) -> u64 {
        self.units_done.load(Ordering::Relaxed)
    }

    /// Time from the start to the first unit that was done.
    pub fn first_unit(&self) -> Option<Duration> {
        *self.first_unit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stages in the order of the flow.
    pub fn stages(&self) -> Vec<StageView> {
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.iter().flatten().map(|counters| counters.view()).collect()
    }

    /// The stage that takes most of the processor time: the one that holds the others back.
    pub fn bottleneck(&self) -> Option<StageView> {
        self.stages().into_iter().filter(|stage| !stage.busy.is_zero()).max_by_key(|stage| stage.busy)
    }
}

impl StageCounters {
    /// Counts rows that enter; settled ones only pass through.
    pub fn enter(&self, rows: usize, settled: bool) {
        self.entered.fetch_add(rows as u64, Ordering::Relaxed);
        if settled {
            self.passed.fetch_add(rows as u64, Ordering::Relaxed);
        }
    }

    /// Counts rows that leave, their bytes, and the nanoseconds of processor time since the last call.
    pub fn leave(&self, rows: usize, bytes: usize, busy_ns: u64) {
        self.left.fetch_add(rows as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.busy_ns.fetch_add(busy_ns, Ordering::Relaxed);
    }

    /// So many bytes of frames are held at this moment.
    pub fn hold(&self, bytes: u64) {
        self.memory.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Counts rows that the stage settled.
    pub fn settle(&self, dropped: u64, failed: u64) {
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }

    fn add(&self, stage: &StageRun) {
        let busy = Duration::try_from_secs_f64(stage.busy_s).unwrap_or_default();
        self.entered.fetch_add(stage.rows, Ordering::Relaxed);
        self.left.fetch_add(stage.rows, Ordering::Relaxed);
        self.bytes.fetch_add(stage.bytes, Ordering::Relaxed);
        self.busy_ns.fetch_add(busy.as_nanos() as u64, Ordering::Relaxed);
        self.settle(stage.dropped, stage.failed);
        self.hold(stage.memory);
    }

    fn view(&self) -> StageView {
        let (entered, passed) = (self.entered.load(Ordering::Relaxed), self.passed.load(Ordering::Relaxed));
        StageView {
            name: self.name.clone(),
            kind: self.kind.clone(),
            handled: entered - passed.min(entered),
            inside: entered.saturating_sub(self.left.load(Ordering::Relaxed)),
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            busy: Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed)),
            memory: self.memory.load(Ordering::Relaxed),
        }
    }
}

impl From<&StageView> for StageRun {
    fn from(view: &StageView) -> Self {
        let StageView { name, kind, handled, inside: _, dropped, failed, bytes, busy, memory } = view.clone();
        Self { stage: name, kind, rows: handled, dropped, failed, bytes, busy_s: busy.as_secs_f64(), memory }
    }
}
