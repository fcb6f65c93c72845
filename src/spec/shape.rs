//! Checks the shape of a tree against the JSON Schema of the types: every mistake, each at its place.
//!
//! The types themselves have the last word when the tree is deserialised; this walk is there because they stop at the
//! first mistake and know no places. It understands what `schemars` writes for our types, no more.

use serde_json::Value as Json;

use super::diagnostics::Diagnostic;
use super::suggest;
use super::tree::{Entry, Node, Place, Value};

/// What is wrong with the shape of a tree.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    pub(crate) all: Vec<Diagnostic>,
    /// Paths of the values that are wrong, or whose fields are.
    pub(crate) paths: Vec<String>,
}

impl Mistakes {
    fn add(&mut self, at: At<'_>, place: &Place, message: String, help: String) {
        self.all.push(Diagnostic::at(place.clone(), message).help(help));
        self.paths.push(at.path.to_owned());
    }
}

/// Where in the tree the walk stands.
#[derive(Clone, Copy)]
struct At<'a> {
    /// Path as users write it.
    path: &'a str,
    /// What messages call it.
    name: &'a str,
    /// What it is named by: its key, or itself in a list.
    place: &'a Place,
    /// First sentence of its documentation.
    doc: &'a str,
}

/// Checks `root`, called `document` (`a pipeline`), against `schema`. On the way the tree is put right where it says the same in other words: a bare
/// stage becomes a map, an empty optional field goes away. Unknown fields go away as well, once they are reported.
pub(crate) fn check(root: &mut Node, document: &str, schema: &Json) -> Mistakes {
    let mut mistakes = Mistakes::default();
    let place = root.place.first_line();
    let name = format!("the {}", document.split_once(' ').map_or(document, |(_, name)| name));
    let at = At { path: "", name: &name, place: &place, doc: "" };
    Walk { schema, mistakes: &mut mistakes }.value(root, schema, at);
    mistakes
}

/// `- decode` becomes `- decode: {}`, and `- caption: compositional` the stage with that origin.
pub(crate) fn spell_out_stages(root: &mut Node) {
    let Value::Map(entries) = &mut root.value else { return };
    let Some(stages) = entries.iter_mut().find(|entry| entry.key == "stages") else { return };
    let Value::List(stages) = &mut stages.value.value else { return };
    for stage in stages {
        if let Value::Text(kind) = &stage.value {
            let place = stage.place.clone();
            let entry = Entry { key: kind.clone(), place: place.clone(), value: Node::new(Value::Null, place) };
            stage.value = Value::Map(vec![entry]);
        }
        let Value::Map(entries) = &mut stage.value else { continue };
        if let Some(caption) = entries.iter_mut().find(|entry| entry.key == "caption") {
            spell_out_caption(&mut caption.value);
        }
    }
}

fn spell_out_caption(caption: &mut Node) {
    let keyed = |key: &str, place: &Place, value: Value| {
        let value = Node::new(value, place.clone());
        Value::Map(vec![Entry { key: key.to_owned(), place: place.clone(), value }])
    };
    let place = caption.place.clone();
    if matches!(&caption.value, Value::Text(text) if text == COMPOSITIONAL) {
        let origin = Node::new(keyed(COMPOSITIONAL, &place, Value::Null), place.clone());
        caption.value = keyed("from", &place, Value::List(vec![origin]));
        return;
    }
    let Value::Map(entries) = &mut caption.value else { return };
    let Some(from) = entries.iter_mut().find(|entry| entry.key == "from") else { return };
    let Value::List(origins) = &mut from.value.value else { return };
    for origin in
        origins.iter_mut().filter(|origin| matches!(&origin.value, Value::Text(text) if text == COMPOSITIONAL))
    {
        let place = origin.place.clone();
        origin.value = keyed(COMPOSITIONAL, &place, Value::Null);
    }
}

/// The origin of captions that needs no settings.
const COMPOSITIONAL: &str = "compositional";

/// The schema that a reference leads to.
pub(crate) fn resolve<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let mut schema = schema;
    loop {
        let inner = &schema["allOf"][0];
        let reference = schema["$ref"].as_str().or_else(|| inner["$ref"].as_str());
        match reference.and_then(|reference| root.pointer(reference.trim_start_matches('#'))) {
            Some(target) => schema = target,
            None => return schema,
        }
    }
}

