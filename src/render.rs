//! Synthetic clips: distributions of scenes become clips with their ground truth.
//!
//! In the order of the flow: [`spec`] is the YAML, [`draw`] makes a [`scene::Scene`] of it for every clip, [`workers`]
//! hand scenes to Blender processes ([`blender`] finds Blender and carries our Python side), [`pack`] turns what comes
//! back into a clip and its [`truth`], and [`run`] does all of it for whatever is not there yet.

pub mod blender;
pub mod caption;
mod check;
pub mod distribution;
pub mod draw;
pub mod elements;
pub mod list;
mod pack;
pub mod progress;
pub mod run;
pub mod scene;
pub mod spec;
pub mod truth;
mod worker;
mod workers;

#[cfg(test)]
mod tests;
