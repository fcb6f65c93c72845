//! How far a training has come.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::progress::display::{Shown, eta, left, round};

/// Counts of a training.
#[derive(Debug)]
pub struct TrainProgress {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    started: Instant,
    first: u64,
    step: u64,
    steps: u64,
    clips_per_step: u64,
    loss: f64,
    waited_s: f64,
    validation: Option<f64>,
}

impl Default for TrainProgress {
    fn default() -> Self {
        let state = State {
            started: Instant::now(),
            first: 0,
            step: 0,
            steps: 0,
            clips_per_step: 0,
            loss: 0.0,
            waited_s: 0.0,
            validation: None,
        };
        Self { state: Mutex::new(state) }
    }
}

/// What is shown at one moment.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TrainSnapshot {
    /// Seconds since the first step of this run.
    pub elapsed_s: f64,
    /// Steps that are done, earlier runs included.
    pub step: u64,
    /// Steps in all.
    pub of: u64,
    /// Running mean of the loss.
    pub loss: f64,
    /// The last loss of the clips that are held out.
    pub validation_loss: Option<f64>,
    /// Steps a second in this run.
    pub steps_per_s: f64,
    /// Clips a second in this run.
    pub clips_per_s: f64,
    /// Share of the time in which the device waited for data.
    pub wait_share: f64,
    /// Seconds that the rest will take at this rate.
    pub eta_s: Option<f64>,
}

impl TrainProgress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first step of this run begins, behind `done` of `steps`.
    pub(super) fn begin(&self, done: u64, steps: u64, clips_per_step: u64) {
        let mut state = self.state();
        state.started = Instant::now();
        (state.first, state.step, state.steps, state.clips_per_step) = (done, done, steps, clips_per_step);
    }

    /// A step is done.
    pub(super) fn step(&self, step: u64, loss: f64, waited_s: f64) {
        let mut state = self.state();
        (state.step, state.loss, state.waited_s) = (step, loss, waited_s);
    }

    /// The clips that are held out were looked at.
    pub(super) fn validated(&self, loss: f64) {
        self.state().validation = Some(loss);
    }

    /// The present state.
    pub fn snapshot(&self) -> TrainSnapshot {
        let state = self.state();
        let elapsed = state.started.elapsed().as_secs_f64();
        let done = (state.step - state.first) as f64;
        let rate = done / elapsed.max(1e-9);
        TrainSnapshot {
            elapsed_s: round(elapsed),
            step: state.step,
            of: state.steps,
            loss: state.loss,
            validation_loss: state.validation,
            steps_per_s: round(rate),
            clips_per_s: round(rate * state.clips_per_step as f64),
            wait_share: round((state.waited_s / elapsed.max(1e-9)).min(1.0)),
            eta_s: (done > 0.0).then(|| round((state.steps - state.step) as f64 / rate)),
        }
    }
}

impl Shown for TrainSnapshot {
    const UNIT: &'static str = "steps";

    fn done(&self) -> (u64, u64) {
        (self.step, self.of)
    }

    fn message(&self) -> String {
        format!("{:.1}/s, {}\n  {}", self.steps_per_s, eta(self.eta_s), self.details())
    }

    fn line(&self) -> String {
        format!("{}/{} steps, {:.1}/s{}; {}", self.step, self.of, self.steps_per_s, left(self.eta_s), self.details())
    }
}

impl TrainSnapshot {
    fn details(&self) -> String {
        let held_out = self.validation_loss.map_or_else(String::new, |loss| format!(" · held out {loss:.4}"));
        format!("loss {:.4}{held_out} · waited for data {:.0} %", self.loss, self.wait_share * 100.0)
    }
}
