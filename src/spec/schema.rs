//! What lies under `schemas/`: generated from the types, for editors, readers and a check for drift.

use arrow::datatypes::DataType;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, RestrictFormats, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::PipelineSpec;
use crate::dataset::Dataset;
use crate::render::scene::Scene;
use crate::render::spec::ScenesSpec;
use crate::render::truth::Truth;
use crate::schema::{DESCRIPTIONS, clip_schema};
use crate::train::spec::TrainSpec;

/// JSON Schema of a pipeline file. Draft 7, which every editor knows.
pub fn pipeline() -> Value {
    let mut schema = generate::<PipelineSpec>(SchemaSettings::draft07(), "simdrop pipeline");
    accept_bare_stages(&mut schema);
    schema
}

/// JSON Schema of `dataset.json`.
pub fn dataset() -> Value {
    generate::<Dataset>(SchemaSettings::draft07().for_serialize(), "simdrop dataset")
}

/// JSON Schema of a file of scenes.
pub fn scenes() -> Value {
    generate::<ScenesSpec>(SchemaSettings::draft07(), "simdrop scenes")
}

/// JSON Schema of a training.
pub fn train() -> Value {
    generate::<TrainSpec>(SchemaSettings::draft07(), "simdrop training")
}

/// JSON Schema of the configuration of one scene, `<id>.scene.json`.
pub fn scene() -> Value {
    generate::<Scene>(SchemaSettings::draft07().for_serialize(), "simdrop scene")
}

/// JSON Schema of a clip's ground truth, `<id>.truth.json`.
pub fn truth() -> Value {
    generate::<Truth>(SchemaSettings::draft07().for_serialize(), "simdrop ground truth")
}

/// The columns of the clips table, in order: name, Arrow type, whether it may be null, and what it holds.
pub fn clips() -> Value {
    let columns: Vec<Value> = clip_schema()
        .fields()
        .iter()
        .map(|field| {
            let description = DESCRIPTIONS.iter().find(|(name, _)| name == field.name()).map(|(_, text)| *text);
            json!({
                "name": field.name(),
                "type": type_name(field.data_type()),
                "nullable": field.is_nullable(),
                "description": description,
            })
        })
        .collect();
    json!({
        "title": "simdrop clips",
        "description": "Columns of `clips/<unit>.parquet` (Arrow types), one row a clip: kept, dropped and failed. \
                        Columns of the user's own lists, of model outputs and of scores follow after these.",
        "columns": columns,
    })
}

/// Every generated file: its name and its content.
pub fn files() -> Vec<(&'static str, String)> {
    [
        ("pipeline.schema.json", pipeline()),
        ("clips.schema.json", clips()),
        ("dataset.schema.json", dataset()),
        ("scenes.schema.json", scenes()),
        ("scene.schema.json", scene()),
        ("train.schema.json", train()),
        ("truth.schema.json", truth()),
    ]
    .map(|(name, schema)| (name, format!("{schema:#}\n")))
    .into()
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) => format!("List<{}>", type_name(item.data_type())),
        other => other.to_string(),
    }
}

fn generate<T: JsonSchema>(settings: SchemaSettings, title: &str) -> Value {
    let mut generator = settings.into_generator();
    let mut schema = generator.root_schema_for::<T>();
    RestrictFormats::default().transform(&mut schema);
    RecursiveTransform(tidy).transform(&mut schema);
    let mut all = serde_json::Map::new();
    for (name, value) in [("$schema", None), ("title", Some(title.into())), ("description", None)] {
        let own = schema.remove(name).unwrap_or_default();
        all.insert(name.to_owned(), value.unwrap_or(own));
    }
    all.extend(schema.as_object_mut().map(std::mem::take).unwrap_or_default());
    Value::Object(all)
}

/// Descriptions are doc comments: links become plain code, and lines are joined. Defaults of 32 bits lose the digits
/// that they never had.
fn tidy(schema: &mut Schema) {
    if let Some(default) = schema.get_mut("default") {
        shorten(default);
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs: Vec<String> = text
            .split("\n\n")
            .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
            .map(|paragraph| paragraph.replace("[`", "`").replace("`]", "`"))
            .collect();
        *text = paragraphs.join("\n\n");
    }
}

fn shorten(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Number(number) => {
            let short =
                number.as_f64().map(|long| long as f32).filter(|short| number.as_f64() == Some(f64::from(*short)));
            if let Some(short) =
                short.filter(|short| short.fract() != 0.0).and_then(|short| short.to_string().parse().ok())
            {
                *number = short;
            }
        }
        _ => {}
    }
}

/// `- decode` stands for `- decode: {}` where every setting has a default.
fn accept_bare_stages(schema: &mut Value) {
    let stages = schema["definitions"]["StageSpec"]["oneOf"].as_array().cloned().unwrap_or_default();
    let bare: Vec<Value> = stages
        .iter()
        .filter_map(|stage| {
            let (kind, config) = stage["properties"].as_object()?.iter().next()?;
            let target = super::shape::resolve(schema, config);
            let required = target.get("required").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
            // This one needs one of three fields, which the types cannot say.
            (!required && kind != "simdrop").then(|| json!({ "const": kind, "description": stage["description"] }))
        })
        .collect();
    if let Some(all) = schema["definitions"]["StageSpec"]["oneOf"].as_array_mut() {
        all.extend(bare);
    }
}
