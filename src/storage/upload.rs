//! Writing one object whose bytes come by and by.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use tokio::io::AsyncWriteExt;
use tokio_util::task::TaskTracker;

use super::Location;
use crate::error::{Error, Result};

/// Longest time that ended uploads are waited for.
const SETTLE: Duration = Duration::from_secs(10);

/// An object that is being written, in parts where it is a large one; it is there in one step once it is finished. One
/// that is dropped leaves nothing: an object store is told to forget the parts.
#[derive(Debug)]
pub struct Upload {
    location: Location,
    writer: Option<BufWriter>,
    bytes: u64,
    aborts: TaskTracker,
}

impl Upload {
    pub(super) fn new(location: &Location, part: usize, aborts: TaskTracker) -> Self {
        let writer = BufWriter::with_capacity(Arc::clone(location.store()), location.path().clone(), part);
        // Two parts at once hide the latency of a store; more would only hold more memory.
        Self { location: location.clone(), writer: Some(writer.with_max_concurrency(2)), bytes: 0, aborts }
    }

    /// Writes bytes without a copy.
    pub async fn put(&mut self, bytes: Bytes) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Err(Error::internal("an upload that has ended")) };
        self.bytes += bytes.len() as u64;
        writer.put(bytes).await.map_err(Error::storage("write", self.location.uri()))
    }

    /// Makes the object visible.
    pub async fn finish(mut self) -> Result<()> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        let Err(error) = writer.shutdown().await else { return Ok(()) };
        // A store whose answer is lost is asked again, and then knows of no such upload: it has become the object.
        if self.location.local().is_none()
            && let Ok(object) = self.location.store().head(self.location.path()).await
            && object.size == self.bytes
        {
            return Ok(());
        }
        let source = error.downcast().unwrap_or_else(|error: std::io::Error| object_store::Error::Generic {
            store: "upload",
            source: Box::new(error),
        });
        Err(Error::storage("write", self.location.uri())(source))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut writer) = self.writer.take().filter(|_| self.location.local().is_none() && self.bytes > 0) else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // A store that cannot be reached keeps the parts, out of sight, until its own rule clears them away.
            self.aborts.spawn_on(async move { drop(writer.abort().await) }, &runtime);
        }
    }
}

/// Waits until all uploads that were dropped are forgotten, for some seconds at most.
pub(super) async fn settle(aborts: &TaskTracker) {
    aborts.close();
    let _ = tokio::time::timeout(SETTLE, aborts.wait()).await;
    aborts.reopen();
}
