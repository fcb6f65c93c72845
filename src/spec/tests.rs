//! A mistake is shown where it stands, together with all others; what is right survives the round trip.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

mod mistakes;
mod sound;

/// A pipeline that is right, as short as can be.
const LEAST: &str = "name: least\nsources: [{path: clips, kind: real}]\noutput: {path: out}\n";

fn read(text: &str, sets: &[&str]) -> Result<LoadedSpec, Diagnostics> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let environment = |name: &str| match name {
        "FOUR" => Some("4".to_owned()),
        "EMPTY" => Some(String::new()),
        "TRICK" => Some("a\nrun: {threads: 1}".to_owned()),
        _ => None,
    };
    parse(Path::new("pipeline.yaml"), text.to_owned(), &sets, &environment)
}

fn mistakes_of(text: &str, sets: &[&str]) -> String {
    read(text, sets).expect_err("the pipeline has mistakes").to_string()
}

fn spec_of(text: &str, sets: &[&str]) -> PipelineSpec {
    read(text, sets).unwrap_or_else(|wrong| panic!("{wrong}")).spec
}

/// The least pipeline with these stages, indented by two.
fn with_stages(stages: &str) -> String {
    format!("{LEAST}stages:\n{stages}")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
