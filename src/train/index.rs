//! Which clips there are: enters a training's datasets, leaves where each clip's sample lies and what it is called.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::TryStreamExt;

use super::spec::{TrainData, TrainSpec};
use crate::error::{Error, Result};
use crate::render::caption::compose;
use crate::render::list::SCENE_ID;
use crate::render::scene::CaptionParts;
use crate::schema;
use crate::sql::SqlSession;
use crate::stage::ClipBatch;
use crate::storage::{Location, Storage};

/// One dataset of a training.
#[derive(Debug)]
pub(super) struct Source {
    /// As the user wrote it.
    pub(super) uri: String,
    pub(super) root: Location,
    /// Paths of the shards, relative to the dataset.
    pub(super) shards: Vec<String>,
    pub(super) clips: Vec<Clip>,
    pub(super) weight: f64,
}

/// One clip of a dataset.
#[derive(Debug, Clone)]
pub(super) struct Clip {
    pub(super) id: Box<str>,
    /// Number of its shard in [`Source::shards`].
    pub(super) shard: u32,
    pub(super) offset: u64,
    pub(super) size: u64,
    /// `real` or `synthetic`.
    pub(super) kind: Arc<str>,
    pub(super) caption: Option<Arc<str>>,
    pub(super) held_out: bool,
}

impl Source {
    /// The clips of each shard, in the order of their places: those that are held out, or those that are not.
    pub(super) fn by_shard(&self, held_out: bool) -> Vec<Vec<u32>> {
        let mut shards = vec![Vec::new(); self.shards.len()];
        for (number, clip) in (0..).zip(&self.clips).filter(|(_, clip)| clip.held_out == held_out) {
            shards[clip.shard as usize].push(number);
        }
        shards.retain(|shard| !shard.is_empty());
        shards
    }

    /// How many clips are held out, or are not.
    pub(super) fn count(&self, held_out: bool) -> usize {
        self.clips.iter().filter(|clip| clip.held_out == held_out).count()
    }
}

/// Asks all datasets of a training.
pub(super) async fn sources(spec: &TrainSpec, storage: &Storage) -> Result<Vec<Source>> {
    let mut sources = Vec::with_capacity(spec.data.len());
    for (number, data) in spec.data.iter().enumerate() {
        let source = source(spec, data, storage).await?;
        if source.count(false) == 0 && data.weight > 0.0 {
            return Err(Error::config(format!(
                "data[{number}]: {} has no clip to train on: {} match its `where` and have a sample, {} of them are held \
                 out by validation.share",
                data.dataset,
                source.clips.len(),
                source.count(true),
            )));
        }
        sources.push(source);
    }
    Ok(sources)
}

