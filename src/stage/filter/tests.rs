use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};

use super::FilterStage;
use super::config::FilterConfig;
use crate::stage::testing::{clips, fates, process};

fn filter(keep: &str) -> FilterStage {
    FilterStage::new(FilterConfig { name: "too-short".to_owned(), keep: keep.to_owned() })
}

#[tokio::test]
async fn a_clip_is_kept_only_where_the_expression_is_true() {
    let durations: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(0.4), None]));
    let after = process(&filter("duration_s >= 1"), clips(vec![("duration_s", durations)])).await.unwrap();
    assert_eq!(fates(&after), ["", "dropped: too-short (0.4)", "dropped: too-short"]);
    assert_eq!(after.text("fate_stage").unwrap().value(1), "too-short");
}

#[tokio::test]
async fn the_number_is_left_out_where_several_columns_decide() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("duration_s", Arc::new(Float64Array::from(vec![0.4]))),
        ("source", Arc::new(StringArray::from(vec!["real"]))),
    ];
    let after = process(&filter("duration_s >= 1 or source = 'synthetic'"), clips(columns)).await.unwrap();
    assert_eq!(fates(&after), ["dropped: too-short"]);
}

#[tokio::test]
async fn a_clip_that_cannot_be_judged_fails_alone() {
    let sizes: ArrayRef = Arc::new(Int64Array::from(vec![2, 0]));
    let after = process(&filter("10 / size_bytes > 1"), clips(vec![("size_bytes", sizes)])).await.unwrap();
    assert_eq!(fates(&after)[0], "");
    assert!(fates(&after)[1].starts_with("failed: expression `10 / size_bytes > 1`: "), "{:?}", fates(&after));
}

#[tokio::test]
async fn no_rows_are_no_fault() {
    let none: ArrayRef = Arc::new(Float64Array::from(Vec::<f64>::new()));
    let after = process(&filter("duration_s >= 1"), clips(vec![("duration_s", none)])).await.unwrap();
    assert_eq!(after.rows(), 0);
}
