//! How far a render has come, and how that is shown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::progress::display::{ProgressMode, Shown, eta, left, round, show_states};

/// Counts of a render.
#[derive(Debug)]
pub struct RenderProgress {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    clips: u64,
    rendered: u64,
    failed: u64,
    frames: u64,
    frames_per_clip: u64,
    /// Frames of the scenes under way.
    open: HashMap<String, u64>,
}

/// What is shown at one moment.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct RenderSnapshot {
    /// Seconds since the start.
    pub elapsed_s: f64,
    /// Clips that are done, failed ones included.
    pub clips: u64,
    /// Clips to render.
    pub of: u64,
    /// Frames a second of all workers.
    pub frames_per_s: f64,
    /// Seconds that the rest will take at this rate.
    pub eta_s: Option<f64>,
    /// Clips that have failed.
    pub failed: u64,
}

impl Default for RenderProgress {
    fn default() -> Self {
        Self { started: Instant::now(), state: Mutex::default() }
    }
}

impl RenderProgress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many clips of so many frames are to come.
    pub(super) fn expect(&self, clips: u64, frames_per_clip: u64) {
        let mut state = self.state();
        (state.clips, state.frames_per_clip) = (clips, frames_per_clip);
    }

    /// A frame of a scene is there.
    pub(super) fn frame(&self, scene: &str) {
        let mut state = self.state();
        state.frames += 1;
        *state.open.entry(scene.to_owned()).or_default() += 1;
    }

    /// A scene begins again.
    pub(super) fn again(&self, scene: &str) {
        let mut state = self.state();
        let lost = state.open.remove(scene).unwrap_or_default();
        state.frames -= lost;
    }

    /// A scene is done.
    pub(super) fn settle(&self, scene: &str, failed: bool) {
        let mut state = self.state();
        state.open.remove(scene);
        if failed { state.failed += 1 } else { state.rendered += 1 }
    }

    /// The present state.
    pub fn snapshot(&self) -> RenderSnapshot {
        let state = self.state();
        let elapsed = self.started.elapsed().as_secs_f64();
        let clips = state.rendered + state.failed;
        let open: u64 = state.open.values().sum();
        let rate = state.frames as f64 / elapsed.max(1e-9);
        let left = ((state.clips - clips) * state.frames_per_clip).saturating_sub(open);
        RenderSnapshot {
            elapsed_s: round(elapsed),
            clips,
            of: state.clips,
            frames_per_s: round(rate),
            eta_s: (state.frames > 0).then(|| round(left as f64 / rate)),
            failed: state.failed,
        }
    }
}

impl Shown for RenderSnapshot {
    const UNIT: &'static str = "clips";

    fn done(&self) -> (u64, u64) {
        (self.clips, self.of)
    }

    fn message(&self) -> String {
        format!("{:.2} frames/s, {}, failed {}", self.frames_per_s, eta(self.eta_s), self.failed)
    }

    fn line(&self) -> String {
        let left = left(self.eta_s);
        format!("{}/{} clips, {:.2} frames/s{left}; failed {}", self.clips, self.of, self.frames_per_s, self.failed)
    }
}

/// Shows progress until it is dropped.
pub async fn show(progress: Arc<RenderProgress>, mode: ProgressMode) {
    show_states(|| progress.snapshot(), mode).await;
}
