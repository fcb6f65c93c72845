//! Which clips a repack takes, and in which order.

use std::collections::HashMap;

use arrow::array::Array;
use futures::TryStreamExt;

use super::{Mix, RepackOptions};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::schema;
use crate::spec::SourceKind;
use crate::sql::SqlSession;
use crate::stage::ClipBatch;
use crate::storage::Storage;

/// A clip that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) id: Box<str>,
    /// Number of its shard in [`Selection::shards`].
    pub(super) shard: u32,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) real: bool,
}

/// The clips that are taken, in their new order.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) picks: Vec<Pick>,
    /// Shards of the old dataset, relative to it.
    pub(super) shards: Vec<String>,
    /// Selected clips that are left out, with the reason.
    pub(super) left_out: HashMap<Box<str>, String>,
    /// Selected clips that were dropped and are not stored.
    pub(super) not_stored: u64,
}

/// Asks the dataset.
pub(super) async fn select(storage: &Storage, source: &Dataset, options: &RepackOptions) -> Result<Selection> {
    let listed = source.shards.iter().chain(&source.dropped_shards);
    let shards: Vec<String> = listed.map(|shard| shard.path.clone()).collect();
    let numbers: HashMap<&str, u32> = shards.iter().map(String::as_str).zip(0..).collect();
    let session = SqlSession::open(storage, &options.dataset).await?;
    // The line ends keep a comment in the predicate from reaching beyond it.
    let query = format!(
        r#"SELECT clip_id, source, fate, shard, "offset", "size" FROM clips WHERE (
{}
)"#,
        options.keep
    );
    let mut batches = session.query(&query).await?;
    let (mut picks, mut not_stored) = (Vec::new(), 0);
    while let Some(batch) = batches.try_next().await.map_err(Error::from)? {
        let clips = ClipBatch::new(batch);
        let (ids, fates) = (clips.text(schema::CLIP_ID)?, clips.text(schema::FATE)?);
        let (sources, places) = (clips.text(schema::SOURCE)?, clips.text(schema::SHARD)?);
        let (offsets, sizes) = (clips.long(schema::OFFSET)?, clips.long(schema::SIZE)?);
        for row in 0..clips.rows() {
            if places.is_null(row) {
                not_stored += u64::from(fates.value(row) == "dropped");
                continue;
            }
            let shard = *numbers.get(places.value(row)).ok_or_else(|| {
                let (id, shard) = (ids.value(row), places.value(row));
                Error::State(format!("clip {id} is in {shard}, which the dataset does not list: it is damaged"))
            })?;
            picks.push(Pick {
                id: ids.value(row).into(),
                shard,
                offset: offsets.value(row) as u64,
                size: sizes.value(row) as u64,
                real: sources.value(row) == SourceKind::Real.as_str(),
            });
        }
    }
    let (picks, left_out) = arrange(picks, options)?;
    Ok(Selection { picks, shards, left_out, not_stored })
}

/// Clips that are left out, by id, and why.
type LeftOut = HashMap<Box<str>, String>;

/// Orders clips and leaves out what the mix and the limit do not take; the order that they come in means nothing.
pub(super) fn arrange(mut picks: Vec<Pick>, options: &RepackOptions) -> Result<(Vec<Pick>, LeftOut)> {
    picks.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    if let Some(twice) = picks.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(Error::State(format!("clip {} is in the dataset twice: it is damaged", twice[0].id)));
    }
    let mut left_out = HashMap::new();
    if let Some(mix) = options.mix {
        picks = mixed(picks, mix, options, &mut left_out)?;
    }
    match options.seed {
        Some(seed) => picks.sort_by_cached_key(|pick| chance("order", seed, &pick.id)),
        None => picks.sort_unstable_by_key(|pick| (pick.shard, pick.offset)),
    }
    if let Some(limit) = options.limit {
        let rest = picks.split_off(picks.len().min(limit as usize));
        left_out.extend(rest.into_iter().map(|pick| (pick.id, format!("beyond the limit of {limit} clips"))));
    }
    Ok((picks, left_out))
}

/// As many clips as can be had in these shares.
fn mixed(picks: Vec<Pick>, mix: Mix, options: &RepackOptions, left_out: &mut LeftOut) -> Result<Vec<Pick>> {
    let (real, synthetic): (Vec<_>, Vec<_>) = picks.into_iter().partition(|pick| pick.real);
    let (real_share, synthetic_share) = (u64::from(mix.real), u64::from(mix.synthetic));
    // The smallest of clips to share says how often the shares fit, as a fraction: whole numbers give the same
    // answer on every machine.
    let bounds = [
        Some((real.len() as u64, real_share)),
        Some((synthetic.len() as u64, synthetic_share)),
        options.limit.map(|limit| (limit, real_share + synthetic_share)),
    ];
    let fit = bounds.into_iter().flatten().filter(|&(_, share)| share > 0);
    let fit = fit.min_by(|a, b| (u128::from(a.0) * u128::from(b.1)).cmp(&(u128::from(b.0) * u128::from(a.1))));
    let (clips, share) = fit.ok_or_else(|| Error::config(format!("mix {mix} asks for nothing")))?;
    let take = |wanted: u64| (u128::from(clips) * u128::from(wanted) / u128::from(share)) as usize;
    let mut taken = Vec::new();
    for (mut side, wanted) in [(real, take(real_share)), (synthetic, take(synthetic_share))] {
        // By another chance than the order's: else the side that was cut would stand in front.
        side.sort_by_cached_key(|pick| chance("mix", options.seed.unwrap_or_default(), &pick.id));
        let rest = side.split_off(wanted);
        left_out.extend(rest.into_iter().map(|pick| (pick.id, format!("too many for the mix {mix}"))));
        taken.extend(side);
    }
    Ok(taken)
}

/// A number that a seed gives a clip, evenly spread, whatever else is in the dataset.
fn chance(purpose: &str, seed: u64, id: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    hasher.update(&seed.to_le_bytes()).update(id.as_bytes());
    hasher.finalize().into()
}
