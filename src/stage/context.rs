//! What operators share: storage, models, processor time, memory and the signal to stop.

mod pool;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::buffer::Buffer;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use self::pool::CpuPool;
use crate::error::{Error, Result};
use crate::model::ModelRegistry;
use crate::storage::Storage;
use crate::video::Videos;

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
    /// DataFusion's account of memory.
    pool: Arc<dyn MemoryPool>,
    /// Bytes that frames may take at once, over all stages.
    frames: usize,
    budgets: Arc<Mutex<HashMap<usize, MemoryBudget>>>,
    /// Opens videos.
    pub videos: Videos,
    /// Ends everything.
    pub cancel: CancellationToken,
}

impl StageContext {
    /// What operators share in a process that computes on `threads` cores within `memory` bytes.
    pub fn new(storage: Storage, models: Arc<ModelRegistry>, cpu: CpuPool, memory: usize) -> Self {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(memory));
        Self {
            storage,
            models,
            cpu,
            workspace: MemoryBudget::in_pool(memory / 4, &pool, "decoders"),
            pool,
            frames: memory / 2,
            budgets: Arc::default(),
            videos: Videos::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// The same, with videos opened by `videos`.
    pub fn with_videos(self, videos: Videos) -> Self {
        Self { videos, ..self }
    }

    /// The same for one task among several, which `cancel` ends without the others.
    pub fn for_task(&self, cancel: CancellationToken) -> Self {
        let Self { storage, models, cpu, workspace, pool, frames, budgets, videos, cancel: _ } = self;
        Self {
            storage: storage.clone(),
            models: Arc::clone(models),
            cpu: cpu.clone(),
            workspace: workspace.clone(),
            pool: Arc::clone(pool),
            frames: *frames,
            budgets: Arc::clone(budgets),
            videos: videos.clone(),
            cancel,
        }
    }

    /// The memory for frames of stage number `index`, where `shares` stages make frames.
    ///
    /// Each of them has a part of its own: one that had to wait for what the stage before it holds would wait for ever.
    pub fn frames_budget(&self, index: usize, shares: usize) -> MemoryBudget {
        let budgets = self.budgets.lock();
        let mut budgets = budgets.unwrap_or_else(PoisonError::into_inner);
        budgets
            .entry(index)
            .or_insert_with(|| {
                MemoryBudget::in_pool(self.frames / shares.max(1), &self.pool, format!("frames of stage {index}"))
            })
            .clone()
    }

    /// DataFusion's account of memory.
    pub fn pool(&self) -> &Arc<dyn MemoryPool> {
        &self.pool
    }

    /// Bytes of frames and of working sets that are in flight.
    pub fn memory_used(&self) -> u64 {
        let budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.values().map(MemoryBudget::used).sum::<u64>() + self.workspace.used()
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
    /// Where DataFusion accounts for it, and under which name.
    account: Option<(Arc<dyn MemoryPool>, String)>,
}

impl MemoryBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let granule = 4096;
        let total = u32::try_from(bytes / granule).unwrap_or(u32::MAX).max(1);
        Self { permits: Arc::new(Semaphore::new(total as usize)), granule, total, used: Arc::default(), account: None }
    }

    /// A budget of `bytes` that is reserved in DataFusion's pool as it is taken.
    pub fn in_pool(bytes: usize, pool: &Arc<dyn MemoryPool>, name: impl Into<String>) -> Self {
        Self { account: Some((Arc::clone(pool), name.into())), ..Self::new(bytes) }
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
        let reservation = match &self.account {
            Some((pool, name)) => {
                let reservation = MemoryConsumer::new(name).register(pool);
                reservation.try_grow(permits as usize * self.granule)?;
                Some(reservation)
            }
            None => None,
        };
        self.used.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(Lease { _permit: permit, _reservation: reservation, bytes: bytes as u64, used: Arc::clone(&self.used) })
    }
}

/// Bytes of a [`MemoryBudget`], given back on drop.
#[derive(Debug)]
pub struct Lease {
    _reservation: Option<MemoryReservation>,
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
    turn: Mutex<Option<Turn>>,
    busy: Arc<AtomicU64>,
}

/// Memory is handed out in the order of the calls: a later call that held memory while an earlier one waits for it
/// could never give it back, since results leave in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue(Arc<QueueState>);

#[derive(Debug, Default)]
struct QueueState {
    /// The turn that is on, and the later ones that are over already.
    turns: Mutex<(u64, BTreeSet<u64>)>,
    changed: tokio::sync::Notify,
}

/// A place in a [`Queue`]; it is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    number: u64,
    queue: Queue,
}

impl Queue {
    /// The place with this number; each is taken once, from 0 upward.
    pub(crate) fn turn(&self, number: u64) -> Turn {
        Turn { number, queue: self.clone() }
    }
}

impl Turn {
    async fn wait(&self) {
        loop {
            let changed = self.queue.0.changed.notified();
            if self.queue.0.turns.lock().is_ok_and(|turns| turns.0 == self.number) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Ok(mut turns) = self.queue.0.turns.lock() {
            turns.1.insert(self.number);
            while let (next, true) = (turns.0, turns.1.contains(&turns.0)) {
                turns.1.remove(&next);
                turns.0 += 1;
            }
        }
        self.queue.0.changed.notify_waiters();
    }
}

impl StageTask {
    pub(crate) fn new(context: Arc<StageContext>, budget: MemoryBudget, turn: Turn, busy: Arc<AtomicU64>) -> Self {
        Self { context, budget, turn: Mutex::new(Some(turn)), busy }
    }

    /// A task on its own, for tests and benches.
    pub fn alone(context: Arc<StageContext>) -> Self {
        Self::new(context, MemoryBudget::new(1 << 30), Queue::default().turn(0), Arc::default())
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
        let taken = async {
            if let Some(turn) = &turn {
                turn.wait().await;
            }
            self.budget.take(bytes).await
        };
        tokio::select! {
            lease = taken => Ok(Arc::new(lease?)),
            () = self.context.cancel.cancelled() => Err(Error::Cancelled),
        }
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

#[cfg(test)]
mod tests;
