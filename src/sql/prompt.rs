//! The interactive prompt.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use datafusion::sql::parser::Statement;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper};

use super::format::Format;
use super::named::{NAMED, named};
use super::{SqlSession, Table};
use crate::error::{Error, Result};

const HELP: &str = "\
A query ends with ; and may span lines. Tab completes names, Ctrl-C clears the line or stops a query.
  \\d         the tables            \\d clips   the columns of a table
  \\q         the end (or Ctrl-D)   help       this text
  \\i NAME    a named query: ";

/// Where the prompt keeps its history: `simdrop/history` under `XDG_STATE_HOME`, else under `~/.local/state`.
pub fn history_file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("simdrop/history"))
}

/// Asks for queries and answers them until the user has enough; an error is told on `errors` and does not end it.
///
/// Where standard input is no terminal, all of it is read and answered, and an error ends it.
pub async fn prompt(
    session: &SqlSession,
    history: Option<&Path>,
    format: Format,
    out: &mut (dyn Write + Send),
    errors: &mut (dyn Write + Send),
) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(Error::io("read", "standard input"))?;
        return session.write(&text, format, out).await;
    }
    if format == Format::Parquet {
        return Err(Error::config("the prompt writes no Parquet; give the query on the command line"));
    }
    let failed = |error: ReadlineError| Error::State(format!("the terminal cannot be used: {error}"));
    let config = Config::builder().auto_add_history(false).build();
    let mut editor: Editor<PromptHelper, DefaultHistory> = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(PromptHelper::new(session.tables())));
    if let Some(file) = history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    writeln!(out, "{}: help for help, \\q to leave", session.name()).map_err(wrong)?;
    loop {
        // The terminal blocks, so it is read on a thread of its own.
        let (back, line) = tokio::task::spawn_blocking(move || {
            let line = editor.readline("simdrop> ");
            (editor, line)
        })
        .await
        .map_err(Error::internal)?;
        editor = back;
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        remember(&mut editor, history, &line, errors)?;
        match command(session.tables(), &line) {
            Command::Nothing => {}
            Command::Quit => return Ok(()),
            Command::Say(text) => writeln!(out, "{text}").map_err(wrong)?,
            Command::Query(sql) => {
                if let Err(error) = answer(session, &sql, format, out).await {
                    writeln!(errors, "error: {error}").map_err(wrong)?;
                }
            }
        }
    }
}

fn wrong(error: std::io::Error) -> Error {
    Error::io("write", "the terminal")(error)
}

/// Adds a line to the history; a history that cannot be written is told once and given up.
fn remember(
    editor: &mut Editor<PromptHelper, DefaultHistory>,
    history: Option<&Path>,
    line: &str,
    errors: &mut (dyn Write + Send),
) -> Result<()> {
    if line.trim().is_empty() || !editor.add_history_entry(line).unwrap_or(false) {
        return Ok(());
    }
    let Some(file) = history else { return Ok(()) };
    let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
    let saved = folder.map_err(ReadlineError::from).and_then(|()| editor.append_history(file));
    match saved {
        Err(error) if editor.history().iter().count() == 1 => {
            writeln!(errors, "warning: the history is not kept in {}: {error}", file.display()).map_err(wrong)
        }
        _ => Ok(()),
    }
}

async fn answer(session: &SqlSession, sql: &str, format: Format, out: &mut (dyn Write + Send)) -> Result<()> {
    let statements: Vec<Statement> = session.statements(sql)?;
    for statement in statements {
        let start = std::time::Instant::now();
        let rows = tokio::select! {
            rows = async { session.write_answer(session.stream(statement).await?, format, out).await } => rows?,
            _ = tokio::signal::ctrl_c() => return Err(Error::State("the query was stopped".to_owned())),
        };
        let s = if rows == 1 { "" } else { "s" };
        if format == Format::Table {
            writeln!(out, "{rows} row{s} in {:.3} s\n", start.elapsed().as_secs_f64()).map_err(wrong)?;
        }
    }
    Ok(())
}

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Command {
    Nothing,
    Quit,
    Say(String),
    Query(String),
}

fn command(tables: &[Table], line: &str) -> Command {
    let bare = line.trim().trim_end_matches(';').trim();
    let mut words = bare.split_whitespace();
    match (words.next().unwrap_or_default().to_ascii_lowercase().as_str(), words.next()) {
        ("", _) => Command::Nothing,
        ("\\q" | "quit" | "exit", None) => Command::Quit,
        ("help" | "\\?" | "\\h", None) => {
            let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
            Command::Say(format!("{HELP}{}", names.join(", ")))
        }
        ("\\d" | "\\dt", None) => Command::Say(list_tables(tables)),
        ("\\d" | "\\dt", Some(name)) => Command::Say(list_columns(tables, name)),
        ("\\i", Some(name)) => named(name).map_or_else(
            || Command::Say(format!("there is no named query {name}; see help")),
            |text| Command::Query(text.to_owned()),
        ),
        (word, _) if word.starts_with('\\') => Command::Say(format!("there is no command {word}; see help")),
        _ => Command::Query(line.to_owned()),
    }
}

fn list_tables(tables: &[Table]) -> String {
    let width = tables.iter().map(|table| table.name.len()).max().unwrap_or(0);
    let lines = tables.iter().map(|table| format!("  {:width$}  {}", table.name, table.description));
    lines.collect::<Vec<_>>().join("\n")
}

