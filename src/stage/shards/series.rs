//! A numbered series of shards on storage.
//!
//! Enters: samples, one after the other. Leaves: `<folder>/<stem>-000000.tar` upward without gaps, none of them empty,
//! each hashed while it is written and made visible in one step when it is complete. Memory is bounded whatever the
//! size of samples and shards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::{GetOptions, GetRange};

use super::sample;
use crate::dataset::ShardEntry;
use crate::error::{Error, Result};
use crate::stage::context::CpuPool;
use crate::storage::{Location, Upload};

/// Bytes that are read, copied or hashed at once.
pub(crate) const CHUNK: usize = 4 << 20;
/// Least bytes in a part of an upload; parts grow with the shards, since stores take 10,000 of them.
const PART: usize = 8 << 20;
/// What is at most this long is held whole; what is longer is streamed.
pub(crate) const WHOLE: u64 = 16 << 20;
/// Below this, hashing is shorter than the way to another thread.
const HASHED_INLINE: usize = 128 << 10;

/// How large a shard gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShardLimits {
    /// Most samples.
    pub(crate) samples: u64,
    /// Most bytes; one sample may pass it.
    pub(crate) bytes: u64,
}

/// What is in a member.
#[derive(Debug)]
pub(crate) enum Content {
    /// These bytes, which may stay in the upload's buffer for long.
    Owned(Bytes),
    /// A header, and bytes that are copied at once: frames, whose memory the stages before wait for.
    Frames(Bytes, Bytes),
    /// A range of a file, streamed.
    File(FileRange),
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Self::Owned(bytes) => bytes.len() as u64,
            Self::Frames(header, data) => (header.len() + data.len()) as u64,
            Self::File(file) => file.end - file.start,
        }
    }
}

/// A range of a file as it was when it was looked at.
#[derive(Debug)]
pub(crate) struct FileRange {
    pub(crate) location: Location,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Version of the file, so that another one is noticed.
    pub(crate) etag: Option<String>,
}

impl FileRange {
    /// Bytes `start .. end` of the file; why they cannot be had, where they cannot.
    pub(crate) async fn read(&self, start: u64, end: u64) -> Result<Bytes, String> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(start..end)),
            if_match: self.etag.clone(),
            ..GetOptions::default()
        };
        let read = async { self.location.store().get_opts(self.location.path(), options).await?.bytes().await };
        let bytes = read.await.map_err(|error| read_fault(&error))?;
        if bytes.len() as u64 != end - start {
            return Err("the file became shorter while it was copied".to_owned());
        }
        Ok(bytes)
    }
}

/// Why a file could not be read, for the reason of a failed clip.
pub(crate) fn read_fault(error: &object_store::Error) -> String {
    match error {
        object_store::Error::NotFound { .. } => "the file is gone".to_owned(),
        object_store::Error::Precondition { .. } => "the file changed while it was copied".to_owned(),
        error => format!("the file cannot be read: {error}"),
    }
}

/// What a shard holds of one clip.
#[derive(Debug)]
pub(crate) enum Sample {
    /// Members with their extensions.
    Members { key: String, members: Vec<(String, Content)> },
    /// A sample that is tar already.
    Tar(Content),
}

impl Sample {
    /// What to write, in order.
    fn pieces(self) -> Result<Vec<Content>> {
        match self {
            Self::Tar(content) => Ok(vec![content]),
            Self::Members { key, members } => {
                let mut pieces = Vec::with_capacity(3 * members.len());
                for (extension, content) in members {
                    let size = content.size();
                    pieces.push(Content::Owned(sample::header(&key, &extension, size)?));
                    pieces.push(content);
                    pieces.push(Content::Owned(sample::padding(size)));
                }
                Ok(pieces)
            }
        }
    }
}

/// Where a sample stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Path of the shard relative to the dataset, shared by all its samples.
    pub(crate) shard: Arc<str>,
    /// First byte.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) size: u64,
}

/// Writes the shards of one series.
#[derive(Debug)]
pub(crate) struct Series {
    root: Location,
    folder: &'static str,
    stem: String,
    unit: String,
    limits: ShardLimits,
    cpu: CpuPool,
    open: Option<Box<OpenShard>>,
    done: Vec<ShardEntry>,
    busy: Duration,
}

impl Series {
    /// A series in `folder` of the dataset at `root`; nothing is written before there is a sample.
    pub(crate) fn new(
        root: Location,
        folder: &'static str,
        stem: String,
        unit: String,
        limits: ShardLimits,
        cpu: CpuPool,
    ) -> Self {
        Self { root, folder, stem, unit, limits, cpu, open: None, done: Vec::new(), busy: Duration::ZERO }
    }

    /// Processor time since the last call.
    pub(crate) fn take_busy(&mut self) -> Duration {
        std::mem::take(&mut self.busy)
    }

    /// Writes a sample; where its file cannot be read, says why, and no byte of it stays in the shard.
    pub(crate) async fn append(&mut self, sample: Sample) -> Result<Result<Place, String>> {
        let pieces = sample.pieces()?;
        let size = pieces.iter().map(Content::size).sum::<u64>();
        let full = self.open.as_ref().is_some_and(|shard| {
            let bytes = shard.bytes + size + sample::END.len() as u64;
            shard.samples >= self.limits.samples || bytes > self.limits.bytes
        });
        if full {
            self.close().await?;
        }
        let mut shard = match self.open.take() {
            Some(shard) => shard,
            None => self.next_shard(),
        };
        let before = (shard.bytes, shard.hasher.clone());
        let mut owned = Vec::new();
        for piece in pieces {
            match piece {
                Content::Owned(bytes) => owned.push(bytes),
                Content::Frames(header, data) => {
                    owned.push(header);
                    self.busy += shard.put(std::mem::take(&mut owned), &self.cpu).await?;
                    self.busy += shard.put_copy(&data, &self.cpu).await?;
                }
                Content::File(file) => {
                    self.busy += shard.put(std::mem::take(&mut owned), &self.cpu).await?;
                    if let Err(reason) = shard.put_file(&file, &self.cpu, &mut self.busy).await? {
                        self.open = shard.roll_back(before.0, before.1).await?;
                        return Ok(Err(reason));
                    }
                }
            }
        }
        self.busy += shard.put(owned, &self.cpu).await?;
        shard.samples += 1;
        let place = Place { shard: Arc::clone(&shard.path), offset: before.0, size };
        self.open = Some(shard);
        Ok(Ok(place))
    }

