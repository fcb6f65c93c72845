//! `${VAR}` and `${VAR:-default}` in values.
//!
//! Substitution comes after parsing: positions stay those of the file, and no variable can change the structure.

use super::diagnostics::Diagnostic;
use super::tree::{Node, Value};

/// Reads environment variables.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Replaces variables in all values of the tree; `$${` stands for `${`.
pub(crate) fn substitute(node: &mut Node, environment: &Environment<'_>, mistakes: &mut Vec<Diagnostic>) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| substitute(item, environment, mistakes)),
        Value::Map(entries) => {
            entries.iter_mut().for_each(|entry| substitute(&mut entry.value, environment, mistakes));
        }
        Value::Text(text) if text.contains("${") => match expand(text, environment) {
            Ok(expanded) if node.plain => {
                node.value = Value::of_plain(&expanded);
                node.loose = Some(expanded);
            }
            Ok(expanded) => node.value = Value::Text(expanded),
            Err(Mistake { at, message, help }) => {
                mistakes.push(Diagnostic::at(node.place.narrow(&at), message).help(help));
            }
        },
        _ => {}
    }
}

struct Mistake {
    at: String,
    message: String,
    help: String,
}

fn expand(text: &str, environment: &Environment<'_>) -> Result<String, Mistake> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            expanded.push_str(&rest[..start - 1]);
            expanded.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        expanded.push_str(&rest[..start]);
        let Some(end) = closing(&rest[start..]) else {
            return Err(Mistake {
                at: rest[start..].to_owned(),
                message: "`${` without a closing `}`".into(),
                help: "write ${NAME} or ${NAME:-default}; $${ stands for the characters themselves".into(),
            });
        };
        expanded.push_str(&variable(&rest[start..=start + end], environment)?);
        rest = &rest[start + end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Where the brace that opens at the start is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The value of `${…}`.
fn variable(whole: &str, environment: &Environment<'_>) -> Result<String, Mistake> {
    let inner = &whole[2..whole.len() - 1];
    let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letters) {
        return Err(Mistake {
            at: whole.to_owned(),
            message: format!("`{name}` is no name of an environment variable"),
            help: "write ${NAME} or ${NAME:-default}; $${ stands for the characters themselves".into(),
        });
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => expand(default, environment),
        (None, None) => Err(Mistake {
            at: whole.to_owned(),
            message: format!("the environment variable {name} is not set"),
            help: format!("set it, or give it a default: ${{{name}:-…}}"),
        }),
    }
}
