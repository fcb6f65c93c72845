//! Cuts batches into the chunks that a stage takes: bounded in rows and in bytes, all in flight or all settled.
//!
//! Chunks are slices: nothing is copied, no row is lost, and the order stays. Where borders fall depends on the rows
//! alone, never on time.

use std::ops::Range;

use arrow::array::Array;

use crate::error::Result;
use crate::schema;
use crate::stage::{ClipBatch, Limits};

/// A piece of a batch.
#[derive(Debug)]
pub struct Chunk {
    /// The rows.
    pub clips: ClipBatch,
    /// Whether they have a fate already.
    pub settled: bool,
}

/// The chunks of a batch, in order.
pub fn chunks(clips: &ClipBatch, limits: &Limits) -> Result<Vec<Chunk>> {
    let mut made = Vec::new();
    let mut from = 0;
    while from < clips.rows() {
        let settled = clips.is_settled(from)?;
        let mut to = from + 1;
        while to < clips.rows() && clips.is_settled(to)? == settled {
            to += 1;
        }
        for range in pieces(clips, from..to, limits, settled) {
            made.push(Chunk { clips: clips.slice(range.start, range.len()), settled });
        }
        from = to;
    }
    Ok(made)
}

fn pieces(clips: &ClipBatch, range: Range<usize>, limits: &Limits, settled: bool) -> Vec<Range<usize>> {
    // Settled rows only pass through.
    if settled {
        return vec![range];
    }
    let mut done = Vec::new();
    let mut open = vec![range];
    while let Some(range) = open.pop() {
        let rows = range.len();
        let too_many = rows > limits.rows;
        if rows > 1 && (too_many || bytes(&clips.slice(range.start, rows)) > limits.bytes) {
            let middle = range.start + if too_many { limits.rows.max(1) } else { rows / 2 };
            open.push(middle..range.end);
            open.push(range.start..middle);
        } else {
            done.push(range);
        }
    }
    done
}

/// Bytes of the rows, frames included.
pub fn bytes(clips: &ClipBatch) -> usize {
    clips
        .batch()
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()))
        .sum()
}

/// Rows that a stage settled, by fate: dropped and failed.
pub fn settled(clips: &ClipBatch) -> Result<(u64, u64)> {
    let fates = clips.text(schema::FATE)?;
    let count = |fate: &str| fates.iter().flatten().filter(|have| *have == fate).count() as u64;
    Ok((count("dropped"), count("failed")))
}
