//! The queries under `sql/` by name, so that an installed program has them as well.

macro_rules! queries {
    ($($name:literal),* $(,)?) => {
        /// The named queries: name and text.
        pub const NAMED: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../sql/", $name, ".sql")))),*];
    };
}

queries![
    "keep-rate-by-source",
    "drop-reasons",
    "failures",
    "score-quantiles",
    "threshold-what-if",
    "throughput-by-stage",
    "cost-per-clip",
    "captions",
    "duplicates",
    "shard-sizes",
];

/// The query of this name: that of the file under `sql/`, with or without `.sql`.
pub fn named(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix(".sql").unwrap_or(name);
    NAMED.iter().find(|(have, _)| *have == name).map(|(_, text)| *text)
}
