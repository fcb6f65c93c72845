//! Where the bytes of a video come from: ranges, read on demand.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio_util::task::AbortOnDropHandle;

use super::VideoError;
use crate::storage::{self, Location};

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

/// The bytes at `location`, which have to be of the version that was `listed`, where one was. Blocks, so it belongs on a
/// thread for blocking work; that thread has to be one of a Tokio runtime unless the location is a local path.
pub fn open_source(location: &Location, listed: Option<&str>) -> Result<Box<dyn MediaSource>, VideoError> {
    if let Some(path) = location.local() {
        let source = FileSource::open(path)?;
        let version = storage::file_version(&source.file.metadata()?);
        return if listed.is_some_and(|listed| listed != version) {
            Err(VideoError::Changed)
        } else {
            Ok(Box::new(source))
        };
    }
    for _ in 0..LOOKS {
        let source = StoreSource::open(location)?;
        if listed.is_none_or(|listed| storage::is_version(&source.meta, listed)) {
            return Ok(Box::new(source));
        }
    }
    Err(VideoError::Changed)
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

/// How often a store is asked for an object's version before it is taken for another one than was listed.
const LOOKS: usize = 3;
/// Bytes of one request to an object store.
const BLOCK: u64 = 1 << 20;
/// Blocks that are kept: a small object is fetched once although it is read twice, to plan and to decode.
const KEPT: usize = 8;

/// Blocks that are fetched ahead where an object is read from one end to the other.
const AHEAD: u64 = 2;

/// An object in a store, fetched block by block; all of them are of the version that was opened.
#[derive(Debug)]
pub struct StoreSource {
    runtime: tokio::runtime::Handle,
    store: Arc<dyn ObjectStore>,
    path: object_store::path::Path,
    meta: ObjectMeta,
    /// The latest blocks, the last used one last.
    blocks: Vec<(u64, Bytes)>,
    /// Blocks on their way.
    ahead: Vec<(u64, AbortOnDropHandle<object_store::Result<Bytes>>)>,
    /// The block that was asked for last.
    last: u64,
}

impl StoreSource {
    /// Opens an object; blocks, on a thread of a Tokio runtime. Its first block comes with the answer.
    pub fn open(location: &Location) -> Result<Self, VideoError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let store = Arc::clone(location.store());
        let opened = runtime.block_on(open(store.as_ref(), location.path())).map_err(io::Error::from)?;
        let (meta, first) = opened;
        Ok(Self {
            runtime,
            store,
            path: location.path().clone(),
            meta,
            blocks: Vec::from_iter(first.map(|first| (0, first))),
            ahead: Vec::new(),
            last: 0,
        })
    }

    fn block(&mut self, number: u64) -> io::Result<Bytes> {
        let is_next = number == self.last + 1;
        self.last = number;
        if let Some(at) = self.blocks.iter().position(|(have, _)| *have == number) {
            let block = self.blocks.remove(at);
            self.blocks.push(block);
        } else {
            let request = match self.ahead.iter().position(|(coming, _)| *coming == number) {
                Some(at) => self.ahead.swap_remove(at).1,
                None => self.fetch(number),
            };
            let bytes = self.runtime.block_on(request)??;
            if self.blocks.len() == KEPT {
                self.blocks.remove(0);
            }
            self.blocks.push((number, bytes));
        }
        // What was meant to be next is not wanted any more after a jump.
        self.ahead.retain(|(coming, _)| (number..=number + AHEAD).contains(coming));
        if is_next {
            for next in number + 1..=number + AHEAD {
                let is_known = self.blocks.iter().any(|(have, _)| *have == next)
                    || self.ahead.iter().any(|(coming, _)| *coming == next);
                if next * BLOCK < self.meta.size && !is_known {
                    let request = self.fetch(next);
                    self.ahead.push((next, request));
                }
            }
        }
        Ok(self.blocks.last().map(|(_, bytes)| bytes.clone()).unwrap_or_default())
    }

    fn fetch(&self, number: u64) -> AbortOnDropHandle<object_store::Result<Bytes>> {
        let range = number * BLOCK..((number + 1) * BLOCK).min(self.meta.size);
        let (store, path, length) = (Arc::clone(&self.store), self.path.clone(), range.end - range.start);
        let options =
            GetOptions { range: Some(range.into()), if_match: self.meta.e_tag.clone(), ..GetOptions::default() };
        AbortOnDropHandle::new(self.runtime.spawn(async move {
            let bytes = store.get_opts(&path, options).await?.bytes().await?;
            if bytes.len() as u64 == length {
                return Ok(bytes);
            }
            let source = format!("{} of {length} bytes came", bytes.len()).into();
            Err(object_store::Error::Generic { store: "storage", source })
        }))
    }
}

/// Size and version of an object, and its first block; nothing of an empty one.
async fn open(
    store: &dyn ObjectStore,
    path: &object_store::path::Path,
) -> object_store::Result<(ObjectMeta, Option<Bytes>)> {
    let options = GetOptions { range: Some((0..BLOCK).into()), ..GetOptions::default() };
    match store.get_opts(path, options).await {
        Ok(opened) => {
            let (meta, wanted) = (opened.meta.clone(), opened.range.end - opened.range.start);
            let first = opened.bytes().await?;
            Ok((meta, Some(first).filter(|first| first.len() as u64 == wanted)))
        }
        Err(error @ object_store::Error::NotFound { .. }) => Err(error),
        // Nothing can be had of an empty object, and some servers know no ranges at all. An answer to HEAD has no body: the
        // first error says more.
        Err(error) => store.head(path).await.map(|meta| (meta, None)).map_err(|_| error),
    }
}

impl MediaSource for StoreSource {
    fn len(&self) -> u64 {
        self.meta.size
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.meta.size {
            return Ok(0);
        }
        let block = self.block(offset / BLOCK)?;
        let rest = block.get((offset % BLOCK) as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}
