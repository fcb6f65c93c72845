//! One shard: its bytes, and each of its samples against the row that it belongs to.

use futures::{StreamExt, stream};

use super::Audit;
use super::report::{Findings, Remedy};
use super::rows::Place;
use super::scan::{Scanned, Scanner};
use crate::dataset::ShardEntry;
use crate::error::Result;
use crate::stage::shards::series::{CHUNK, FileRange};

/// Chunks that are read ahead of the one that is looked at.
const AHEAD: usize = 2;

/// Reads a shard in chunks and compares it with what the rows say; `all_rows` is false where rows are missing, so that
/// a sample without a row means nothing.
pub(super) async fn check(
    audit: &Audit<'_>,
    entry: &ShardEntry,
    mut places: Vec<Place>,
    all_rows: bool,
) -> Result<Findings> {
    let ShardEntry { path, unit: _, samples, bytes, blake3 } = entry;
    let Some(there) = audit.there.get(path).copied() else {
        let (samples, names) = (*samples, names(&places));
        return Ok(Findings::missing(path, format!("the file is gone, samples in it: {samples}{names}")));
    };
    let mut findings = Findings::new(path, Remedy::Anew);
    places.sort_unstable_by(|a, b| (a.offset, &a.key).cmp(&(b.offset, &b.key)));
    let (hash, scanned) = match read(audit, path, there, &places).await? {
        Ok(read) => read,
        Err(reason) => return Ok(Findings::missing(path, format!("it cannot be read: {reason}"))),
    };
    findings.bytes(there, *bytes);
    findings.checksum(&hash, blake3);
    if all_rows && places.len() as u64 != *samples {
        findings.add(format!("{} rows place a sample in it, dataset.json says {samples}", places.len()));
    }
    compare(&places, scanned, there, all_rows, &mut findings);
    Ok(findings)
}

/// Hash and samples of a shard of `size` bytes; why it cannot be read, where it cannot.
async fn read(
    audit: &Audit<'_>,
    path: &str,
    size: u64,
    places: &[Place],
) -> Result<Result<(blake3::Hash, Scanned), String>> {
    let file = FileRange { location: audit.root.join(path), start: 0, end: size, etag: None };
    let file = &file;
    let chunks =
        (0..size).step_by(CHUNK).map(|from| async move { file.read(from, size.min(from + CHUNK as u64)).await });
    let mut chunks = stream::iter(chunks).buffered(AHEAD);
    let scanner = Scanner::new(places.iter().map(|place| place.offset).collect());
    let mut state = (Box::new(blake3::Hasher::new()), scanner);
    while let Some(chunk) = chunks.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(reason) => return Ok(Err(reason)),
        };
        let bytes = chunk.len() as u64;
        let (mut hasher, mut scanner) = state;
        let look = move || {
            hasher.update(&chunk);
            scanner.feed(&chunk);
            (hasher, scanner)
        };
        (state, _) = audit.cpu.run(look).await?;
        audit.read(bytes);
    }
    Ok(Ok((state.0.finalize(), state.1.finish())))
}

/// Compares the samples that are there with those that the rows say, both in the order of their first bytes.
fn compare(places: &[Place], scanned: Scanned, size: u64, all_rows: bool, findings: &mut Findings) {
    let Scanned { samples, problems } = scanned;
    for (at, problem) in &problems {
        // What was open at the damage is told below, as the clip that it belongs to.
        if !places.iter().any(|place| place.holds(*at)) {
            findings.add(format!("{problem} at byte {at}"));
        }
    }
    let mut samples = samples.into_iter().peekable();
    let orphan = |findings: &mut Findings, found: super::scan::Found| {
        if all_rows {
            let end = found.offset + found.size;
            findings
                .clip(&found.key, format!("its sample, bytes {} to {end}, has no row in the metadata", found.offset));
        }
    };
    for place in places {
        let Place { key, offset, size: length } = place;
        while let Some(found) = samples.next_if(|found| found.offset < *offset) {
            orphan(findings, found);
        }
        let damage = problems.iter().find(|(at, _)| place.holds(*at));
        match samples.next_if(|found| found.offset == *offset) {
            Some(found) if found.key != **key => {
                findings
                    .clip(key, format!("at byte {offset}, where its row says, lies the sample of clip {}", found.key));
            }
            Some(found) if found.size != *length => {
                let there = found.size;
                findings.clip(key, format!("its sample at byte {offset} has {there} bytes, its row says {length}"));
            }
            Some(_) => {}
            None if *offset >= size => findings.clip(key, format!("its sample at byte {offset} lies behind the end")),
            None => match damage {
                Some((at, problem)) => findings.clip(key, format!("its sample is damaged: {problem} at byte {at}")),
                None => findings.clip(key, format!("at byte {offset}, where its row says, no sample begins")),
            },
        }
    }
    samples.for_each(|found| orphan(findings, found));
}

impl Place {
    fn holds(&self, at: u64) -> bool {
        (self.offset..self.offset.saturating_add(self.size)).contains(&at)
    }
}

/// The first few clips, for a message.
fn names(places: &[Place]) -> String {
    const FEW: usize = 3;
    let few: Vec<&str> = places.iter().take(FEW).map(|place| &*place.key).collect();
    match (few.is_empty(), places.len() > FEW) {
        (true, _) => String::new(),
        (false, more) => format!(" ({}{})", few.join(", "), if more { ", …" } else { "" }),
    }
}
