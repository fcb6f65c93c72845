//! The threads that compute.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Threads that compute: as many tasks at once as there are cores, so that decoders and models together fill the cores
/// and do not fight over them.
///
/// A thread that has ended a task takes the next one itself: to wake somebody for each would leave the cores idle for
/// a sixth of the time where tasks take milliseconds. With nothing left to do it goes back to the runtime.
#[derive(Debug, Clone)]
pub struct CpuPool {
    tasks: Arc<Mutex<Tasks>>,
    threads: usize,
}

/// What waits for a core, first come first served.
#[derive(Default)]
struct Tasks {
    waiting: VecDeque<Box<dyn FnOnce() + Send>>,
    /// Threads that look for tasks.
    running: usize,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("waiting", &self.waiting.len()).field("running", &self.running).finish()
    }
}

impl CpuPool {
    /// A pool for `threads` tasks at once.
    pub fn new(threads: usize) -> Self {
        Self { tasks: Arc::default(), threads }
    }

    /// Tasks at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Cores that nothing runs on, nor waits for.
    pub fn spare(&self) -> usize {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        self.threads.saturating_sub(tasks.running + tasks.waiting.len())
    }

    /// Runs blocking work as soon as a core is free; returns what it made and how long it ran. Where the future is
    /// dropped before that, the work is not begun.
    pub async fn run<T, F>(&self, work: F) -> Result<(T, Duration)>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, made) = oneshot::channel();
        self.push(Box::new(move || {
            if !sender.is_closed() {
                let start = Instant::now();
                let made = catch_unwind(AssertUnwindSafe(work));
                // The caller may be gone.
                let _ = sender.send(made.map(|made| (made, start.elapsed())).map_err(|panic| panic_text(&*panic)));
            }
        }));
        match made.await {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(panic)) => Err(Error::internal(format!("a worker thread panicked: {panic}"))),
            Err(_) => Err(Error::Cancelled),
        }
    }

    fn push(&self, task: Box<dyn FnOnce() + Send>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.waiting.push_back(task);
        if tasks.running < self.threads {
            tasks.running += 1;
            let tasks = Arc::clone(&self.tasks);
            tokio::task::spawn_blocking(move || {
                while let Some(task) = next(&tasks) {
                    task();
                }
            });
        }
    }
}

/// The next task; with none the thread is no longer counted, under the same lock, so that no task is left alone.
fn next(tasks: &Mutex<Tasks>) -> Option<Box<dyn FnOnce() + Send>> {
    let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    let task = tasks.waiting.pop_front();
    tasks.running -= usize::from(task.is_none());
    task
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