fn list_columns(tables: &[Table], name: &str) -> String {
    let Some(table) = tables.iter().find(|table| table.name.eq_ignore_ascii_case(name)) else {
        return format!("there is no table {name}; there are\n{}", list_tables(tables));
    };
    let fields = table.schema.fields();
    let width = fields.iter().map(|field| field.name().len()).max().unwrap_or(0);
    let described = |name: &str| {
        let all = crate::schema::DESCRIPTIONS.iter().filter(|_| table.name == "clips");
        all.clone().find(|(column, _)| *column == name).map_or("", |(_, text)| *text)
    };
    let line = |field: &std::sync::Arc<arrow::datatypes::Field>| {
        let kind = field.data_type().to_string();
        format!("  {:width$}  {kind:10}  {}", field.name(), described(field.name())).trim_end().to_owned()
    };
    fields.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Keeps a query open until its `;` and completes names.
#[derive(Debug)]
struct PromptHelper {
    words: Vec<String>,
}

impl PromptHelper {
    fn new(tables: &[Table]) -> Self {
        let columns = tables.iter().flat_map(|table| table.schema.fields().iter().map(|field| field.name().clone()));
        let tables = tables.iter().map(|table| table.name.to_owned());
        let sql = ["select", "from", "where", "group by", "order by", "limit", "count(*)", "distinct", "help"];
        let mut words: Vec<String> = tables.chain(columns).chain(sql.map(str::to_owned)).collect();
        words.extend(NAMED.iter().map(|(name, _)| (*name).to_owned()));
        words.sort();
        words.dedup();
        Self { words }
    }

    fn completions(&self, line: &str, position: usize) -> (usize, Vec<String>) {
        let part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
        let before = &line[..position];
        let start = before
            .rfind(|letter| !part(letter))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let word = before[start..].to_lowercase();
        if word.is_empty() {
            return (start, Vec::new());
        }
        (start, self.words.iter().filter(|have| have.starts_with(&word)).cloned().collect())
    }
}

/// Whether a line may be sent: a command, or a query with its `;` at the end.
fn is_complete(line: &str) -> bool {
    let line = line.trim();
    let one_word = ["help", "quit", "exit"].iter().any(|word| line.eq_ignore_ascii_case(word));
    line.is_empty() || line.starts_with('\\') || one_word || (line.ends_with(';') && !is_open(line))
}

/// Whether a quote or a comment goes on at the end of the text.
fn is_open(text: &str) -> bool {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};
    match Tokenizer::new(&GenericDialect {}, text).tokenize() {
        Ok(tokens) => matches!(tokens.last(), Some(Token::Whitespace(Whitespace::SingleLineComment { .. }))),
        Err(_) => true,
    }
}

impl Validator for PromptHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Completer for PromptHelper {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _context: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.completions(line, pos))
    }
}

impl Hinter for PromptHelper {
    type Hint = String;
}

impl Highlighter for PromptHelper {}

impl Helper for PromptHelper {}

#[cfg(test)]
mod tests {
    use super::{Command, PromptHelper, command, is_complete};
    use crate::sql::Table;

    fn tables() -> Vec<Table> {
        vec![Table { name: "clips", description: "one row a clip", schema: crate::schema::clip_schema() }]
    }

    #[test]
    fn a_query_is_complete_with_its_semicolon() {
        assert!(!is_complete("select 1"));
        assert!(!is_complete("select 1 -- not yet;"));
        assert!(!is_complete("select ';"));
        assert!(is_complete("select ';'\n;"));
        assert!(is_complete("\\d clips") && is_complete("help") && is_complete(" "));
    }

    #[test]
    fn commands_are_told_from_queries() {
        let tables = tables();
        assert_eq!(command(&tables, " ; "), Command::Nothing);
        assert_eq!(command(&tables, "\\q"), Command::Quit);
        assert_eq!(command(&tables, "exit;"), Command::Quit);
        assert_eq!(command(&tables, "\\d"), Command::Say("  clips  one row a clip".to_owned()));
        assert_eq!(command(&tables, "select 1;"), Command::Query("select 1;".to_owned()));
        assert!(matches!(command(&tables, "\\d clips"), Command::Say(text) if text.contains("caption_source")));
        assert!(matches!(command(&tables, "\\d clip"), Command::Say(text) if text.starts_with("there is no table")));
        assert!(matches!(command(&tables, "\\i failures"), Command::Query(text) if text.contains("failed")));
        assert!(matches!(command(&tables, "\\x"), Command::Say(text) if text.starts_with("there is no command")));
        assert!(matches!(command(&tables, "help"), Command::Say(text) if text.contains("keep-rate-by-source")));
    }

    #[test]
    fn names_are_completed() {
        let helper = PromptHelper::new(&tables());
        assert_eq!(helper.completions("select Dura", 11), (7, vec!["duration_s".to_owned()]));
        assert_eq!(helper.completions("select count(frame_c", 20), (13, vec!["frame_count".to_owned()]));
        assert_eq!(helper.completions("größe cli", "größe cli".len()).1, ["clip_id", "clips"]);
        assert_eq!(helper.completions("", 0).1, Vec::<String>::new());
    }
}
