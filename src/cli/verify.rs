//! The verb `verify`.

use super::{VerifyArgs, print};
use crate::error::{Error, Result};
use crate::progress::display::{self, ProgressMode};
use crate::storage::Storage;
use crate::verify;

/// Bytes are shown in this unit.
const MEGABYTE: u64 = 1_000_000;

/// Format of the result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum VerifyFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

pub(super) async fn verify(args: VerifyArgs) -> Result<()> {
    let bar = display::counter(ProgressMode::Auto, "MB");
    let show = |done: verify::VerifyProgress| bar.set(done.bytes / MEGABYTE, done.total.div_ceil(MEGABYTE));
    let storage = Storage::default();
    let checked = tokio::select! {
        checked = verify::verify(&storage, &args.dataset, &show) => checked?,
        _ = tokio::signal::ctrl_c() => return Err(Error::State("stopped; nothing was changed".to_owned())),
    };
    drop(bar);
    print(&match args.format {
        VerifyFormat::Json => serde_json::to_string_pretty(&checked).map_err(Error::internal)? + "\n",
        VerifyFormat::Text => checked.text(),
    })?;
    if checked.sound {
        return Ok(());
    }
    let (findings, files) = (checked.findings.len(), checked.damaged_files());
    Err(Error::State(format!("{} is not sound: {findings} findings in {files} files", args.dataset)))
}
