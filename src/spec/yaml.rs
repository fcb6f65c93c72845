//! From YAML text to a tree with places.
//!
//! What enters is untrusted as to its size: length, depth, and the number of values and the bytes of text with aliases
//! expanded are bounded.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::diagnostics::{Diagnostic, OPTIONS};
use super::tree::{Entry, Node, Place, Source, Value};

/// Most bytes of a file.
pub(crate) const MOST_BYTES: usize = 4 << 20;
/// Most bytes of text in a file, that which aliases repeat included.
const MOST_TEXT: usize = 4 * MOST_BYTES;
/// Most values in a file, those that aliases repeat included.
const MOST_VALUES: usize = 50_000;
/// Most levels of maps and lists.
const MOST_LEVELS: usize = 64;

/// The tree of the text in `range`; none where there is nothing but comments.
pub(crate) fn parse(source: &Source, range: Range<usize>) -> Result<Option<Node>, Vec<Diagnostic>> {
    let text = source.inner().get(range.clone()).unwrap_or_default();
    if text.len() > MOST_BYTES {
        let start = Place::new(source, range.start..range.start);
        let message = format!("the file has {} bytes, a pipeline has at most {MOST_BYTES}", text.len());
        return Err(vec![Diagnostic::at(start, message).help("is it a pipeline at all?")]);
    }
    let mut options = granit_parser::options! { flow_nesting_limit: MOST_LEVELS, block_nesting_limit: MOST_LEVELS };
    options.set_emit_comments(false);
    let mut builder = Builder {
        events: Parser::new_from_str_with_options(text, options),
        source,
        offset: range.start,
        anchors: HashMap::new(),
        values: 0,
        text: 0,
        mistakes: Vec::new(),
    };
    let root = match builder.document() {
        Ok(root) => root,
        Err(fatal) => {
            builder.mistakes.push(*fatal);
            None
        }
    };
    if builder.mistakes.is_empty() { Ok(root) } else { Err(builder.mistakes) }
}

struct Builder<'a> {
    events: Parser<'a, StrInput<'a>>,
    source: &'a Source,
    offset: usize,
    /// What anchors stand for, with its values and bytes of text.
    anchors: HashMap<usize, (Node, (usize, usize))>,
    values: usize,
    text: usize,
    mistakes: Vec<Diagnostic>,
}

