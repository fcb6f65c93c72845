//! What has to hold in a pipeline beyond the types of its fields, without any I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::{MaxFailures, ModelsSpec, PipelineSpec, SourceKind, SourceSpec, suggest};
use crate::schema::{DESCRIPTIONS, TAGS};
use crate::stage::StageSpec;
use crate::stage::caption::config::CaptionOrigin;
use crate::stage::score::config::ScoreConfig;
use crate::stage::shards::config::Payload;
use crate::stage::simdrop::config::SimdropConfig;
use crate::stage::split::config::SplitConfig;

/// A mistake in the structure of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `stages[2].threshold`; see [`super::LoadedSpec::locate`].
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Everything that is wrong with the structure of a pipeline.
pub fn check(spec: &PipelineSpec) -> Vec<Mistake> {
    let mut found = Found(Vec::new());
    if !is_name(&spec.name) {
        found.add("name", format!("`{}` is no name for a pipeline", spec.name), "letters, digits, `-` and `_`");
    }
    if spec.sources.is_empty() {
        found.add("sources", "a pipeline needs a source", "give a file, a folder, a glob or a list of clips");
    }
    for (index, source) in spec.sources.iter().enumerate() {
        check_source(source, &format!("sources[{index}]"), &mut found);
    }
    check_names(&spec.stages, &mut found);
    check_columns(spec, &mut found);
    for (index, stage) in spec.stages.iter().enumerate() {
        let at = format!("stages[{index}]");
        match stage {
            StageSpec::Split(config) => check_split(config, &at, &mut found),
            StageSpec::Score(config) => check_score(config, &at, &mut found),
            StageSpec::Simdrop(config) => check_simdrop(config, &at, &mut found),
            StageSpec::Decode(config) => {
                let positive = |number: f64| number > 0.0 && number.is_finite();
                if config.fps.is_some_and(|fps| !positive(fps)) {
                    found.add(format!("{at}.fps"), "`fps` has to be above 0", "");
                }
            }
            StageSpec::Caption(config) => {
                for (origin, from) in config.from.iter().enumerate() {
                    if let CaptionOrigin::Sidecar(sidecar) = from
                        && (sidecar.extension.is_empty() || sidecar.extension.contains(['.', '/']))
                    {
                        let path = format!("{at}.from[{origin}].sidecar.extension");
                        found.add(path, format!("`{}` is no extension", sidecar.extension), "without the dot: `txt`");
                    }
                }
            }
            StageSpec::Model(config) => {
                let mut seen = BTreeSet::new();
                for (input, spec) in config.inputs.iter().enumerate() {
                    if !seen.insert(&spec.tensor) {
                        let path = format!("{at}.inputs[{input}].tensor");
                        found.add(path, format!("the input `{}` is fed twice", spec.tensor), "name every input once");
                    }
                }
            }
            StageSpec::Embed(_) => {}
            StageSpec::Measure(config) => {
                if config.measures.is_empty() {
                    found.add(format!("{at}.measures"), "`measures` is empty", "leave it out to measure everything");
                }
            }
            StageSpec::Filter(config) => {
                if config.keep.trim().is_empty() {
                    found.add(format!("{at}.keep"), "`keep` is empty", "a SQL expression, such as `width >= 256`");
                }
            }
        }
    }
    if spec.output.path.trim().is_empty() {
        found.add("output.path", "`path` is empty", "name the folder of the dataset");
    }
    if spec.output.max_bytes.as_u64() == 0 {
        found.add("output.max_bytes", "`max_bytes` has to be above 0", "");
    }
    check_models(&spec.models, &mut found);
    if let Some(MaxFailures::Share(share)) = spec.run.max_failures
        && !(0.0..=1.0).contains(&share)
    {
        let message = format!("`max_failures` is {share}, which is neither a count nor a share");
        found.add("run.max_failures", message, "a whole number of clips, or a share of them from 0 to 1");
    }
    if spec.run.memory_limit.is_some_and(|limit| limit.as_u64() < LEAST_MEMORY) {
        found.add("run.memory_limit", "`memory_limit` is below 64MiB, which holds no clip", "use at least 64MiB");
    }
    found.0
}

/// Less than this cannot hold the frames of one small clip beside the packets and pictures of its decoder.
const LEAST_MEMORY: u64 = 64 << 20;

