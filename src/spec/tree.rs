//! A pipeline file as a tree that remembers where everything was written.

use std::ops::Range;
use std::sync::Arc;

use miette::NamedSource;
use serde_json::{Map, Number};

/// A text that people wrote: a file, or an option of the command line.
pub(crate) type Source = Arc<NamedSource<String>>;

/// A piece of a text, in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) source: Source,
    pub(crate) span: Range<usize>,
}

impl Place {
    pub(crate) fn new(source: &Source, span: Range<usize>) -> Self {
        Self { source: Arc::clone(source), span }
    }

    /// What stands there.
    pub(crate) fn text(&self) -> &str {
        self.source.inner().get(self.span.clone()).unwrap_or_default()
    }

    /// Only what stands on the first line.
    pub(crate) fn first_line(&self) -> Self {
        let length = self.text().lines().next().unwrap_or_default().trim_end().len();
        Self::new(&self.source, self.span.start..self.span.start + length)
    }

    /// The first occurrence of `needle` within, else all of it.
    pub(crate) fn narrow(&self, needle: &str) -> Self {
        match self.text().find(needle) {
            Some(at) => Self::new(&self.source, self.span.start + at..self.span.start + at + needle.len()),
            None => self.clone(),
        }
    }

    /// Bytes of the longest of the lines that would be drawn: those on which it starts and those around them.
    pub(crate) fn line_length(&self) -> usize {
        let text = self.source.inner();
        let (before, after) = text.split_at_checked(self.span.start).unwrap_or((text, ""));
        let behind = before.rsplit('\n').take(2).map(str::len);
        let ahead = after.split('\n').take(2).map(str::len);
        behind.chain(ahead).max().unwrap_or(0)
    }

    /// Line and column, from 1.
    pub(crate) fn line_column(&self) -> (usize, usize) {
        let before = self.source.inner().get(..self.span.start).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

/// One value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// Whether the text stands there without quotes, so that its type follows from how it looks.
    pub(crate) plain: bool,
    /// The text as it was given, where nobody could put quotes around it (an environment variable, an option): it
    /// is taken as text where text is wanted, whatever it looks like.
    pub(crate) loose: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A field of a map.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn new(value: Value, place: Place) -> Self {
        Self { value, place, plain: false, loose: None }
    }

    /// The field `key` of a map.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Number of values in the tree, and of bytes of text.
    pub(crate) fn size(&self) -> (usize, usize) {
        let add = |(values, text): (usize, usize), (more, longer): (usize, usize)| (values + more, text + longer);
        match &self.value {
            Value::List(items) => items.iter().map(Self::size).fold((1, 0), add),
            Value::Map(entries) => {
                entries.iter().map(|entry| add(entry.value.size(), (0, entry.key.len()))).fold((1, 0), add)
            }
            Value::Text(text) => (1, text.len()),
            _ => (1, 0),
        }
    }

    /// The tree without its places.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(value) => value.clone().into(),
            Value::Text(value) => value.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                let fields = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                serde_json::Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }
}

impl Value {
    /// The value that a text without quotes stands for, by YAML 1.2's core schema.
    pub(crate) fn of_plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        number(text).map_or_else(|| Self::Text(text.to_owned()), Self::Number)
    }

    /// What kind of value it is, in words.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = text.trim_start_matches(['+', '-']);
    if text.len() - digits.len() > 1 || !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Number::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().map(Number::from);
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let unsigned = text.parse::<u64>().ok().map(Number::from);
        if let Some(whole) = unsigned.or_else(|| text.parse::<i64>().ok().map(Number::from)) {
            return Some(whole);
        }
    }
    // Rust reads `1_0`, `inf` and `nan` as no number here, and so does JSON.
    text.parse::<f64>().ok().and_then(Number::from_f64)
}
