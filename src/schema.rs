//! The columns of a clip: one row a clip, from the manifest to the metadata table.
//!
//! Every fixed column exists from the manifest on and is null until a stage fills it; measurements are appended by the
//! stage that makes them. Frames are in flight only.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

macro_rules! columns {
    ($($name:ident = $text:literal, $doc:literal;)*) => {
        $(#[doc = $doc] pub const $name: &str = $text;)*
        /// What every fixed column holds.
        pub const DESCRIPTIONS: &[(&str, &str)] = &[$(($text, $doc)),*];
    };
}

columns! {
    UNIT = "unit", "Work unit that the clip belongs to.";
    CLIP_ID = "clip_id", "Identity: hash of the URI, the size of the file in bytes and the span.";
    URI = "uri", "Where the file lies.";
    START_S = "start_s", "Start of the clip within the file in seconds; null at the beginning of the file.";
    END_S = "end_s", "End of the clip within the file in seconds, exclusive; null at the end of the file.";
    SOURCE = "source", "`real` or `synthetic`.";
    DATASET = "dataset", "Collection that the clip comes from.";
    ETAG = "etag", "Version of the file as its storage names it.";
    WIDTH = "width", "Width of the picture in pixels, after rotation.";
    HEIGHT = "height", "Height of the picture in pixels, after rotation.";
    FPS = "fps", "Mean frames a second.";
    FRAME_COUNT = "frame_count", "Frames in the clip.";
    DURATION_S = "duration_s", "Length of the clip in seconds.";
    CODEC = "codec", "Video codec, FFmpeg's name.";
    SIZE_BYTES = "size_bytes", "Size of the file in bytes.";
    GENERATOR = "generator", "What rendered the clip.";
    GENERATOR_SEED = "generator_seed", "Seed of the render.";
    SCENE = "scene", "Configuration of the rendered scene, JSON.";
    LICENCE = "licence", "Licence of the clip.";
    CAPTION = "caption", "Text that describes the clip.";
    CAPTION_SOURCE = "caption_source", "Where the caption comes from: `sidecar`, `compositional`, `column:<name>` or `template`.";
    TAGS = "tags", "Names of what is in the clip.";
    FATE = "fate", "`kept`, `dropped` or `failed`; null while the clip is in flight.";
    FATE_STAGE = "fate_stage", "Stage that dropped or failed the clip.";
    FATE_REASON = "fate_reason", "Why the clip was dropped or failed.";
    FATE_VALUE = "fate_value", "Number behind the reason, such as the score that was too high.";
    SHARD = "shard", "Shard that holds the clip, relative to the dataset.";
    KEY = "key", "Key of the sample in its shard.";
    OFFSET = "offset", "First byte of the sample in its shard.";
    SIZE = "size", "Bytes of the sample in its shard, headers and padding included.";
}

/// Decoded frames, in flight only.
pub const FRAMES: &str = "frames";

/// The fixed columns.
pub fn clip_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let required = |name: &str| Field::new(name, DataType::Utf8, false);
    let long = |name: &str| Field::new(name, DataType::Int64, true);
    let real = |name: &str| Field::new(name, DataType::Float64, true);
    Arc::new(Schema::new(vec![
        required(UNIT),
        required(CLIP_ID),
        required(URI),
        real(START_S),
        real(END_S),
        required(SOURCE),
        required(DATASET),
        text(ETAG),
        Field::new(WIDTH, DataType::Int32, true),
        Field::new(HEIGHT, DataType::Int32, true),
        real(FPS),
        long(FRAME_COUNT),
        real(DURATION_S),
        text(CODEC),
        long(SIZE_BYTES),
        text(GENERATOR),
        long(GENERATOR_SEED),
        text(SCENE),
        text(LICENCE),
        text(CAPTION),
        text(CAPTION_SOURCE),
        Field::new(TAGS, DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), true),
        text(FATE),
        text(FATE_STAGE),
        text(FATE_REASON),
        real(FATE_VALUE),
        text(SHARD),
        text(KEY),
        long(OFFSET),
        long(SIZE),
    ]))
}

/// `schema` with `fields` appended; a field of the same name is replaced in its place.
pub fn with_fields(schema: &Schema, fields: impl IntoIterator<Item = Field>) -> SchemaRef {
    let mut all: Vec<Arc<Field>> = schema.fields().iter().map(Arc::clone).collect();
    for field in fields {
        match all.iter().position(|have| have.name() == field.name()) {
            Some(at) => all[at] = Arc::new(field),
            None => all.push(Arc::new(field)),
        }
    }
    Arc::new(Schema::new(all))
}

/// Whether a column is decoded frames, which never reach storage as metadata.
pub fn is_frames(field: &Field) -> bool {
    field.extension_type_name() == Some("arrow.variable_shape_tensor")
}

/// `schema` without frames: what the metadata table has.
pub fn without_frames(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().filter(|field| !is_frames(field)).map(Arc::clone).collect::<Vec<_>>()))
}
