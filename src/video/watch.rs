//! Limits on what a video may cost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::VideoError;
use crate::stage::decode::config::HwAccel;

/// Asked again and again while a video is read; true ends the reading.
#[derive(Clone)]
pub struct StopSignal(Arc<dyn Fn() -> bool + Send + Sync>);

impl StopSignal {
    /// A signal that asks `stop`.
    pub fn new(stop: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(stop))
    }

    /// Whether to stop.
    pub(super) fn is_on(&self) -> bool {
        (self.0)()
    }

    /// Never stops.
    pub fn never() -> Self {
        Self::new(|| false)
    }
}

impl fmt::Debug for StopSignal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StopSignal")
    }
}

/// Limits on what a video may cost, and what may be used on it.
#[derive(Debug, Clone)]
pub struct Caps {
    /// Most pixels in a frame, width × height.
    pub max_pixels: u64,
    /// Longest clip in seconds.
    pub max_duration_s: f64,
    /// Longest time that reading and decoding may take, waiting between the calls not counted.
    pub timeout: Duration,
    /// Hardware decoding.
    pub hwaccel: HwAccel,
    /// Number of the GPU.
    pub device: u32,
    /// Ends the reading.
    pub stop: StopSignal,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            max_pixels: 8192 * 8192,
            max_duration_s: 6.0 * 3600.0,
            timeout: Duration::from_secs(300),
            hwaccel: HwAccel::None,
            device: 0,
            stop: StopSignal::never(),
        }
    }
}

/// Counts the time of the calls, and asks whether to go on.
#[derive(Debug)]
pub(super) struct Watch {
    limit: Duration,
    stop: StopSignal,
    epoch: Instant,
    /// Nanoseconds of finished calls.
    spent: AtomicU64,
    /// Start of the call that runs, nanoseconds after `epoch`.
    since: AtomicU64,
}

impl Watch {
    pub(super) fn new(caps: &Caps) -> Arc<Self> {
        Arc::new(Self {
            limit: caps.timeout,
            stop: caps.stop.clone(),
            epoch: Instant::now(),
            spent: AtomicU64::new(0),
            since: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Starts a call; its time counts until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Call {
        self.since.store(self.now(), Ordering::Relaxed);
        Call(Arc::clone(self))
    }

    /// Whether to go on.
    pub(super) fn check(&self) -> Result<(), VideoError> {
        if self.stop.is_on() {
            return Err(VideoError::Stopped);
        }
        let running = self.now().saturating_sub(self.since.load(Ordering::Relaxed));
        let spent = Duration::from_nanos(self.spent.load(Ordering::Relaxed) + running);
        if spent > self.limit { Err(VideoError::Timeout(self.limit)) } else { Ok(()) }
    }
}

/// A call that runs.
#[derive(Debug)]
pub(super) struct Call(Arc<Watch>);

impl Drop for Call {
    fn drop(&mut self) {
        let running = self.0.now().saturating_sub(self.0.since.load(Ordering::Relaxed));
        self.0.spent.fetch_add(running, Ordering::Relaxed);
    }
}