fn alternatives(schema: &Json) -> Option<&Vec<Json>> {
    schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Json::as_array)
}

/// The first sentence of a description.
fn sentence(schema: &Json) -> &str {
    let text = schema["description"].as_str().unwrap_or_default();
    text.find(". ").map_or(text, |end| &text[..=end])
}

struct Walk<'a> {
    schema: &'a Json,
    mistakes: &'a mut Mistakes,
}

impl<'a> Walk<'a> {
    fn value(&mut self, node: &mut Node, schema: &'a Json, at: At<'_>) {
        let schema = resolve(self.schema, schema);
        if let Some(all) = alternatives(schema) {
            let all: Vec<&'a Json> = all.iter().map(|one| resolve(self.schema, one)).collect();
            return self.one_of(node, &all, at);
        }
        if matches!(node.value, Value::Null) && takes(schema, "object") && !takes(schema, "null") {
            node.value = Value::Map(Vec::new());
        }
        if takes(schema, "string")
            && let Value::Bool(_) | Value::Number(_) = node.value
            && let Some(text) = node.loose.take()
        {
            node.value = Value::Text(text);
        }
        if !fits(&node.value, schema) {
            let message = format!("{} takes {}, not {}", at.name, wanted(schema), given(&node.value));
            let help = match &node.value {
                Value::Number(_) | Value::Bool(_) if takes(schema, "string") => {
                    format!("put quotes around it: \"{}\"", node.place.text())
                }
                _ => at.doc.to_owned(),
            };
            let place = if matches!(node.value, Value::Map(_) | Value::List(_)) { at.place } else { &node.place };
            return self.mistakes.add(at, place, message, help);
        }
        match &mut node.value {
            Value::Map(_) => self.map(node, schema, at),
            Value::List(items) => {
                let length = items.len() as u64;
                self.length(length, schema, at);
                for (index, item) in items.iter_mut().enumerate() {
                    let path = format!("{}[{index}]", at.path);
                    let name = if at.path == "stages" { "a stage".to_owned() } else { format!("`{}`", short(&path)) };
                    let place = item.place.first_line();
                    self.value(item, &schema["items"], At { path: &path, name: &name, place: &place, doc: at.doc });
                }
            }
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                self.range(number, schema, at, &node.place);
            }
            Value::Text(text) => {
                let place = &node.place;
                if schema["minLength"].as_u64().is_some_and(|least| (text.chars().count() as u64) < least) {
                    self.mistakes.add(at, place, format!("{} is empty", at.name), at.doc.to_owned());
                }
                if schema["pattern"].as_str() == Some(super::bytes::PATTERN)
                    && text.parse::<bytesize::ByteSize>().is_err()
                {
                    let message = format!("`{text}` is no size");
                    self.mistakes.add(at, place, message, "a number and a unit, such as 512MiB, 4GiB or 3GB".into());
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn length(&mut self, length: u64, schema: &Json, at: At<'_>) {
        let least = schema["minItems"].as_u64().filter(|least| length < *least);
        let most = schema["maxItems"].as_u64().filter(|most| length > *most);
        let items = |number: u64| if number == 1 { "1 item".to_owned() } else { format!("{number} items") };
        if let Some(limit) = least.or(most) {
            let bound = if schema["minItems"] == schema["maxItems"] {
                "takes"
            } else if least.is_some() {
                "takes at least"
            } else {
                "takes at most"
            };
            let message = format!("{} has {}, it {bound} {}", at.name, items(length), items(limit));
            self.mistakes.add(at, at.place, message, at.doc.to_owned());
        }
    }

    fn range(&mut self, number: f64, schema: &Json, at: At<'_>, place: &Place) {
        let (least, most) = (&schema["minimum"], &schema["maximum"]);
        let bound = |limit: &Json| limit.as_f64().unwrap_or_default();
        let low = least.as_f64().is_some_and(|least| number < least);
        let high = most.as_f64().is_some_and(|most| number > most);
        if low || high {
            let limits = match (least.is_null(), most.is_null()) {
                (false, false) => format!("from {} to {}", bound(least), bound(most)),
                (false, true) => format!("at least {}", bound(least)),
                _ => format!("at most {}", bound(most)),
            };
            let message = format!("{} is {}, it has to be {limits}", at.name, place.text());
            self.mistakes.add(at, place, message, at.doc.to_owned());
        }
    }

    fn map(&mut self, node: &mut Node, schema: &'a Json, at: At<'_>) {
        let Value::Map(entries) = &mut node.value else { return };
        let fields = schema["properties"].as_object();
        let names = || fields.into_iter().flatten().map(|(name, _)| name.as_str());
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let closed = schema["additionalProperties"] == Json::Bool(false);
        let inner = |key: &str| if at.path.is_empty() { key.to_owned() } else { format!("{}.{key}", at.path) };
        let mut missing: Vec<&str> =
            required.iter().copied().filter(|name| !entries.iter().any(|entry| entry.key == *name)).collect();
        entries.retain_mut(|entry| {
            let Some(target) = fields.and_then(|fields| fields.get(&entry.key)) else {
                if closed {
                    let message = format!("{} has no field `{}`", at.name, entry.key);
                    // A field that is missing is the likeliest one to be meant.
                    let near = suggest::nearest(&entry.key, missing.iter().copied())
                        .or_else(|| suggest::nearest(&entry.key, names()));
                    let help = match near {
                        Some(near) => {
                            missing.retain(|name| *name != near);
                            format!("did you mean `{near}`? {}", sentence(&schema["properties"][near]))
                        }
                        None => format!("its fields are {}", suggest::quoted(names())),
                    };
                    self.mistakes.add(at, &entry.place, message, help.trim_end().to_owned());
                    return false;
                }
                let path = inner(&entry.key);
                let name = format!("`{}`", short(&path));
                let at = At { path: &path, name: &name, place: &entry.place, doc: at.doc };
                self.value(&mut entry.value, &schema["additionalProperties"], at);
                return true;
            };
            let is_required = required.contains(&entry.key.as_str());
            if matches!(entry.value.value, Value::Null) && !is_required {
                return false;
            }
            let path = inner(&entry.key);
            let name = format!("`{}`", entry.key);
            let own = sentence(target);
            let doc = if own.is_empty() { sentence(resolve(self.schema, target)) } else { own };
            self.value(&mut entry.value, target, At { path: &path, name: &name, place: &entry.place, doc });
            true
        });
        for name in missing {
            let message = format!("{} needs the field `{name}`", at.name);
            self.mistakes.add(at, at.place, message, sentence(&schema["properties"][name]).to_owned());
        }
    }

    fn one_of(&mut self, node: &mut Node, all: &[&'a Json], at: At<'_>) {
        let nullable = all.iter().any(|one| one["type"] == "null");
        if nullable && matches!(node.value, Value::Null) {
            return;
        }
        let all: Vec<&'a Json> = all.iter().copied().filter(|one| one["type"] != "null").collect();
        if let [only] = all.as_slice() {
            return self.value(node, only, at);
        }
        let words: Vec<&str> = all.iter().filter_map(|one| one["const"].as_str()).collect();
        if words.len() == all.len() {
            return self.word(node, &words, at);
        }
        let tagged: Vec<(&'a str, &'a Json)> = all
            .iter()
            .filter_map(|one| one["properties"].as_object().filter(|fields| fields.len() == 1))
            .filter_map(|fields| fields.iter().next().map(|(tag, config)| (tag.as_str(), config)))
            .collect();
        if tagged.len() + words.len() == all.len() {
            return self.tagged(node, &tagged, at);
        }
        if let Some(exact) = all.iter().find(|one| fits(&node.value, one)) {
            return self.value(node, exact, at);
        }
        let mut wants: Vec<String> = all.iter().map(|one| wanted(one)).collect();
        if wants.iter().any(|want| want == "a number") {
            wants.retain(|want| want != "a whole number");
        }
        let message = format!("{} takes {}, not {}", at.name, wants.join(" or "), given(&node.value));
        let place = if matches!(node.value, Value::Map(_) | Value::List(_)) { at.place } else { &node.place };
        self.mistakes.add(at, place, message, at.doc.to_owned());
    }

    /// One word out of several.
    fn word(&mut self, node: &mut Node, words: &[&str], at: At<'_>) {
        let text = match (&node.value, node.loose.take()) {
            (Value::Text(text), _) => text.clone(),
            (_, Some(loose)) => loose,
            _ => {
                let message = format!(
                    "{} takes one of {}, not {}",
                    at.name,
                    suggest::quoted(words.iter().copied()),
                    given(&node.value)
                );
                return self.mistakes.add(at, at.place, message, at.doc.to_owned());
            }
        };
        if !words.contains(&text.as_str()) {
            let message = format!("{} cannot be `{text}`", at.name);
            let near = suggest::nearest(&text, words.iter().copied());
            let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let help = format!("{near}it is one of {}", suggest::quoted(words.iter().copied()));
            self.mistakes.add(at, &node.place, message, help);
        }
        node.value = Value::Text(text);
    }

    /// One kind out of several, with its settings below: a stage, an origin of captions.
    fn tagged(&mut self, node: &mut Node, kinds: &[(&'a str, &'a Json)], at: At<'_>) {
        let names = || kinds.iter().map(|(name, _)| *name);
        let is_stage = at.name == "a stage";
        let what = if is_stage { "stage" } else { "kind" };
        let Value::Map(entries) = &mut node.value else {
            let message = format!(
                "{} takes one of {} with its settings, not {}",
                at.name,
                suggest::quoted(names()),
                given(&node.value)
            );
            return self.mistakes.add(at, at.place, message, at.doc.to_owned());
        };
        let Some((entry, others)) = entries.split_first_mut() else {
            let message = format!("{} is empty", at.name);
            return self.mistakes.add(at, at.place, message, format!("it is one of {}", suggest::quoted(names())));
        };
        let Some((kind, config)) = kinds.iter().find(|(name, _)| *name == entry.key) else {
            let message = format!("there is no {what} `{}`", entry.key);
            let help = suggest::among(&entry.key, if is_stage { "the stages are" } else { "it is one of" }, names());
            return self.mistakes.add(at, &entry.place, message, help);
        };
        if let Some(other) = others.first() {
            let (message, help) = if names().any(|name| name == other.key) {
                let message = format!("`{kind}` and `{}` stand in one item of the list", other.key);
                (message, "start each with a `- ` of its own".to_owned())
            } else {
                let message = format!("`{}` stands beside `{kind}`, not below it", other.key);
                (message, format!("indent the settings of `{kind}` further than `{kind}` itself"))
            };
            return self.mistakes.add(at, &other.place, message, help);
        }
        let name = if is_stage { format!("stage `{kind}`") } else { format!("`{kind}`") };
        let doc = sentence(resolve(self.schema, config));
        let path = if is_stage { at.path.to_owned() } else { format!("{}.{kind}", at.path) };
        let place = entry.place.clone();
        self.value(&mut entry.value, config, At { path: &path, name: &name, place: &place, doc });
    }
}

/// The part of a path that says enough: `scores.simdrop_score`, `sources[0]`.
fn short(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

fn takes(schema: &Json, name: &str) -> bool {
    match &schema["type"] {
        Json::String(one) => one == name,
        Json::Array(several) => several.iter().any(|one| one == name),
        _ => false,
    }
}

fn fits(value: &Value, schema: &Json) -> bool {
    if schema["type"].is_null() {
        return true;
    }
    match value {
        Value::Null => takes(schema, "null"),
        Value::Bool(_) => takes(schema, "boolean"),
        Value::Number(number) => {
            takes(schema, "number") || takes(schema, "integer") && (number.is_u64() || number.is_i64())
        }
        Value::Text(_) => takes(schema, "string"),
        Value::List(_) => takes(schema, "array"),
        Value::Map(_) => takes(schema, "object"),
    }
}

/// What a schema takes, in words.
fn wanted(schema: &Json) -> String {
    const WORDS: [(&str, &str); 6] = [
        ("string", "text"),
        ("integer", "a whole number"),
        ("number", "a number"),
        ("boolean", "true or false"),
        ("array", "a list"),
        ("object", "a map"),
    ];
    if schema["pattern"].as_str() == Some(super::bytes::PATTERN) {
        return "a size such as 4GiB".to_owned();
    }
    WORDS.iter().filter(|(name, _)| takes(schema, name)).map(|(_, word)| *word).collect::<Vec<_>>().join(" or ")
}

/// A value, in words.
fn given(value: &Value) -> String {
    match value {
        Value::Text(text) if text.chars().count() <= 40 => format!("the text `{text}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::Bool(value) => format!("`{value}`"),
        other => other.words().to_owned(),
    }
}
