//! Batches ahead of the device: clips are read and decoded by several tasks at once, batches made while the last one is
//! trained on; their order and content do not depend on how many tasks there are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::batch::{Batch, Sample, assemble, assemble_fixed};
use super::captions::Embedded;
use super::clip;
use super::index::Source;
use super::order::{Epochs, Order};
use super::signature::Signature;
use super::spec::TrainSpec;
use crate::error::{Error, Result};

/// Clips that may be unusable one after the other before the training gives up.
const UNUSABLE: usize = 32;

/// What batches are made of.
#[derive(Debug)]
pub(super) struct Loader {
    spec: TrainSpec,
    signature: Signature,
    sources: Vec<Source>,
    captions: Embedded,
    readers: usize,
    kept: Mutex<Kept>,
    unusable: AtomicU64,
}

/// Frames that are kept.
#[derive(Debug, Default)]
struct Kept {
    frames: HashMap<(usize, u32), Bytes>,
    bytes: u64,
}

impl Loader {
    pub(super) fn new(spec: TrainSpec, signature: Signature, sources: Vec<Source>, captions: Embedded) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let readers = spec.run.readers.unwrap_or(cores);
        Self { spec, signature, sources, captions, readers, kept: Mutex::default(), unusable: AtomicU64::new(0) }
    }

    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Clips that could not be used so far.
    pub(super) fn unusable(&self) -> u64 {
        self.unusable.load(Ordering::Relaxed)
    }

    fn order(&self) -> Order {
        let room = self.spec.clips.shuffle_buffer;
        let epochs = |(number, source): (usize, &Source)| {
            let name = format!("data {number}");
            (source.weight, Epochs::new(source.by_shard(false), &name, self.spec.seed, room))
        };
        Order::new(self.sources.iter().enumerate().map(epochs).collect(), self.spec.seed)
    }

    /// Sends batches until the receiver is gone, from behind the first `samples` of the training.
    pub(super) async fn feed(self: Arc<Self>, samples: u64, to: mpsc::Sender<Batch>) -> Result<()> {
        let mut order = self.order();
        order.skip(samples);
        let drawn = stream::iter(std::iter::from_fn(move || Some(order.next())));
        let loaded = drawn.map(|(number, source, clip)| {
            let loader = Arc::clone(&self);
            async move { loader.sample(number, source, clip).await }
        });
        // A batch more than the readers need, so that none waits for the slowest clip of a batch.
        let ahead = self.readers + self.signature.batch;
        let mut batches = loaded.buffered(ahead).try_chunks(self.signature.batch);
        while let Some(samples) = batches.next().await {
            let samples = samples.map_err(|error| error.1)?;
            let loader = Arc::clone(&self);
            let (shape, condition) = (self.signature.shape(), self.signature.condition);
            let work = tokio::task::spawn_blocking(move || assemble(&loader.spec, shape, condition, &samples));
            if to.send(work.await.map_err(Error::internal)?).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Batches of the clips that are held out, whole ones only where there is more than one: fewer clips are repeated.
    /// The second number says how many rows count.
    pub(super) async fn held_out(self: Arc<Self>) -> Result<Vec<(Batch, usize)>> {
        let all = self.sources.iter().enumerate().flat_map(|(source, listed)| {
            let clips = listed.by_shard(true).into_iter().flatten();
            clips.map(move |clip| (source, clip))
        });
        let mut all: Vec<(usize, u32)> = all.collect();
        // By their ids, so that which ones are looked at does not depend on the order of datasets or shards.
        all.sort_by_cached_key(|(source, clip)| {
            blake3::hash(self.sources[*source].clips[*clip as usize].id.as_bytes()).to_hex()
        });
        all.truncate(self.spec.validation.clips);
        let count = all.len();
        let loaded = stream::iter((0..).zip(all)).map(|(number, (source, clip))| {
            let loader = Arc::clone(&self);
            async move {
                let frames = loader.load(source, clip).await?;
                Ok::<_, Error>(frames.ok().map(|frames| loader.named(number, source, clip, frames)))
            }
        });
        let loaded: Vec<Option<Sample>> = loaded.buffered(self.readers).try_collect().await?;
        let samples: Vec<Sample> = loaded.into_iter().flatten().collect();
        let mut batches = Vec::new();
        for chunk in samples.chunks(self.signature.batch) {
            let rows: Vec<Sample> = chunk.iter().cycle().take(self.signature.batch).cloned().collect();
            let (shape, condition) = (self.signature.shape(), self.signature.condition);
            batches.push((assemble_fixed(&self.spec, shape, condition, &rows, count), chunk.len()));
        }
        Ok(batches)
    }

    /// The sample of a draw. A clip that cannot be used is replaced by one behind it in its dataset.
    async fn sample(&self, number: u64, source: usize, clip: u32) -> Result<Sample> {
        let clips = &self.sources[source].clips;
        let behind = (0..clips.len()).map(|step| ((clip as usize + step) % clips.len()) as u32);
        let usable = behind.filter(|clip| !clips[*clip as usize].held_out).take(UNUSABLE);
        let mut last = String::new();
        for clip in usable {
            match self.load(source, clip).await? {
                Ok(frames) => return Ok(self.named(number, source, clip, frames)),
                Err(reason) => {
                    let (id, uri) = (&clips[clip as usize].id, &self.sources[source].uri);
                    tracing::warn!("clip {id} of {uri} is left out: {reason}");
                    self.unusable.fetch_add(1, Ordering::Relaxed);
                    last = reason;
                }
            }
        }
        Err(Error::State(format!("{} has no clip that can be used: {last}", self.sources[source].uri)))
    }

    fn named(&self, number: u64, source: usize, clip: u32, frames: Bytes) -> Sample {
        let clip = &self.sources[source].clips[clip as usize];
        let condition = clip.caption.as_ref().and_then(|text| self.captions.get(text)).map(Arc::clone);
        Sample { number, frames, condition, kind: Arc::clone(&clip.kind) }
    }

    /// The frames of a clip; the inner error is the clip's, the outer one storage's.
    async fn load(&self, source: usize, number: u32) -> Result<Result<Bytes, String>> {
        if let Some(frames) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).frames.get(&(source, number)) {
            return Ok(Ok(frames.clone()));
        }
        let from = &self.sources[source];
        let sample = clip::read(from, &from.clips[number as usize]).await?;
        let (shape, clips) = (self.signature.shape(), self.spec.clips.clone());
        let work = tokio::task::spawn_blocking(move || clip::frames(&sample, shape, &clips));
        let frames = match work.await.map_err(Error::internal)? {
            Ok(frames) => frames,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + frames.len() as u64 <= self.spec.run.cache.as_u64() {
            kept.bytes += frames.len() as u64;
            kept.frames.insert((source, number), frames.clone());
        }
        Ok(Ok(frames))
    }
}
