//! The nearest name to a mistyped one.

/// The candidate most like `word`, where one is like it at all: a slip of a finger away, or of the same beginning.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let slips = (word.chars().count() / 3).max(usize::from(word.len() > 2));
    candidates
        .into_iter()
        .map(|candidate| {
            let lower = candidate.to_lowercase();
            (strsim::osa_distance(&word, &lower), strsim::jaro_winkler(&word, &lower), candidate)
        })
        .filter(|(distance, likeness, _)| *distance <= slips || *likeness > 0.8)
        .min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .map(|(_, _, candidate)| candidate)
}

/// A sentence that helps: the nearest candidate where there is one, else all of them after `all_are`.
pub fn among<'a>(word: &str, all_are: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    match nearest(word, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{all_are} {}", quoted(candidates)),
    }
}

/// Names in quotes, with commas.
pub fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
