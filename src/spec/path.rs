//! Paths into a pipeline: `stages[2].model`, `stages.decode.fps`, `sources.0.path`.
//!
//! A stage is named by its number, its name or its kind, and its fields follow without the kind in between.

use super::tree::{Entry, Node, Place, Value};

/// The names and numbers of a path.
pub(crate) fn segments(path: &str) -> Vec<&str> {
    path.split(['.', '[', ']']).filter(|segment| !segment.is_empty()).collect()
}

/// A stage's kind with its settings.
pub(crate) fn stage(node: &Node) -> Option<&Entry> {
    match &node.value {
        Value::Map(entries) => entries.first(),
        _ => None,
    }
}

/// A stage's name: the one given, else its kind.
pub(crate) fn stage_name(node: &Node) -> Option<&str> {
    let entry = stage(node)?;
    match entry.value.entry("name").map(|name| &name.value.value) {
        Some(Value::Text(name)) => Some(name),
        _ => Some(&entry.key),
    }
}

/// The number of the stage that `segment` names.
pub(crate) fn find_stage(stages: &[Node], segment: &str) -> Result<usize, Unfound> {
    if let Ok(index) = segment.parse::<usize>() {
        return if index < stages.len() { Ok(index) } else { Err(Unfound::None) };
    }
    let matches = |test: &dyn Fn(&Node) -> Option<&str>| -> Vec<usize> {
        (0..stages.len()).filter(|index| test(&stages[*index]) == Some(segment)).collect()
    };
    for found in [matches(&stage_name), matches(&|node| stage(node).map(|entry| entry.key.as_str()))] {
        match found.as_slice() {
            [] => {}
            [only] => return Ok(*only),
            several => return Err(Unfound::Several(several.to_vec())),
        }
    }
    Err(Unfound::None)
}

/// Why a name leads to no stage.
pub(crate) enum Unfound {
    /// There is none of this name.
    None,
    /// These have this name or kind.
    Several(Vec<usize>),
}

/// The place of what `path` names; where it is not written down, of the nearest thing around it that is.
pub(crate) fn locate(root: &Node, path: &str) -> Place {
    let segments = segments(path);
    if let ["stages", name, rest @ ..] = segments.as_slice()
        && let Some(stages) = root.entry("stages")
        && let Ok(index) = find_stage(stages.value.items(), name)
        && let Some(entry) = stage(&stages.value.items()[index])
    {
        let (place, depth) = walk(&entry.value, &entry.place, rest);
        // A path may name the kind as well, which is no field of the settings.
        return match rest {
            [kind, inner @ ..] if depth < rest.len() && *kind == entry.key => walk(&entry.value, &entry.place, inner).0,
            _ => place,
        };
    }
    walk(root, &root.place, &segments).0
}

fn walk(node: &Node, around: &Place, segments: &[&str]) -> (Place, usize) {
    let mut at = (node, around);
    for (depth, segment) in segments.iter().enumerate() {
        let next = match &at.0.value {
            Value::Map(_) => at.0.entry(segment).map(|entry| (&entry.value, &entry.place)),
            Value::List(items) => {
                segment.parse::<usize>().ok().and_then(|index| items.get(index)).map(|item| (item, &item.place))
            }
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return (at.1.clone(), depth),
        }
    }
    let place = match at.0.value {
        // All of a map or a list says less than the name that it has.
        Value::Map(_) | Value::List(_) => at.1.clone(),
        _ => at.0.place.clone(),
    };
    (place, segments.len())
}
