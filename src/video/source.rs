//! Where the bytes of a video come from: ranges, read on demand.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt};

use super::VideoError;
use crate::storage::Location;

/// Bytes of a video. Reads block.
pub trait MediaSource: Debug + Send {
    /// Number of bytes.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads at `offset` into `buffer`, as much as comes at once; 0 at the end.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// The bytes at `location`. Blocks, so it belongs on a thread for blocking work; that thread has to be one of a Tokio
/// runtime unless the location is a local path.
pub fn open_source(location: &Location) -> Result<Box<dyn MediaSource>, VideoError> {
    match location.local() {
        Some(path) => Ok(Box::new(FileSource::open(path)?)),
        None => Ok(Box::new(StoreSource::open(location)?)),
    }
}

/// A file of this machine.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
}

impl FileSource {
    /// Opens a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Asked before it is opened: opening a pipe waits for somebody to write to it.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

impl MediaSource for FileSource {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

/// Bytes in memory.
#[derive(Debug, Clone)]
pub struct BytesSource(Bytes);

impl BytesSource {
    /// A source over `bytes`.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }
}

impl MediaSource for BytesSource {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// Bytes of one request to an object store.
const BLOCK: u64 = 1 << 20;
/// Blocks that are kept: a small object is fetched once although it is read twice, to plan and to decode.
const KEPT: usize = 8;

/// An object in a store, fetched block by block.
#[derive(Debug)]
pub struct StoreSource {
    runtime: tokio::runtime::Handle,
    store: Arc<dyn ObjectStore>,
    path: object_store::path::Path,
    length: u64,
    /// The latest blocks, the last used one last.
    blocks: Vec<(u64, Bytes)>,
}

impl StoreSource {
    /// Opens an object; blocks, on a thread of a Tokio runtime.
    pub fn open(location: &Location) -> Result<Self, VideoError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let store = Arc::clone(location.store());
        let length = runtime.block_on(store.head(location.path())).map_err(io::Error::from)?.size;
        Ok(Self { runtime, store, path: location.path().clone(), length, blocks: Vec::new() })
    }

    fn block(&mut self, number: u64) -> io::Result<Bytes> {
        if let Some(at) = self.blocks.iter().position(|(have, _)| *have == number) {
            let block = self.blocks.remove(at);
            self.blocks.push(block);
        } else {
            let range: Range<u64> = number * BLOCK..((number + 1) * BLOCK).min(self.length);
            let bytes = self.runtime.block_on(self.store.get_range(&self.path, range))?;
            if self.blocks.len() == KEPT {
                self.blocks.remove(0);
            }
            self.blocks.push((number, bytes));
        }
        Ok(self.blocks.last().map(|(_, bytes)| bytes.clone()).unwrap_or_default())
    }
}

impl MediaSource for StoreSource {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.length {
            return Ok(0);
        }
        let block = self.block(offset / BLOCK)?;
        let rest = block.get((offset % BLOCK) as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}
