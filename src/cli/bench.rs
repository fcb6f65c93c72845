//! The verb `bench`.

use std::fmt::Write;

use super::pipeline::{Scratch, load, place};
use super::{BenchArgs, print};
use crate::bench::{self, Report};
use crate::error::{Error, Result};

/// Format of the result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum BenchFormat {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON object.
    Json,
}

pub(super) async fn bench(args: BenchArgs) -> Result<()> {
    let loaded = load(&args.pipeline)?;
    let folder = Scratch::new("bench")?;
    let report = tokio::select! {
        report = bench::bench(&loaded.spec, args.clips, folder.path()) => report.map_err(|error| place(&loaded, error))?,
        _ = tokio::signal::ctrl_c() => return Err(Error::Cancelled),
    };
    print(&match args.format {
        BenchFormat::Json => serde_json::to_string_pretty(&report).map_err(Error::internal)? + "\n",
        BenchFormat::Table => table(&report).map_err(Error::internal)?,
    })
}

fn table(report: &Report) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(
        text,
        "{} clips in {:.2} s on {} threads; first shard after {:.2} s; peak memory {}\n",
        report.clips,
        report.seconds,
        report.threads,
        report.first_shard_s,
        bytesize::ByteSize(report.peak_memory)
    )?;
    writeln!(text, "{:<16} {:>10} {:>12} {:>6} {:>7}", "stage", "rows/s", "bytes/s", "busy", "queue")?;
    for stage in &report.stages {
        writeln!(
            text,
            "{:<16} {:>10.1} {:>12} {:>4.0} % {:>7.1}",
            stage.stage,
            stage.rows_per_s,
            bytesize::ByteSize(stage.bytes_per_s as u64).to_string(),
            stage.busy * 100.0,
            stage.queue
        )?;
    }
    writeln!(text, "\n{:<58} {:>9} {:>18}", "limit (bare, all cores)", "clips/s", "")?;
    for limit in &report.limits {
        writeln!(text, "{:<58} {:>9.1} {:>18}", limit.part, limit.clips_per_s, limit.rate)?;
    }
    writeln!(
        text,
        "\npipeline {:.2} clips/s, limit {:.2} clips/s (the parts one after another), ratio {:.2}",
        report.clips_per_s, report.limit_clips_per_s, report.ratio
    )?;
    Ok(text)
}
