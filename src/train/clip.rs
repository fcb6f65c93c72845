//! Frames of a clip: enters its sample out of a shard, leave bytes in the model's size, frames × height × width × 3.

use std::io::Read;

use bytes::Bytes;
use ndarray::Array4;
use ndarray_npy::ReadNpyExt;
use object_store::ObjectStoreExt;

use super::index::{Clip, Source};
use super::spec::ClipsSpec;
use crate::error::{Error, Result};
use crate::stage::decode::config::ShortClip;
use crate::video::{self, Caps, Reader, Sampling, Target};

/// Frames, height, width.
pub(super) type Shape = [usize; 3];

/// The bytes of a clip's sample.
pub(super) async fn read(source: &Source, clip: &Clip) -> Result<Bytes> {
    let shard = source.root.join(&source.shards[clip.shard as usize]);
    let range = clip.offset..clip.offset + clip.size;
    shard.store().get_range(shard.path(), range).await.map_err(Error::storage("read", shard.uri()))
}

/// The frames in a sample: an array in the right shape as it is, else the video, decoded; blocking. Why there are none,
/// where there are none.
pub(super) fn frames(sample: &Bytes, shape: Shape, clips: &ClipsSpec) -> Result<Bytes, String> {
    let mut archive = tar::Archive::new(sample.as_ref());
    let (mut other, mut video) = (None, None);
    for entry in archive.entries().map_err(|error| format!("its sample is damaged: {error}"))? {
        let mut entry = entry.map_err(|error| format!("its sample is damaged: {error}"))?;
        let name = entry.path().map_err(|error| error.to_string())?.to_string_lossy().into_owned();
        let extension = name.rsplit('.').next().unwrap_or_default();
        let mut bytes = Vec::new();
        match extension {
            "txt" | "json" => continue,
            _ => entry.read_to_end(&mut bytes).map_err(|error| format!("its sample is damaged: {error}"))?,
        };
        if extension != "npy" {
            video = Some(bytes);
            continue;
        }
        let array = Array4::<u8>::read_npy(bytes.as_slice()).map_err(|error| format!("{name}: {error}"))?;
        let [frames, height, width] = shape;
        if array.shape() == [frames, height, width, 3] {
            return Ok(Bytes::from(array.into_raw_vec_and_offset().0));
        }
        other = Some(format!("{name} is {:?}", array.shape()));
    }
    match (video, other) {
        (Some(video), _) => decoded(video, shape, clips),
        (None, Some(other)) => Err(format!("{other}, the model takes {shape:?}, and there is no video beside it")),
        (None, None) => Err("its sample has neither frames nor a video".to_owned()),
    }
}

fn decoded(video: Vec<u8>, shape: Shape, clips: &ClipsSpec) -> Result<Bytes, String> {
    let [frames, height, width] = shape.map(|length| length as u32);
    let target = Target { width: Some(width), height: Some(height), fit: clips.fit, filter: clips.filter };
    let sampling = Sampling { frames: Some(frames), fps: None, short: ShortClip::Repeat };
    let mut reader =
        Reader::open(Box::new(video::BytesSource::new(video)), &Caps::default()).map_err(|error| error.to_string())?;
    let plan = reader.plan((None, None), &sampling).map_err(|error| error.to_string())?;
    let pictures = reader.decode(&plan, &[target]).map_err(|error| error.to_string())?;
    pictures.into_iter().next().map(|pictures| Bytes::from(pictures.data)).ok_or_else(|| "no frames".to_owned())
}
