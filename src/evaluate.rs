//! Judging a score by labelled clips, and thresholds from it.
//!
//! Enters: a committed dataset whose clips carry scores, and labels where there are some. Leaves: figures, or the file
//! of thresholds that the `simdrop` stage reads. Nothing is decoded or scored.

pub mod calibrate;
pub mod filter;
mod logistic;
mod rank;

pub use rank::Area;
