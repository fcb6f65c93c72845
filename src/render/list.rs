//! The list of rendered clips, `<name>.parquet`: what a pipeline reads as its source.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;

use super::caption;
use super::scene::Scene;
use super::spec::ScenesSpec;
use crate::error::Result;
use crate::schema;

/// Column: hash of a scene without its defects, which a clean clip and its defective versions share.
pub const SCENE_ID: &str = "scene_id";
/// Column: the group of the file of scenes.
pub const SCENE_GROUP: &str = "scene_group";
/// Column: the family of a scene.
pub const FAMILY: &str = "family";
/// Column: the deliberate fault; null in clean clips.
pub const DEFECT: &str = "defect";

/// Name of the list below the output.
pub fn file_name(spec: &ScenesSpec) -> String {
    format!("{}.parquet", spec.name)
}

/// The rows of `scenes` that are rendered, as Parquet. Paths are relative to the list.
pub(super) fn parquet(spec: &ScenesSpec, scenes: &[Scene], blender: &str) -> Result<Bytes> {
    let text = |value: &dyn Fn(&Scene) -> Option<String>| -> ArrayRef {
        Arc::new(StringArray::from_iter(scenes.iter().map(value)))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        (schema::URI, text(&|scene| Some(format!("{}.mp4", scene.id)))),
        (schema::DATASET, text(&|scene| Some(scene.collection.clone()))),
        (schema::GENERATOR, text(&|_| Some(format!("blender-{blender}")))),
        (schema::GENERATOR_SEED, Arc::new(Int64Array::from_iter_values(scenes.iter().map(|scene| scene.seed as i64)))),
        (schema::LICENCE, text(&|_| spec.output.licence.clone())),
        (schema::CAPTION, text(&|scene| Some(caption::compose(&scene.caption, &[])))),
        (SCENE_ID, text(&|scene| Some(scene.scene_id.clone()))),
        (SCENE_GROUP, text(&|scene| Some(scene.group.clone()))),
        (FAMILY, text(&|scene| Some(scene.family.name()))),
        (DEFECT, text(&|scene| scene.defect())),
        (schema::SCENE, text(&|scene| serde_json::to_string(scene).ok())),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))?;
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None)?;
    writer.write(&rows)?;
    Ok(writer.into_inner()?.into())
}
