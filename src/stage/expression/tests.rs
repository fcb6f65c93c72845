use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, ListBuilder, StringArray, StringBuilder};

use super::Expression;
use crate::stage::ClipBatch;
use crate::stage::testing::clips;

fn batch() -> ClipBatch {
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("dog")]);
    tags.append_value([Some("cat"), None]);
    tags.append_null();
    clips(vec![
        ("source", Arc::new(StringArray::from(vec!["real", "synthetic", "real"])) as ArrayRef),
        ("width", Arc::new(Int32Array::from(vec![Some(320), Some(0), None]))),
        ("duration_s", Arc::new(Float64Array::from(vec![1.0, 2.5, f64::NAN]))),
        ("tags", Arc::new(tags.finish())),
        ("Weather", Arc::new(StringArray::from(vec!["sun", "rain", "sun"]))),
    ])
}

fn evaluate(text: &str) -> Vec<Option<bool>> {
    let clips = batch();
    let expression = Expression::compile("test", text, &clips.batch().schema()).unwrap();
    expression.evaluate(clips.batch()).unwrap().iter().collect()
}

fn problem(text: &str) -> String {
    let error = Expression::compile("short", text, &batch().batch().schema()).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

#[test]
fn types_are_made_to_match() {
    assert_eq!(evaluate("duration_s >= 1"), [Some(true), Some(true), Some(true)]);
    assert_eq!(evaluate("width >= 256.5"), [Some(true), Some(false), None]);
    assert_eq!(evaluate("source = 'synthetic' or width > 0"), [Some(true), Some(true), None]);
    assert_eq!(
        evaluate("duration_s between 2 and 3 and not isnan(duration_s)"),
        [Some(false), Some(true), Some(false)]
    );
}

#[test]
fn functions_and_lists_work() {
    assert_eq!(evaluate("array_has(tags, 'dog')"), [Some(true), Some(false), None]);
    assert_eq!(evaluate("source in ('real', 'film') and uri like '%2'"), [Some(false), Some(false), Some(true)]);
    assert_eq!(evaluate("\"Weather\" ~ '^s' and abs(width - 10) > 3.5"), [Some(true), Some(false), None]);
    assert_eq!(evaluate("case when width is null then true else false end"), [Some(false), Some(false), Some(true)]);
    assert_eq!(evaluate("true"), [Some(true); 3]);
}

#[test]
fn an_unknown_column_gets_a_suggestion() {
    assert_eq!(
        problem("durations > 1"),
        "stage short: expression `durations > 1`: there is no column durations; did you mean duration_s?"
    );
    assert!(problem("source = \"real\"").ends_with("text is written in single quotes: 'real'"));
    assert!(problem("weather = 'sun'").ends_with("with its capital letters it is written \"Weather\""));
}

#[test]
fn what_is_no_pure_answer_about_one_clip_is_refused() {
    assert!(problem("width > (select 1)").contains("a subquery is not possible"));
    assert!(problem("uri in (select uri from seen)").contains("a subquery is not possible"));
    assert!(problem("exists (select 1)").contains("a subquery is not possible"));
    assert!(problem("avg(width) > 3").contains("avg() is an aggregate"));
    assert!(problem("row_number() over (order by width) < 3").contains("window function"));
    assert!(problem("random() < 0.1").contains("random() gives another answer"));
    assert!(problem("now() > to_timestamp(0)").contains("now() gives another answer"));
    assert!(problem("width > $1").contains("is not possible here"));
}

#[test]
fn what_is_wrong_is_told() {
    assert!(problem("width >").contains("syntax error"));
    assert!(problem("width > 1; drop table clips").contains("syntax error"));
    assert!(problem("width + 1").contains("not true or false"));
    assert!(problem("source").contains("it is Utf8, not true or false"));
    assert!(problem("").contains("syntax error"));
    assert!(problem("widthen(width) > 1").contains("widthen"));
}

#[test]
fn a_fault_of_one_row_is_that_rows_alone() {
    let clips = batch();
    let expression = Expression::compile("test", "100 / width > 0", &clips.batch().schema()).unwrap();
    let answers = expression.judge(&clips);
    assert_eq!(answers[0], Ok(Some(false)));
    assert!(answers[1].as_ref().unwrap_err().contains("Divide by zero"), "{answers:?}");
    assert_eq!(answers[2], Ok(None));
}

#[test]
fn the_number_that_decides_is_known_where_there_is_one() {
    let clips = batch();
    let numbers = |text: &str| {
        let expression = Expression::compile("test", text, &clips.batch().schema()).unwrap();
        expression.numbers(&clips).unwrap().map(|numbers| numbers.value(0))
    };
    assert_eq!(numbers("width >= 256"), Some(320.0));
    assert_eq!(numbers("0.5 < duration_s and duration_s < 9"), Some(1.0));
    assert_eq!(numbers("width >= 256 and duration_s > 1"), None);
    assert_eq!(numbers("source = 'real'"), None);
}