async fn source(spec: &TrainSpec, data: &TrainData, storage: &Storage) -> Result<Source> {
    let session = SqlSession::open(storage, &data.dataset).await?;
    let dataset = session.dataset()?;
    let listed = dataset.shards.iter().chain(&dataset.dropped_shards);
    let shards: Vec<String> = listed.map(|shard| shard.path.clone()).collect();
    let numbers: HashMap<&str, u32> = shards.iter().map(String::as_str).zip(0..).collect();
    let clips_table = session.tables().iter().find(|table| table.name == "clips");
    let has = |name: &str| clips_table.is_some_and(|table| table.schema.field_with_name(name).is_ok());
    // A scene's clean clip and its defective ones belong together; of other clips those of one file.
    let group = if has(SCENE_ID) { format!("coalesce({SCENE_ID}, uri)") } else { "uri".to_owned() };
    // The line ends keep a comment in the predicate from reaching beyond it.
    let query = format!(
        r#"SELECT clip_id, source, shard, "offset", "size", caption, scene, {group} AS sample_group FROM clips
WHERE shard IS NOT NULL AND (
{}
) ORDER BY shard, "offset""#,
        data.keep
    );
    let mut batches = session.query(&query).await?;
    let mut kinds: HashMap<String, Arc<str>> = HashMap::new();
    let mut texts: HashMap<String, Arc<str>> = HashMap::new();
    let mut clips = Vec::new();
    while let Some(batch) = batches.try_next().await.map_err(Error::from)? {
        let rows = ClipBatch::new(batch);
        let (ids, sources, places) =
            (rows.text(schema::CLIP_ID)?, rows.text(schema::SOURCE)?, rows.text(schema::SHARD)?);
        let (offsets, sizes) = (rows.long(schema::OFFSET)?, rows.long(schema::SIZE)?);
        let (captions, scenes, groups) = (text(&rows, "caption")?, text(&rows, "scene")?, text(&rows, "sample_group")?);
        for row in 0..rows.rows() {
            let shard = *numbers.get(places.value(row)).ok_or_else(|| {
                let (id, shard) = (ids.value(row), places.value(row));
                Error::State(format!("clip {id} is in {shard}, which the dataset does not list: it is damaged"))
            })?;
            let own = captions.is_valid(row).then(|| captions.value(row));
            let scene = scenes.is_valid(row).then(|| scenes.value(row));
            let caption = caption(data, own, scene).map(|text| shared(&mut texts, text));
            clips.push(Clip {
                id: ids.value(row).into(),
                shard,
                offset: offsets.value(row) as u64,
                size: sizes.value(row) as u64,
                kind: shared(&mut kinds, sources.value(row).to_owned()),
                caption,
                held_out: is_held_out(groups.value(row), spec.validation.share),
            });
        }
    }
    let root = storage.locate(&data.dataset)?;
    Ok(Source { uri: data.dataset.clone(), root, shards, clips, weight: data.weight })
}

fn text(rows: &ClipBatch, column: &str) -> Result<StringArray> {
    Ok(cast(rows.column(column)?, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn shared(known: &mut HashMap<String, Arc<str>>, text: String) -> Arc<str> {
    Arc::clone(known.entry(text).or_insert_with_key(|text| text.as_str().into()))
}

/// The caption of a clip: what it has, or what is left of the phrases of its scene.
fn caption(data: &TrainData, own: Option<&str>, scene: Option<&str>) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Elements {
        caption: CaptionParts,
    }
    let scene = scene.filter(|_| !data.leave_out.is_empty() || own.is_none());
    let composed = scene.and_then(|scene| serde_json::from_str::<Elements>(scene).ok());
    let text = composed.map(|elements| compose(&elements.caption, &data.leave_out)).or(own.map(str::to_owned));
    text.filter(|text| !text.trim().is_empty())
}

/// Whether a scene or a source file is held out: the same in every training, so that no model was trained on what
/// another one is judged by.
fn is_held_out(group: &str, share: f64) -> bool {
    let hash = blake3::derive_key("simdrop train 2026-11 held out", group.as_bytes());
    let number = u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]);
    ((number >> 11) as f64) * 0.5f64.powi(53) < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_held_out_for_good() {
        let held = |share| (0..1000).filter(|number| is_held_out(&format!("file{number}"), share)).collect::<Vec<_>>();
        let (some, more) = (held(0.1), held(0.3));
        assert!((70..130).contains(&some.len()), "{}", some.len());
        assert!(some.iter().all(|number| more.contains(number)));
        assert!(held(0.0).is_empty());
    }

    #[test]
    fn captions_leave_out_what_is_wanted_of_the_other() {
        let scene = r#"{"caption": {"object": "a red cube", "action": "spinning", "background": "in a forest",
            "camera": "the camera is static", "tags": ["rendered"]}}"#;
        let data = |leave_out: serde_json::Value| -> TrainData {
            serde_json::from_value(serde_json::json!({"dataset": "x", "leave_out": leave_out})).unwrap()
        };
        let without = data(serde_json::json!(["action"]));
        assert_eq!(
            caption(&without, Some("own"), Some(scene)).unwrap(),
            "rendered, a red cube in a forest, the camera is static"
        );
        assert_eq!(caption(&data(serde_json::json!([])), Some("own"), Some(scene)).unwrap(), "own");
        assert_eq!(caption(&without, Some("own"), None).unwrap(), "own");
        assert_eq!(caption(&without, None, None), None);
    }
}
