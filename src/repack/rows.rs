//! The metadata of a repacked dataset: every row of the old one, with its new place or the reason why it has none.

use std::collections::HashMap;

use arrow::array::Array;

use super::{RepackOptions, total};
use crate::dataset::{CLIPS, ClipsEntry, Counts, Dataset};
use crate::error::Result;
use crate::schema;
use crate::stage::context::CpuPool;
use crate::stage::shards::series::Place;
use crate::stage::shards::{count, table, with_places};
use crate::stage::{ClipBatch, Fate};
use crate::storage::Location;

/// Name of what drops clips here, in column `fate_stage`.
const STAGE: &str = "repack";

/// What the new rows say.
#[derive(Debug)]
pub(super) struct NewRows<'a> {
    pub(super) options: &'a RepackOptions,
    /// Where the taken clips stand.
    pub(super) places: &'a HashMap<Box<str>, Place>,
    /// Why selected clips were left out.
    pub(super) left_out: &'a HashMap<Box<str>, String>,
}

impl NewRows<'_> {
    /// Writes one metadata file for each of the old dataset.
    pub(super) async fn write(
        &self,
        from: &Location,
        to: &Location,
        source: &Dataset,
        fingerprint: &str,
        cpu: &CpuPool,
    ) -> Result<(Vec<ClipsEntry>, Counts)> {
        let (mut entries, mut counts) = (Vec::new(), Vec::new());
        for (number, old) in source.clips.iter().enumerate() {
            let file = from.join(&old.path);
            let rows = self.update(&ClipBatch::new(table::read(&file).await?))?;
            counts.push(count(&rows)?);
            let name = blake3::hash(format!("{fingerprint} {number}").as_bytes()).to_hex();
            let path = format!("{CLIPS}/{}.parquet", &name[..16]);
            let schema = rows.batch().schema();
            entries.push(table::write(to, path, String::new(), &schema, vec![rows.into_batch()], cpu).await?);
        }
        Ok((entries, total(counts)))
    }

    fn update(&self, clips: &ClipBatch) -> Result<ClipBatch> {
        let (ids, fates) = (clips.text(schema::CLIP_ID)?, clips.text(schema::FATE)?);
        let place = |row: usize| self.places.get(ids.value(row)).cloned();
        let places: Vec<Option<Place>> = (0..clips.rows()).map(place).collect();
        let fate = |(row, place): (usize, &Option<Place>)| match place {
            Some(_) => Some(Fate::Kept),
            None if fates.is_valid(row) && fates.value(row) == Fate::Kept.as_str() => {
                let left_out = self.left_out.get(ids.value(row)).cloned();
                let reason = left_out.unwrap_or_else(|| format!("not selected by {}", self.options.keep));
                Some(Fate::dropped(reason, None))
            }
            None => None,
        };
        let fates: Vec<Option<Fate>> = places.iter().enumerate().map(fate).collect();
        with_places(&clips.settle(STAGE, &fates)?, &clips.batch().schema(), &places)
    }
}
