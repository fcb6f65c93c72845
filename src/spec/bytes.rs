//! Sizes in bytes as users write them (`4GiB`, `3GB`, `1048576`).
//!
//! `ByteSize` writes itself rounded to one decimal (3 GB becomes `2.8 GiB`), which would not read back as the same
//! size; here a size is written exactly.

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serializer};

/// Shape of a size in text.
pub const PATTERN: &str = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpPeE]([iI]?[bB])?|[bB])?\s*$";

const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
];

/// The size in the largest unit that loses nothing.
pub fn exact(size: ByteSize) -> String {
    let bytes = size.as_u64();
    UNITS
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Reads a size.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    ByteSize::deserialize(deserializer).and_then(bounded)
}

/// What does not fit into 64 bits is read as the largest number that does.
fn bounded<E: serde::de::Error>(size: ByteSize) -> Result<ByteSize, E> {
    if size.as_u64() == u64::MAX { Err(E::custom("this size is too large; no machine has 16 EiB")) } else { Ok(size) }
}

/// Writes a size exactly.
pub fn serialize<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&exact(*size))
}

/// The JSON Schema of a size.
pub fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "anyOf": [{ "type": "string", "pattern": PATTERN }, { "type": "integer", "minimum": 1 }] })
}

/// The same for a size that may be left out.
pub mod optional {
    use super::{ByteSize, Deserialize, Deserializer, Serializer};

    /// Reads a size, or none.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteSize>, D::Error> {
        Option::<ByteSize>::deserialize(deserializer)?.map(super::bounded).transpose()
    }

    /// Writes a size exactly, or none.
    pub fn serialize<S: Serializer>(size: &Option<ByteSize>, serializer: S) -> Result<S::Ok, S::Error> {
        match size {
            Some(size) => super::serialize(size, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// The JSON Schema of a size, or null.
    pub fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "string", "pattern": super::PATTERN },
                { "type": "integer", "minimum": 1 },
                { "type": "null" },
            ]
        })
    }
}