/// Mistakes that were found so far.
#[derive(Debug, Default)]
pub(crate) struct Found(pub(crate) Vec<Mistake>);

impl Found {
    /// One more.
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(Mistake { path: path.into(), message: message.into(), help: help.into() });
    }
}

/// Whether pipelines, stages and datasets can be called so.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn is_column(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn check_source(source: &SourceSpec, at: &str, found: &mut Found) {
    let origins = [("path", &source.path), ("list", &source.list), ("render", &source.render)];
    let given: Vec<(&str, &String)> =
        origins.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
    match given.as_slice() {
        [] => found.add(
            at,
            "a source needs `path`, `list` or `render`",
            "a folder or a glob, a table of URIs, or a file of scenes",
        ),
        [(name, value)] if value.trim().is_empty() => {
            found.add(format!("{at}.{name}"), format!("`{name}` is empty"), "")
        }
        [_] => {}
        [(first, _), (second, _), ..] => found.add(
            format!("{at}.{second}"),
            format!("a source has either `{first}` or `{second}`, not both"),
            "make two sources of it, or leave one of the two out",
        ),
    }
    if source.render.is_some() && source.kind == SourceKind::Real {
        found.add(format!("{at}.kind"), "what is rendered is not `real`", "write `kind: synthetic`");
    }
}

fn check_names(stages: &[StageSpec], found: &mut Found) {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, stage) in stages.iter().enumerate() {
        let (name, at) = (stage.name(), format!("stages[{index}].name"));
        if !is_name(name) {
            found.add(at, format!("`{name}` is no name for a stage"), "letters, digits, `-` and `_`");
        } else if let Some(before) = first.get(name) {
            let message = format!("two stages are called `{name}`: numbers {before} and {index}");
            found.add(at, message, format!("give this one a name of its own: `name: {name}_{}`", index + 1));
        } else {
            first.insert(name, index);
        }
    }
}

/// Columns that stages add: each is made once, and none takes the place of one that every clip has.
fn check_columns(spec: &PipelineSpec, found: &mut Found) {
    let mut made: BTreeMap<String, String> = BTreeMap::new();
    let mut frames: Vec<&str> = Vec::new();
    for (index, stage) in spec.stages.iter().enumerate() {
        let at = format!("stages[{index}]");
        let mut columns: Vec<(String, String)> = Vec::new();
        match stage {
            StageSpec::Decode(config) => {
                columns.push((config.column.clone(), format!("{at}.column")));
                frames.push(&config.column);
                for (also, size) in config.also.iter().enumerate() {
                    columns.push((size.column.clone(), format!("{at}.also[{also}].column")));
                    frames.push(&size.column);
                }
            }
            StageSpec::Model(config) => {
                let outputs = config.outputs.iter().enumerate();
                columns.extend(
                    outputs.map(|(number, output)| (output.column.clone(), format!("{at}.outputs[{number}].column"))),
                );
            }
            StageSpec::Score(config) => {
                for score in config.scores.keys() {
                    for column in [score.clone(), format!("{score}_base_loss"), format!("{score}_reference_loss")] {
                        columns.push((column, format!("{at}.scores.{score}")));
                    }
                }
            }
            StageSpec::Embed(config) => columns.push((config.output.clone(), format!("{at}.output"))),
            StageSpec::Measure(config) => {
                let made = crate::stage::measure::columns(config).into_iter().enumerate();
                columns.extend(made.map(|(number, column)| (column, format!("{at}.measures[{number}]"))));
            }
            StageSpec::Split(_) | StageSpec::Caption(_) | StageSpec::Filter(_) | StageSpec::Simdrop(_) => {}
        }
        for (column, path) in columns {
            if !is_column(&column) {
                let help = "small letters, digits and `_`, so that SQL takes it without quotes";
                found.add(path, format!("`{column}` is no name for a column"), help);
            } else if column != TAGS && DESCRIPTIONS.iter().any(|(name, _)| *name == column) {
                let message = format!("every clip has a column `{column}` already");
                found.add(path, message, "choose another name");
            } else if let Some(before) = made.insert(column.clone(), stage.name().to_owned()) {
                found.add(path, format!("stage `{before}` makes a column `{column}` already"), "choose another name");
            }
        }
    }
    if spec.output.payload.contains(&Payload::Frames) {
        for (index, column) in spec.output.frames.iter().enumerate() {
            if !frames.contains(&column.as_str()) {
                let help = match frames.is_empty() {
                    true => "add a stage `decode`".to_owned(),
                    false => suggest::among(column, "the decoded columns are", frames.iter().copied()),
                };
                found.add(
                    format!("output.frames[{index}]"),
                    format!("no stage decodes into a column `{column}`"),
                    help,
                );
            }
        }
        if spec.output.frames.is_empty() {
            found.add("output.frames", "`frames` names no column to store", "name one that `decode` makes");
        }
    }
}

