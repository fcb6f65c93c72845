//! What operators share: storage, models, processor time, memory and the signal to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::buffer::Buffer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::ModelRegistry;
use crate::storage::Storage;

/// What the operators of one process share.
#[derive(Debug)]
pub struct StageContext {
    /// Object stores.
    pub storage: Storage,
    /// ONNX Runtime sessions.
    pub models: Arc<ModelRegistry>,
    /// Processor time.
    pub cpu: CpuPool,
    /// Bytes that the working sets of decoders may take at once.
    pub workspace: MemoryBudget,
    /// Ends everything.
    pub cancel: CancellationToken,
}

/// Permission to compute: as many tasks at once as there are cores, so that decoders and models together fill the
/// cores and do not fight over them.
#[derive(Debug, Clone)]
pub struct CpuPool {
    permits: Arc<Semaphore>,
    threads: usize,
}

impl CpuPool {
    /// A pool for `threads` tasks at once.
    pub fn new(threads: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(threads)), threads }
    }

    /// Tasks at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs blocking work on a thread of its own as soon as a core is free; returns what it made and how long it ran.
    pub async fn run<T, F>(&self, work: F) -> Result<(T, Duration)>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(Error::internal)?;
        let handle = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            let made = work();
            drop(permit);
            (made, start.elapsed())
        });
        handle.await.map_err(|error| Error::internal(format!("a worker thread panicked: {error}")))
    }
}

/// A bound on bytes: whoever asks waits, first come first served, until others have given back.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    permits: Arc<Semaphore>,
    /// Permits are of this many bytes, since a semaphore counts in 32 bits.
    granule: usize,
    total: u32,
    used: Arc<AtomicU64>,
}

impl MemoryBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let granule = 4096;
        let total = u32::try_from(bytes / granule).unwrap_or(u32::MAX).max(1);
        Self { permits: Arc::new(Semaphore::new(total as usize)), granule, total, used: Arc::default() }
    }

    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.total as usize * self.granule
    }

    /// Bytes handed out.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, waiting for them; more than the whole budget is taken as the whole budget, so that an outsize
    /// clip runs alone.
    pub async fn take(&self, bytes: usize) -> Result<Lease> {
        let permits = u32::try_from(bytes.div_ceil(self.granule)).unwrap_or(u32::MAX).min(self.total);
        let permit = Arc::clone(&self.permits).acquire_many_owned(permits).await.map_err(Error::internal)?;
        self.used.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(Lease { _permit: permit, bytes: bytes as u64, used: Arc::clone(&self.used) })
    }
}

/// Bytes of a [`MemoryBudget`], given back on drop.
#[derive(Debug)]
pub struct Lease {
    _permit: OwnedSemaphorePermit,
    bytes: u64,
    used: Arc<AtomicU64>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes that keep their lease; several buffers can share one.
#[derive(Debug)]
struct Leased {
    data: Vec<u8>,
    _lease: Arc<Lease>,
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// An Arrow buffer over `data`, without a copy, that gives `lease` back when the last of its users is gone.
pub fn leased_buffer(data: Vec<u8>, lease: &Arc<Lease>) -> Buffer {
    Buffer::from(bytes::Bytes::from_owner(Leased { data, _lease: Arc::clone(lease) }))
}

/// One call of an operator: how it takes processor time and memory.
#[derive(Debug)]
pub struct StageTask {
    context: Arc<StageContext>,
    budget: MemoryBudget,
    turn: std::sync::Mutex<Turn>,
    busy: Arc<AtomicU64>,
}

/// Memory is handed out in the order of the calls: a later call that held memory while an earlier one waits for it
/// could never give it back, since results leave in order.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) before: Option<oneshot::Receiver<()>>,
    pub(crate) after: Option<oneshot::Sender<()>>,
}

impl StageTask {
    pub(crate) fn new(context: Arc<StageContext>, budget: MemoryBudget, turn: Turn, busy: Arc<AtomicU64>) -> Self {
        Self { context, budget, turn: std::sync::Mutex::new(turn), busy }
    }

    /// A task on its own, for tests and benches.
    pub fn alone(context: Arc<StageContext>) -> Self {
        Self::new(context, MemoryBudget::new(1 << 30), Turn::default(), Arc::default())
    }

    /// What operators share.
    pub fn context(&self) -> &Arc<StageContext> {
        &self.context
    }

    /// Runs blocking work on a thread of its own as soon as a core is free.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if self.cancelled() {
            return Err(Error::Cancelled);
        }
        let (made, took) = self.context.cpu.run(work).await?;
        self.credit(took);
        Ok(made)
    }

    /// Counts processor time that was spent for this stage elsewhere, such as in a model shared with others.
    pub fn credit(&self, took: Duration) {
        self.busy.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Takes memory for rows that leave this stage, once a call; waits until the calls before have theirs.
    ///
    /// The largest that can be asked for is [`StageTask::most_memory`].
    pub async fn reserve(&self, bytes: usize) -> Result<Arc<Lease>> {
        let turn = std::mem::take(&mut *self.turn.lock().map_err(Error::internal)?);
        if let Some(before) = turn.before {
            // The sender is dropped where the call before needs no memory: that is a turn as well.
            let _ = before.await;
        }
        let lease = tokio::select! {
            lease = self.budget.take(bytes) => lease?,
            () = self.context.cancel.cancelled() => return Err(Error::Cancelled),
        };
        drop(turn.after);
        Ok(Arc::new(lease))
    }

    /// Most bytes that one clip may take in this stage.
    pub fn most_memory(&self) -> usize {
        self.budget.bytes()
    }

    /// Whether the run is being stopped.
    pub fn cancelled(&self) -> bool {
        self.context.cancel.is_cancelled()
    }
}
