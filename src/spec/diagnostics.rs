//! Mistakes in a pipeline, shown where they stand.

use std::fmt;
use std::io::IsTerminal;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteHandlerOpts, NamedSource, ReportHandler, SourceCode,
};

use super::tree::Place;
use crate::error::Error;

/// One mistake: what is wrong, where, and what to do.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    message: String,
    place: Option<Place>,
    help: Option<String>,
}

impl Diagnostic {
    /// A mistake that stands at no place of any text.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), place: None, help: None }
    }

    pub(crate) fn at(place: Place, message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), place: Some(place), help: None }
    }

    /// With a line on what to do.
    #[must_use]
    pub fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string()).filter(|help| !help.is_empty());
        self
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it is wrong, from 1: the file's name (or `command line`), line and column.
    pub fn spot(&self) -> Option<(&str, usize, usize)> {
        let place = self.place.as_ref()?;
        let (line, column) = place.line_column();
        Some((place.source.name(), line, column))
    }

    /// The text that is wrong.
    pub fn text(&self) -> Option<&str> {
        self.place.as_ref().map(Place::text)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place
            .as_ref()
            .filter(|place| place.line_length() <= MOST_LINE)
            .map(|place| place.source.as_ref() as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref().filter(|place| place.line_length() <= MOST_LINE)?.first_line();
        Some(Box::new(std::iter::once(LabeledSpan::new(None, place.span.start, place.span.len()))))
    }
}

/// Everything that is wrong with a pipeline, in the order of the file; never empty.
#[derive(Debug, Clone)]
pub struct Diagnostics(Vec<Diagnostic>);

/// How mistakes are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// ASCII without colours, the same everywhere.
    Plain,
    /// For a terminal.
    Terminal,
}

impl Look {
    /// What suits standard error.
    pub fn of_stderr() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if wanted && std::io::stderr().is_terminal() { Self::Terminal } else { Self::Plain }
    }
}

impl Diagnostics {
    pub(crate) fn new(mut all: Vec<Diagnostic>) -> Self {
        // Options follow the file, in the order in which they were given.
        all.sort_by_key(|one| match &one.place {
            Some(place) if place.source.name() == OPTIONS => (1, 0),
            Some(place) => (0, place.span.start),
            None => (0, 0),
        });
        Self(all)
    }

    /// The mistakes.
    pub fn all(&self) -> &[Diagnostic] {
        &self.0
    }

    /// The first mistakes with the lines that they stand on, and how many there are.
    pub fn render(&self, look: Look) -> String {
        let mut text = String::new();
        for diagnostic in self.0.iter().take(MOST_SHOWN) {
            text.push_str(&Rendered { diagnostic, look }.to_string());
            text.push('\n');
        }
        if let Some(more) = self.0.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
            text.push_str(&format!("  and {more} more\n\n"));
        }
        let mut names: Vec<&str> = Vec::new();
        for name in self.0.iter().filter_map(|one| one.place.as_ref()).map(|place| place.source.name()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let number = self.0.len();
        let mistakes = if number == 1 { "mistake" } else { "mistakes" };
        text.push_str(&format!("{number} {mistakes}"));
        if !names.is_empty() {
            text.push_str(&format!(" in {}", names.join(" and ")));
        }
        text
    }
}

/// Most mistakes that are drawn; each takes a pass over the file.
const MOST_SHOWN: usize = 50;
/// Most bytes of a line that is drawn.
const MOST_LINE: usize = 4096;

/// Name that options of the command line have as a source.
pub(crate) const OPTIONS: &str = "command line";

/// A text with its name.
pub(crate) fn source(name: impl AsRef<str>, text: String) -> super::tree::Source {
    std::sync::Arc::new(NamedSource::new(name, text))
}

struct Rendered<'a> {
    diagnostic: &'a Diagnostic,
    look: Look,
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.look {
            Look::Plain => GraphicalReportHandler::new_themed(GraphicalTheme::none())
                .with_width(100)
                .with_context_lines(1)
                .render_report(f, self.diagnostic),
            Look::Terminal => MietteHandlerOpts::new().context_lines(1).build().debug(self.diagnostic, f),
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Look::Plain))
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(all: I) -> Self {
        Self::new(all.into_iter().collect())
    }
}

impl From<Diagnostics> for Error {
    fn from(all: Diagnostics) -> Self {
        Self::Diagnostics(all.render(Look::of_stderr()))
    }
}

impl From<Diagnostic> for Error {
    fn from(one: Diagnostic) -> Self {
        Diagnostics::from(one).into()
    }
}