/// Parsing cannot go on after this.
type Fatal = Box<Diagnostic>;

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Option<Node>, Fatal> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(..) if root.is_some() => {
                    let place = self.place(span).first_line();
                    return Err(Diagnostic::at(place, "a second document starts here")
                        .help("a file holds one pipeline: put the other one into a file of its own")
                        .into());
                }
                event if event.is_node() => root = Some(self.node(event, span)?),
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Fatal> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.syntax(&error).into()),
            None => Ok((Event::StreamEnd, Span::empty(granit_parser::Marker::new(0, 1, 0)))),
        }
    }

    fn place(&self, span: Span) -> Place {
        let range = span.byte_range().unwrap_or_default();
        Place::new(self.source, self.offset + range.start..self.offset + range.end)
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Fatal> {
        let place = self.place(span);
        self.count((1, 0), &place)?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count((0, text.len()), &place)?;
                let plain = style == ScalarStyle::Plain;
                let mut node = Node::new(self.scalar(&text, plain, tag.as_deref(), &place), place);
                node.plain = plain;
                (node, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list(place)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(place)?, anchor),
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id) else {
                    return Err(Diagnostic::at(place, "this alias stands within the value that it repeats").into());
                };
                let (node, size) = (node.clone(), *size);
                self.count(size, &place)?;
                (node, 0)
            }
            _ => return Err(Diagnostic::at(place, "a value is missing here").into()),
        };
        if anchor > 0 {
            let size = node.size();
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn list(&mut self, mut place: Place) -> Result<Node, Fatal> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                place.span.end = self.place(span).span.end.max(place.span.start);
                return Ok(Node::new(Value::List(items), place));
            }
            items.push(self.node(event, span)?);
        }
    }

    fn map(&mut self, mut place: Place) -> Result<Node, Fatal> {
        let mut entries: Vec<Entry> = Vec::new();
        // Places in `entries`: a map may have very many.
        let mut known: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                place.span.end = self.place(span).span.end.max(place.span.start);
                return Ok(Node::new(Value::Map(entries), place));
            }
            let at = self.place(span);
            let key = match event {
                Event::Scalar(text, ..) => {
                    self.count((0, text.len()), &at)?;
                    Some(text.into_owned())
                }
                event => {
                    self.node(event, span)?;
                    self.mistakes.push(
                        Diagnostic::at(at.first_line(), "the name of a field has to be plain text")
                            .help("text that starts with `{`, `[`, `*` or `&` needs quotes"),
                    );
                    None
                }
            };
            let (event, span) = self.next()?;
            let mut value = self.node(event, span)?;
            let Some(key) = key else { continue };
            if value.place.span.is_empty() {
                value.place = at.clone();
            }
            if let Some(first) = known.get(&key).and_then(|first| entries.get(*first)) {
                let (line, _) = first.place.line_column();
                self.mistakes.push(
                    Diagnostic::at(at, format!("`{key}` is given twice"))
                        .help(format!("the first one is on line {line}; keep one of them")),
                );
                continue;
            }
            known.insert(key.clone(), entries.len());
            entries.push(Entry { key, place: at, value });
        }
    }

    fn scalar(&mut self, text: &str, plain: bool, tag: Option<&Tag>, place: &Place) -> Value {
        match tag.map(|tag| (tag, tag.core_suffix())) {
            None if plain => Value::of_plain(text),
            None | Some((_, Some("str"))) => Value::Text(text.to_owned()),
            Some((_, Some("int" | "float" | "bool" | "null"))) => Value::of_plain(text),
            Some((tag, _)) => {
                let message = format!("the tag {} is not known", tag.original());
                self.mistakes.push(Diagnostic::at(place.first_line(), message).help("leave it out"));
                Value::Text(text.to_owned())
            }
        }
    }

    fn count(&mut self, (values, text): (usize, usize), place: &Place) -> Result<(), Fatal> {
        self.values += values;
        self.text += text;
        let message = if self.values > MOST_VALUES {
            format!("the file holds more than {MOST_VALUES} values, with all that aliases repeat")
        } else if self.text > MOST_TEXT {
            format!("the file holds more than {MOST_TEXT} bytes of text, with all that aliases repeat")
        } else {
            return Ok(());
        };
        Err(Diagnostic::at(place.first_line(), message)
            .help("write a list of clips as a CSV, JSONL or Parquet file")
            .into())
    }

    fn syntax(&self, error: &ScanError) -> Diagnostic {
        let text = self.source.inner();
        let at = (self.offset + error.marker().byte_offset().unwrap_or_default()).min(text.len());
        let length = text[at..].chars().next().filter(|next| *next != '\n').map_or(0, char::len_utf8);
        let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let margin =
            &text[line..text[line..].find(|c: char| c != ' ' && c != '\t').map_or(text.len(), |end| line + end)];
        let message = error.info();
        let diagnostic = Diagnostic::at(Place::new(self.source, at..at + length), format!("no valid YAML: {message}"));
        if let Some(tab) = margin.find('\t') {
            let place = Place::new(self.source, line + tab..line + tab + 1);
            return Diagnostic::at(place, "this line is indented by a tab").help("YAML is indented by spaces");
        }
        let rest = text[line..].lines().next().unwrap_or_default();
        diagnostic.help(if self.source.name() == OPTIONS {
            "the value is read as YAML; put quotes around it for YAML, and around all of it for the shell"
        } else if rest.contains("${") && (rest.contains('{') || rest.contains('[')) && at > line {
            "within [ ] and { } a value with ${…} needs quotes"
        } else {
            "look at the indentation and the quotes of this line and of the one before it; the fields of a map start in \
             one column, and text with `: ` or ` #` in it needs quotes"
        })
    }
}
