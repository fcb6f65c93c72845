//! The checksum that `dataset.json` carries of itself: it lists those of all other files, so nobody else can.
//!
//! The sum is that of the file with zeros in the sum's own place.

use serde_json::{Map, Value};

use super::Dataset;
use crate::error::{Error, Result};

/// What stands in the place of the sum while it is computed.
const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Whether a `dataset.json` is as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// It is.
    Whole,
    /// It carries no checksum, as simdrop once wrote it.
    Missing,
    /// It is not.
    Broken,
}

/// A dataset with its checksum in place, and the bytes of its file.
pub fn seal(dataset: Dataset) -> Result<(Dataset, Vec<u8>)> {
    let blank = Dataset { blake3: BLANK.to_owned(), ..dataset };
    let blake3 = blake3::hash(&encode(&blank)?).to_hex().to_string();
    let sealed = Dataset { blake3, ..blank };
    let bytes = encode(&sealed)?;
    Ok((sealed, bytes))
}

/// Looks at the bytes that `dataset` was read from.
pub fn check(bytes: &[u8], dataset: &Dataset) -> Seal {
    if dataset.blake3.is_empty() {
        // A field that nobody knows may be the sum under a damaged name.
        return if has_unknown_fields(bytes, dataset) { Seal::Broken } else { Seal::Missing };
    }
    let blank = std::str::from_utf8(bytes).ok().and_then(|text| {
        let at = text.rfind(&dataset.blake3)?;
        let (before, after) = (&text[..at], &text[at + dataset.blake3.len()..]);
        Some(format!("{before}{BLANK}{after}"))
    });
    let is_whole = blank.is_some_and(|blank| blake3::hash(blank.as_bytes()).to_hex().as_str() == dataset.blake3);
    if is_whole { Seal::Whole } else { Seal::Broken }
}

fn encode(dataset: &Dataset) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(dataset).map_err(Error::internal)
}

fn has_unknown_fields(bytes: &[u8], dataset: &Dataset) -> bool {
    let there = serde_json::from_slice::<Map<String, Value>>(bytes).unwrap_or_default();
    let Ok(Value::Object(known)) = serde_json::to_value(dataset) else { return false };
    there.keys().any(|name| !known.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::testing::empty;

    fn read(bytes: &[u8]) -> Option<Seal> {
        serde_json::from_slice::<Dataset>(bytes).ok().map(|dataset| check(bytes, &dataset))
    }

    #[test]
    fn every_byte_of_the_file_is_under_the_seal() {
        let (dataset, bytes) = seal(empty()).unwrap();
        assert_eq!(read(&bytes), Some(Seal::Whole));
        assert_eq!(seal(dataset.clone()).unwrap(), (dataset, bytes.clone()), "sealing again changes nothing");
        for at in 0..bytes.len() {
            for bit in [0x01, 0x10, 0x20] {
                let mut damaged = bytes.clone();
                damaged[at] ^= bit;
                // What is no dataset any more is refused before its seal is looked at.
                assert!(matches!(read(&damaged), None | Some(Seal::Broken)), "bit {bit:#x} of byte {at}");
            }
        }
    }

    #[test]
    fn a_file_of_an_earlier_version_has_none() {
        let bytes = serde_json::to_vec_pretty(&empty()).unwrap();
        assert_eq!(read(&bytes), Some(Seal::Missing));
    }
}
