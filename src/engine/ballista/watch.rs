//! Looks for the receipts that executors leave in storage.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use crate::commit;
use crate::dataset::Receipt;
use crate::engine::Pending;
use crate::error::Result;
use crate::progress::Progress;
use crate::spec::Named;

/// Shortest pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// A pause is so many times as long as the look before it took, since a listing of many receipts takes long.
const REST: u32 = 5;
/// Receipts that are read at once.
const READS: usize = 16;

/// The units of a job that are not known to be done.
pub(super) struct ReceiptWatch<'a> {
    work: &'a Pending<'a>,
    progress: &'a Progress,
    /// Rows of the units that no receipt was seen of.
    open: HashMap<&'a str, u64>,
    next: Instant,
    /// What each model ran on.
    providers: Named<BTreeSet<String>>,
}

impl<'a> ReceiptWatch<'a> {
    pub(super) fn new(work: &'a Pending<'a>, progress: &'a Progress) -> Self {
        let open = work.units.iter().map(|unit| (unit.id.as_str(), unit.clips() as u64)).collect();
        Self { work, progress, open, next: Instant::now() + PAUSE, providers: Named::new() }
    }

    /// Counts the units that have a receipt now, unless the last look was just now.
    pub(super) async fn look_now_and_then(&mut self) -> Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        let began = Instant::now();
        let names = commit::receipt_names(self.work.root, self.work.fingerprint).await?;
        let new: Vec<&String> = names.iter().filter(|name| self.open.contains_key(name.as_str())).collect();
        let work = self.work;
        let reads = new.into_iter().map(|name| commit::read_receipt(work.root, work.fingerprint, name));
        let mut reads = futures::stream::iter(reads).buffer_unordered(READS);
        while let Some(receipt) = reads.try_next().await? {
            receipt.iter().for_each(|receipt| self.count(receipt));
        }
        self.next = Instant::now() + PAUSE.max(began.elapsed() * REST);
        Ok(())
    }

    /// All receipts whose files are there.
    pub(super) async fn all(&mut self) -> Result<Vec<Receipt>> {
        let units: HashSet<&str> = self.work.units.iter().map(|unit| unit.id.as_str()).collect();
        let receipts = commit::read_receipts(self.work.root, self.work.fingerprint, None, &units).await?;
        receipts.values().for_each(|receipt| self.count(receipt));
        Ok(receipts.into_values().collect())
    }

    /// The providers that each model ran on, by the receipts that were seen.
    pub(super) fn providers(&self) -> Named<String> {
        let join = |used: &BTreeSet<String>| used.iter().cloned().collect::<Vec<_>>().join(", ");
        self.providers.iter().map(|(model, used)| (model.clone(), join(used))).collect()
    }

    fn count(&mut self, receipt: &Receipt) {
        let Some(rows) = self.open.remove(receipt.unit.as_str()) else { return };
        let counts = receipt.counts;
        self.progress.expect_more(counts.clips.saturating_sub(rows));
        self.progress.settle(counts.kept, counts.dropped, counts.failed);
        self.progress.finish_unit(counts);
        let Some(measured) = &receipt.measured else { return };
        self.progress.add_stages(&measured.stages);
        for (model, provider) in &measured.providers {
            self.providers.entry(model.clone()).or_default().insert(provider.clone());
        }
    }
}