    /// Completes the last shard.
    pub(crate) async fn finish(mut self) -> Result<Vec<ShardEntry>> {
        self.close().await?;
        Ok(self.done)
    }

    fn next_shard(&self) -> Box<OpenShard> {
        let path = format!("{}/{}-{:06}.tar", self.folder, self.stem, self.done.len());
        let part = PART.max((self.limits.bytes / 5_000) as usize);
        Box::new(OpenShard::new(self.root.join(&path), path.into(), part))
    }

    async fn close(&mut self) -> Result<()> {
        let Some(mut shard) = self.open.take() else { return Ok(()) };
        self.busy += shard.put(vec![Bytes::from_static(sample::END)], &self.cpu).await?;
        shard.upload.finish().await?;
        self.done.push(ShardEntry {
            path: shard.path.to_string(),
            unit: self.unit.clone(),
            samples: shard.samples,
            bytes: shard.bytes,
            blake3: shard.hasher.finalize().to_hex().to_string(),
        });
        Ok(())
    }
}

/// A shard that is being written. Dropping it drops the upload, which leaves nothing behind.
#[derive(Debug)]
struct OpenShard {
    path: Arc<str>,
    location: Location,
    part: usize,
    upload: Upload,
    /// Boxed, since it is large and moves between threads.
    hasher: Box<blake3::Hasher>,
    bytes: u64,
    samples: u64,
}

impl OpenShard {
    fn new(location: Location, path: Arc<str>, part: usize) -> Self {
        let upload = location.upload(part);
        Self { path, location, part, upload, hasher: Box::default(), bytes: 0, samples: 0 }
    }

    /// Writes bytes without a copy; returns the processor time.
    async fn put(&mut self, pieces: Vec<Bytes>, cpu: &CpuPool) -> Result<Duration> {
        let bytes = pieces.iter().map(Bytes::len).sum::<usize>();
        let took = if bytes <= HASHED_INLINE {
            let start = Instant::now();
            pieces.iter().for_each(|piece| {
                self.hasher.update(piece);
            });
            start.elapsed()
        } else {
            let mut hasher = std::mem::take(&mut self.hasher);
            let hashed = pieces.clone();
            let hash = move || {
                hashed.iter().for_each(|piece| {
                    hasher.update(piece);
                });
                hasher
            };
            let (hasher, took) = cpu.run(hash).await?;
            self.hasher = hasher;
            took
        };
        self.send(pieces).await?;
        Ok(took)
    }

    /// Writes a copy of bytes, a chunk at a time.
    async fn put_copy(&mut self, bytes: &Bytes, cpu: &CpuPool) -> Result<Duration> {
        let mut busy = Duration::ZERO;
        for from in (0..bytes.len()).step_by(CHUNK) {
            let chunk = bytes.slice(from..bytes.len().min(from + CHUNK));
            let mut hasher = std::mem::take(&mut self.hasher);
            let copy = move || {
                hasher.update(&chunk);
                (hasher, Bytes::copy_from_slice(&chunk))
            };
            let ((hasher, copy), took) = cpu.run(copy).await?;
            self.hasher = hasher;
            busy += took;
            self.send(vec![copy]).await?;
        }
        Ok(busy)
    }

    /// Writes a file, a chunk at a time; says why it cannot be read, where it cannot.
    async fn put_file(&mut self, file: &FileRange, cpu: &CpuPool, busy: &mut Duration) -> Result<Result<(), String>> {
        let mut from = file.start;
        while from < file.end {
            let to = file.end.min(from + CHUNK as u64);
            match file.read(from, to).await {
                Ok(bytes) => *busy += self.put(vec![bytes], cpu).await?,
                Err(reason) => return Ok(Err(reason)),
            }
            from = to;
        }
        Ok(Ok(()))
    }

    async fn send(&mut self, pieces: Vec<Bytes>) -> Result<()> {
        for piece in pieces {
            self.bytes += piece.len() as u64;
            self.upload.put(piece).await?;
        }
        Ok(())
    }

    /// The shard as it was when it had `bytes`; none where that was the beginning.
    ///
    /// No upload takes bytes back, so what was sent is completed, and its good part copied into another upload for
    /// the same name. This is rare: a large file that cannot be read to its end.
    async fn roll_back(mut self: Box<Self>, bytes: u64, hasher: Box<blake3::Hasher>) -> Result<Option<Box<Self>>> {
        if bytes == 0 {
            return Ok(None);
        }
        std::mem::replace(&mut self.upload, self.location.upload(self.part)).finish().await?;
        self.bytes = 0;
        let spoiled = FileRange { location: self.location.clone(), start: 0, end: bytes, etag: None };
        while self.bytes < bytes {
            let to = bytes.min(self.bytes + CHUNK as u64);
            let chunk = spoiled.read(self.bytes, to).await;
            let chunk = chunk.map_err(|reason| Error::State(format!("{}: {reason}", self.location.uri())))?;
            self.send(vec![chunk]).await?;
        }
        self.location.delete().await?;
        self.hasher = hasher;
        Ok(Some(self))
    }
}
