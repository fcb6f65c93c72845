//! The largest score that is kept: one number, or one for each value of a column.

use arrow::datatypes::{DataType, SchemaRef};

use super::config::{Groups, SimdropConfig};
use crate::error::{Error, Result};
use crate::spec::{Named, suggest};
use crate::stage::clips::require_column;
use crate::storage::Storage;

/// The largest score that is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Threshold {
    /// The same for all clips.
    One(f64),
    /// By the value of a column.
    Groups(Groups),
}

impl Threshold {
    /// The threshold for a clip of this group; none where there is none.
    pub(super) fn limit(&self, group: Option<&str>) -> Option<f64> {
        match self {
            Self::One(limit) => Some(*limit),
            Self::Groups(groups) => group.and_then(|group| groups.values.get(group).copied()).or(groups.default),
        }
    }

    /// Words that tell which group it was.
    pub(super) fn of_group(&self, group: Option<&str>) -> String {
        match self {
            Self::One(_) => String::new(),
            Self::Groups(groups) => format!(" for {} {}", groups.by, group.unwrap_or("null")),
        }
    }

    /// Checks the numbers, and the column of the groups.
    pub(super) fn check(&self, stage: &str, input: &SchemaRef) -> Result<()> {
        let wrong = |problem: String| Err(Error::config(format!("stage {stage}: {problem}")));
        let groups = match self {
            Self::One(limit) if limit.is_nan() => return wrong("the threshold is not a number".to_owned()),
            Self::One(_) => return Ok(()),
            Self::Groups(groups) => groups,
        };
        let field = require_column(stage, input, &groups.by)?;
        if field.data_type().is_nested() || matches!(field.data_type(), DataType::Binary | DataType::LargeBinary) {
            return wrong(format!("column {} is {}, text was expected", groups.by, field.data_type()));
        }
        let default = groups.default.map(|limit| ("default".to_owned(), limit));
        let named = groups.values.iter().map(|(name, limit)| (name.clone(), *limit));
        match named.chain(default).find(|(_, limit)| limit.is_nan()) {
            Some((name, _)) => wrong(format!("the threshold of {name} is not a number")),
            None => Ok(()),
        }
    }
}

/// The threshold in the configuration; none where it lies in a file.
pub(super) fn from_config(stage: &str, config: &SimdropConfig) -> Result<Option<Threshold>> {
    match (config.threshold, &config.groups, &config.thresholds) {
        (Some(limit), None, None) => Ok(Some(Threshold::One(limit))),
        (None, Some(groups), None) => Ok(Some(Threshold::Groups(groups.clone()))),
        (None, None, Some(_)) => Ok(None),
        (None, None, None) => {
            Err(Error::config(format!("stage {stage}: give one of threshold, thresholds and groups; none is there")))
        }
        _ => Err(Error::config(format!("stage {stage}: give only one of threshold, thresholds and groups"))),
    }
}

/// The threshold of the score in the file that the configuration names; blocking.
pub(super) fn from_file(stage: &str, config: &SimdropConfig, storage: &Storage) -> Result<Threshold> {
    let file = config.thresholds.as_deref().unwrap_or_default();
    let wrong = |problem: String| Error::config(format!("stage {stage}: thresholds file {file}: {problem}"));
    let bytes = std::fs::read(storage.file(file)?).map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    // JSON is YAML as well.
    let all: Named<serde_json::Value> = serde_saphyr::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let Some(value) = all.get(&config.score) else {
        let near = suggest::nearest(&config.score, all.keys().map(String::as_str));
        let hint = near.map_or_else(String::new, |name| format!("; did you mean {name}?"));
        return Err(wrong(format!("it has no threshold for {}{hint}", config.score)));
    };
    if let Some(limit) = value.as_f64() {
        return Ok(Threshold::One(limit));
    }
    let groups = serde_json::from_value(value.clone()).map_err(|error| {
        let score = &config.score;
        wrong(format!("{score} is neither a number nor groups (by, values, default): {error}"))
    })?;
    Ok(Threshold::Groups(groups))
}
