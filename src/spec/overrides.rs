//! `--set KEY=VALUE`: single values changed from the command line.

use super::diagnostics::{Diagnostic, OPTIONS, source};
use super::path::{self, Unfound};
use super::suggest;
use super::tree::{Entry, Node, Place, Source, Value};
use super::yaml;

/// Applies one `KEY=VALUE` to the tree; a field that is not there yet is added, and what may not be there is found
/// when the tree is checked.
pub(crate) fn apply(root: &mut Node, assignment: &str) -> Result<(), Vec<Diagnostic>> {
    let text = source(OPTIONS, format!("{PREFIX}{assignment}"));
    let end = text.inner().len();
    let Some((key, _)) = assignment.split_once('=') else {
        let diagnostic = Diagnostic::at(Place::new(&text, PREFIX.len()..end), "a value is missing")
            .help("write `--set KEY=VALUE`, such as `--set stages.decode.fps=4`");
        return Err(vec![diagnostic]);
    };
    let key_end = PREFIX.len() + key.len();
    let mut value = yaml::parse(&text, key_end + 1..end)?
        .unwrap_or_else(|| Node::new(Value::Null, Place::new(&text, PREFIX.len()..key_end)));
    loosen(&mut value);
    let segments = segments(&text, key);
    match segments.as_slice() {
        [] => {
            let diagnostic = Diagnostic::at(Place::new(&text, PREFIX.len()..end), "a key is missing")
                .help("write `--set KEY=VALUE`, such as `--set stages.decode.fps=4`");
            Err(vec![diagnostic])
        }
        segments => put(root, segments, value).map_err(|diagnostic| vec![diagnostic]),
    }
}

const PREFIX: &str = "--set ";

/// A shell takes quotes away, so that what looks like a number may be meant as text.
fn loosen(node: &mut Node) {
    match &mut node.value {
        Value::Bool(_) | Value::Number(_) if node.plain => node.loose = Some(node.place.text().to_owned()),
        Value::List(items) => items.iter_mut().for_each(loosen),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| loosen(&mut entry.value)),
        _ => {}
    }
}

/// The parts of the key, each with its place.
fn segments(text: &Source, key: &str) -> Vec<(String, Place)> {
    let mut at = PREFIX.len();
    let mut all = Vec::new();
    for part in key.split(['.', '[', ']']) {
        let trimmed = part.trim();
        let start = at + part.len() - part.trim_start().len();
        if !trimmed.is_empty() {
            all.push((trimmed.to_owned(), Place::new(text, start..start + trimmed.len())));
        }
        at += part.len() + 1;
    }
    all
}

fn put(root: &mut Node, segments: &[(String, Place)], value: Node) -> Result<(), Diagnostic> {
    let [(first, _), stage, rest @ ..] = segments else { return put_at(root, "", segments, value) };
    if first != "stages" {
        return put_at(root, "", segments, value);
    }
    let mut none = Vec::new();
    let stages = match &mut root.value {
        Value::Map(entries) => entries.iter_mut().find(|entry| entry.key == "stages"),
        _ => None,
    };
    let stages = match stages.map(|entry| &mut entry.value.value) {
        Some(Value::List(stages)) => stages,
        _ => &mut none,
    };
    let index = find_stage(stages, stage)?;
    let Value::Map(entries) = &mut stages[index].value else {
        return Err(Diagnostic::at(stage.1.clone(), format!("stage {index} is no map, so nothing can be set in it")));
    };
    let Some(entry) = entries.first_mut() else {
        return Err(Diagnostic::at(stage.1.clone(), format!("stage {index} is empty")));
    };
    // The kind may be named as well: `stages.0.decode.fps`.
    let rest = match rest {
        [(kind, _), inner @ ..] if *kind == entry.key && !inner.is_empty() && entry.value.entry(kind).is_none() => {
            inner
        }
        rest => rest,
    };
    put_at(&mut entry.value, &stage.0, rest, value)
}

fn put_at(node: &mut Node, name: &str, segments: &[(String, Place)], value: Node) -> Result<(), Diagnostic> {
    let Some(((segment, place), rest)) = segments.split_first() else {
        *node = value;
        return Ok(());
    };
    if matches!(node.value, Value::Null) {
        node.value = Value::Map(Vec::new());
    }
    match &mut node.value {
        Value::Map(entries) => {
            let index = match entries.iter().position(|entry| entry.key == *segment) {
                Some(index) => index,
                None => {
                    let empty = Node::new(Value::Null, place.clone());
                    entries.push(Entry { key: segment.clone(), place: place.clone(), value: empty });
                    entries.len() - 1
                }
            };
            put_at(&mut entries[index].value, segment, rest, value)
        }
        Value::List(items) => {
            let number = items.len();
            let item = segment.parse::<usize>().ok().and_then(|index| items.get_mut(index)).ok_or_else(|| {
                let valid = match number {
                    0 => "it is empty".to_owned(),
                    1 => "it has one item, number 0".to_owned(),
                    number => format!("it has {number} items, numbered from 0 to {}", number - 1),
                };
                Diagnostic::at(place.clone(), format!("`{name}` has no item `{segment}`")).help(valid)
            })?;
            put_at(item, segment, rest, value)
        }
        other => {
            let message = format!("`{name}` is {}, so it has no field `{segment}`", other.words());
            Err(Diagnostic::at(place.clone(), message))
        }
    }
}

fn find_stage(stages: &[Node], (name, place): &(String, Place)) -> Result<usize, Diagnostic> {
    path::find_stage(stages, name).map_err(|unfound| {
        let names: Vec<&str> = stages.iter().filter_map(path::stage_name).collect();
        let diagnostic = Diagnostic::at(place.clone(), format!("there is no stage `{name}`"));
        match unfound {
            Unfound::Several(found) => {
                let ways: Vec<String> = found.iter().map(|index| format!("stages.{index}")).collect();
                Diagnostic::at(place.clone(), format!("{} stages are called `{name}`", found.len()))
                    .help(format!("give each a name of its own, or use its number: {}", ways.join(", ")))
            }
            Unfound::None if names.is_empty() => diagnostic.help("the pipeline has no stages"),
            Unfound::None => diagnostic.help(suggest::among(name, "the stages are", names)),
        }
    })
}