fn check_split(config: &SplitConfig, at: &str, found: &mut Found) {
    let positive = |number: f64| number > 0.0 && number.is_finite();
    if !positive(config.length_s) {
        found.add(format!("{at}.length_s"), "`length_s` has to be above 0", "");
    }
    if config.stride_s.is_some_and(|stride| !positive(stride)) {
        let help = "seconds from the start of one window to the start of the next";
        found.add(format!("{at}.stride_s"), "`stride_s` has to be above 0", help);
    }
    if let Some(minimum) = config.minimum_s {
        if !positive(minimum) {
            found.add(format!("{at}.minimum_s"), "`minimum_s` has to be above 0", "");
        } else if minimum > config.length_s {
            let message = format!("`minimum_s` is {minimum}, longer than a window of {}", config.length_s);
            found.add(format!("{at}.minimum_s"), message, "use at most `length_s`");
        }
    }
}

fn check_score(config: &ScoreConfig, at: &str, found: &mut Found) {
    if config.scores.is_empty() {
        found.add(format!("{at}.scores"), "the stage has no scores", "name one, with its `base` and its `reference`");
    }
    for (name, score) in &config.scores {
        let at = format!("{at}.scores.{name}");
        for (field, model) in [("base", &score.base), ("reference", &score.reference)] {
            if !config.models.contains_key(model) {
                let help = match config.models.is_empty() {
                    true => "`models` is empty".to_owned(),
                    false => suggest::among(model, "the models are", config.models.keys().map(String::as_str)),
                };
                found.add(format!("{at}.{field}"), format!("there is no model `{model}`"), help);
            }
        }
        if score.base == score.reference {
            let message = format!("`base` and `reference` are both `{}`, so the score is always 0", score.base);
            found.add(format!("{at}.reference"), message, "compare two models");
        }
        for (index, t) in score.t.iter().enumerate() {
            if !(*t > 0.0 && *t < 1.0) {
                let message = format!("the noise level {t} is not between 0 and 1");
                found.add(format!("{at}.t[{index}]"), message, "0 would be the clip itself, 1 nothing but noise");
            }
        }
    }
}

fn check_simdrop(config: &SimdropConfig, at: &str, found: &mut Found) {
    let given = [
        ("threshold", config.threshold.is_some()),
        ("thresholds", config.thresholds.is_some()),
        ("groups", config.groups.is_some()),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    match given.as_slice() {
        [_] => {}
        [] => found.add(
            at,
            "stage `simdrop` needs a threshold",
            "give `threshold` (a number), `thresholds` (a file) or `groups` (one for each value of a column)",
        ),
        [first, second, ..] => {
            let message = format!("stage `simdrop` has `{first}` and `{second}`");
            found.add(format!("{at}.{second}"), message, "keep one of the two");
        }
    }
    if let Some(groups) = &config.groups
        && groups.values.is_empty()
    {
        found.add(format!("{at}.groups.values"), "`values` is empty", "give one threshold or more");
    }
}

fn check_models(models: &ModelsSpec, found: &mut Found) {
    for (index, provider) in models.providers.iter().enumerate() {
        if models.providers[..index].contains(provider) {
            let message = format!("`{}` is listed twice", provider.as_str());
            found.add(format!("models.providers[{index}]"), message, "");
        }
    }
    if let Some(required) = models.require
        && !models.providers.contains(&required)
    {
        let message = format!("`{}` is required, but not among `providers`", required.as_str());
        found.add("models.require", message, format!("add `{}` to `providers`", required.as_str()));
    }
}
