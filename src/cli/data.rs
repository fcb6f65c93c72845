//! The verbs over a dataset, and the schemas.

use std::io::Write;

use super::{RepackArgs, SchemaArgs, SqlArgs, print};
use crate::error::{Error, Result};
use crate::progress::display::{self, LogWriter, ProgressMode};
use crate::repack::{self, RepackOptions};
use crate::spec;
use crate::sql::{self, SqlSession};
use crate::storage::Storage;
use crate::summary;

pub(super) async fn sql(args: SqlArgs) -> Result<()> {
    let session = SqlSession::open(&Storage::default(), &args.dataset).await?;
    let text = match (&args.query, &args.file) {
        (Some(query), _) => Some(query.clone()),
        (None, Some(file)) => Some(read_queries(file)?),
        (None, None) => None,
    };
    let mut out: Box<dyn Write + Send> = match &args.output {
        Some(path) => Box::new(std::fs::File::create(path).map_err(Error::io("create", path))?),
        None => Box::new(std::io::stdout()),
    };
    match text {
        Some(text) => session.write(&text, args.format, &mut out).await,
        None => {
            let history = sql::history_file();
            sql::prompt(&session, history.as_deref(), args.format, &mut out, &mut LogWriter::default()).await
        }
    }
}

/// The text of a file of queries, or of the named query.
fn read_queries(file: &str) -> Result<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(error) => match sql::named(file) {
            Some(text) => Ok(text.to_owned()),
            None => Err(Error::config(format!(
                "{file}: {error}, and no query has that name; there are: {}",
                sql::NAMED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
            ))),
        },
    }
}

pub(super) async fn repack(args: RepackArgs) -> Result<()> {
    let storage = Storage::default();
    let RepackArgs { dataset, output, name, keep, shuffle, mix, limit, max_samples, max_bytes, overwrite } = args;
    let options =
        RepackOptions { dataset, output, name, keep, seed: shuffle, mix, limit, max_samples, max_bytes, overwrite };
    let output = options.output.clone();
    let bar = display::counter(ProgressMode::Auto, "samples");
    let made = repack::repack(&storage, &options, &|done| bar.set(done.samples, done.total)).await?;
    drop(bar);
    for note in made.notes() {
        tracing::warn!("{note}");
    }
    summarize(&storage, &output).await
}

/// Prints what a dataset has become.
pub(super) async fn summarize(storage: &Storage, output: &str) -> Result<()> {
    let session = SqlSession::open_fixed(storage, output).await?;
    print(&summary::summary(&session, output).await?)
}

pub(super) fn schema(args: SchemaArgs) -> Result<()> {
    let files = spec::schema::files();
    if let Some(folder) = args.write {
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        for (name, content) in files {
            let path = folder.join(name);
            std::fs::write(&path, content).map_err(Error::io("write", &path))?;
            print(&format!("{}\n", path.display()))?;
        }
        return Ok(());
    }
    let name = args.name.unwrap_or_else(|| "pipeline".to_owned());
    let file = format!("{name}.schema.json");
    let content = files.into_iter().find(|(have, _)| *have == file).map(|(_, content)| content);
    print(&content.ok_or_else(|| Error::config(format!("there is no schema {name}")))?)
}
