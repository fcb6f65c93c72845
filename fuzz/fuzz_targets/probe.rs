//! See `harness::probe`.

#![no_main]

#[path = "../harness.rs"]
#[expect(dead_code, reason = "the targets share it")]
mod harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::probe(bytes));
