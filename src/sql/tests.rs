use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Format, NAMED, SqlSession, named, testing};
use crate::error::Error;
use crate::storage::Storage;

async fn open(folder: &tempfile::TempDir) -> SqlSession {
    SqlSession::open(&Storage::default(), &folder.path().display().to_string()).await.unwrap()
}

async fn session() -> (tempfile::TempDir, SqlSession) {
    let folder = tempfile::tempdir().unwrap();
    testing::write(folder.path());
    let session = open(&folder).await;
    (folder, session)
}

async fn answer(session: &SqlSession, sql: &str, format: Format) -> Result<String, Error> {
    let mut out = Vec::new();
    session.write(sql, format, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

async fn csv(session: &SqlSession, sql: &str) -> String {
    answer(session, sql, Format::Csv).await.unwrap()
}

async fn problem(session: &SqlSession, sql: &str) -> String {
    let error = answer(session, sql, Format::Csv).await.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn every_named_query_is_answered() {
    let (_folder, session) = session().await;
    let empty = tempfile::tempdir().unwrap();
    testing::commit(empty.path(), &testing::empty());
    let empty = open(&empty).await;
    for (name, text) in NAMED {
        assert!(text.starts_with("-- "), "{name} does not say what it answers");
        assert!(answer(&session, text, Format::Table).await.is_ok_and(|table| table.contains("|")), "{name}");
        if !text.contains("_score") {
            assert!(answer(&empty, text, Format::Json).await.is_ok(), "{name} on a dataset without a clip");
        }
    }
}

#[test]
fn every_file_under_sql_has_a_name() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let mut files: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut names: Vec<String> = NAMED.iter().map(|(name, _)| format!("{name}.sql")).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names);
    assert_eq!(named("failures"), named("failures.sql"));
    assert!(named("failure").is_none());
}

#[tokio::test]
async fn the_named_queries_say_what_happened() {
    let (_folder, session) = session().await;
    let ask = async |name: &str| csv(&session, named(name).unwrap()).await;
    assert_eq!(
        ask("keep-rate-by-source").await,
        "source,dataset,clips,kept,dropped,failed,kept_percent\n\
         real,real-clips,4,3,1,0,75.0\n\
         synthetic,synthetic-clips,3,1,1,1,33.3\n"
    );
    assert_eq!(
        ask("drop-reasons").await,
        "stage,reason,source,clips,lowest,median,highest\n\
         simdrop,simdrop_score above 0.12,synthetic,1,0.31,0.31,0.31\n\
         too-short,too-short,real,1,0.4,0.4,0.4\n"
    );
    assert_eq!(
        ask("failures").await,
        "stage,reason,clips,example\ndecode,the file ends early,1,synthetic/broken.mp4\n"
    );
    assert_eq!(
        ask("score-quantiles").await,
        "source,clips,lowest,p10,p25,median,p75,p90,highest\n\
         real,3,-0.02,0.024,0.09,0.2,0.2,0.2,0.2\n\
         synthetic,2,0.05,0.076,0.115,0.18,0.245,0.284,0.31\n"
    );
    assert_eq!(
        ask("threshold-what-if").await,
        "threshold,clips_kept,real_kept,synthetic_kept,kept_percent\n\
         -0.02,1,1,0,20.0\n\
         0.05,2,1,1,40.0\n\
         0.2,4,3,1,80.0\n\
         0.31,5,3,2,100.0\n"
    );
    assert_eq!(
        ask("throughput-by-stage").await,
        "stage,kind,rows,dropped,failed,busy_s,busy_percent,rows_per_s,mb_per_s\n\
         decode,decode,3,0,1,1.8,90.0,1.7,1.7\n\
         simdrop,simdrop,2,1,0,0.2,10.0,10.0,10.0\n"
    );
    assert_eq!(
        ask("cost-per-clip").await,
        "stage,rows,ms_per_clip,ms_per_kept_clip\ndecode,7,685.714,1200.0\nsimdrop,5,40.0,50.0\n"
    );
    assert_eq!(
        ask("duplicates").await,
        "size_bytes,frame_count,start_s,end_s,clips,first_uri,last_uri\n1000,,,,2,real/b-copy.mp4,real/b.mp4\n"
    );
    assert!(ask("captions").await.contains("\ntemplate,4,4,"));
    assert_eq!(
        ask("shard-sizes").await,
        "shard,samples,mb,synthetic_percent\n\
         shards/test-real.tar,3,4.5,0.0\nshards/test-synthetic.tar,1,1.5,100.0\n"
    );
}

#[tokio::test]
async fn only_listed_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = testing::write(folder.path());
    dataset.clips.pop();
    testing::commit(folder.path(), &dataset);
    assert_eq!(csv(&open(&folder).await, "select distinct source from clips").await, "source\nreal\n");
}

#[tokio::test]
async fn a_dataset_without_a_clip_has_the_columns() {
    let folder = tempfile::tempdir().unwrap();
    testing::commit(folder.path(), &testing::empty());
    let session = open(&folder).await;
    assert_eq!(csv(&session, "select clip_id, fate from clips where width > 3").await, "clip_id,fate\n");
    assert_eq!(csv(&session, "select count(*) as n from clips").await, "n\n0\n");
    assert_eq!(csv(&session, "select * from shards").await, "shard,unit,samples,bytes,blake3\n");
    assert_eq!(answer(&session, "select uri from clips", Format::Json).await.unwrap(), "[\n]\n");
}

#[tokio::test]
async fn a_column_that_a_file_lacks_is_null_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = testing::write(folder.path());
    let text = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let more = RecordBatch::try_from_iter([
        ("unit", text(&["u-more"])),
        ("clip_id", text(&["more"])),
        ("uri", text(&["more.mp4"])),
        ("source", text(&["real"])),
        ("dataset", text(&["more"])),
        ("motion", Arc::new(Float64Array::from(vec![0.5])) as ArrayRef),
    ]);
    dataset.clips.push(testing::write_clips(folder.path(), "u-more", &more.unwrap()));
    testing::commit(folder.path(), &dataset);
    let session = open(&folder).await;
    let sql = "select dataset, count(*) as n, count(motion) as moved, count(simdrop_score) as scored \
               from clips group by dataset order by dataset";
    assert_eq!(
        csv(&session, sql).await,
        "dataset,n,moved,scored\nmore,1,1,0\nreal-clips,4,0,3\nsynthetic-clips,3,0,2\n"
    );
}

#[tokio::test]
async fn nothing_but_queries_is_allowed() {
    let (folder, session) = session().await;
    let target = folder.path().join("stolen.csv");
    for sql in [
        "drop table clips",
        "create table t as select 1",
        "create view v as select 1",
        "create external table t stored as csv location '/etc/passwd'",
        "insert into shards values ('a', 'b', 1, 2, 'c')",
        "delete from clips",
        "set datafusion.execution.batch_size = 1",
        &format!("copy clips to '{}'", target.display()),
        &format!("explain analyze copy clips to '{}'", target.display()),
    ] {
        let message = problem(&session, sql).await;
        assert!(message.contains("read-only") || sql.starts_with("explain"), "{sql}: {message}");
    }
    assert!(!target.exists());
    assert!(problem(&session, "select * from '/etc/passwd'").await.contains("there is no table"));
}

#[tokio::test]
async fn the_tables_describe_themselves() {
    let (_folder, session) = session().await;
    assert!(csv(&session, "show tables").await.contains("clips"));
    assert!(csv(&session, "describe runs").await.contains("peak_memory,Int64"));
    assert!(csv(&session, "explain select uri from clips where source = 'real'").await.contains("DataSourceExec"));
}

#[tokio::test]
async fn mistakes_get_a_suggestion() {
    let (_folder, session) = session().await;
    assert_eq!(problem(&session, "select * from clip").await, "there is no table clip; did you mean clips?");
    assert!(problem(&session, "select * from zebra").await.contains("there are clips, shards, runs, stages"));
    assert_eq!(
        problem(&session, "select simdrop_scor from clips").await,
        "there is no column simdrop_scor; did you mean simdrop_score?"
    );
    assert!(problem(&session, "select uri form clips where").await.starts_with("syntax error"));
    assert!(problem(&session, "select mediann(fps) from clips").await.contains("Did you mean 'median'"));
    assert!(problem(&session, "select 1 / (size_bytes - size_bytes) from clips").await.contains("ivide by zero"));
    assert_eq!(problem(&session, " ; -- nothing").await, "there is no query");
    assert!(problem(&session, "select 1; select").await.starts_with("syntax error"));
}

#[tokio::test]
async fn several_queries_are_answered_in_order() {
    let (_folder, session) = session().await;
    assert_eq!(csv(&session, "select 1 as a; -- then\nselect 2 as b;").await, "a\n1\n\nb\n2\n");
    let error = answer(&session, "select 1; select 2", Format::Parquet).await.unwrap_err();
    assert!(error.to_string().contains("one query"));
    assert!(session.query("select 1; select 2").await.is_err_and(|error| error.exit_code() == 2));
}

#[tokio::test]
async fn csv_quotes_and_keeps_lists_as_json() {
    let (_folder, session) = session().await;
    let sql = "select caption, tags, fate_value, started_at from clips cross join runs \
               where uri = 'real/a.mp4' and run = 1";
    assert_eq!(
        csv(&session, sql).await,
        "caption,tags,fate_value,started_at\n\
         \"a \"\"clip\"\", real/a.mp4\",\"[\"\"dog\"\",\"\"real\"\"]\",,2026-01-02T03:04:01.500Z\n"
    );
}

#[tokio::test]
async fn json_is_one_array_with_every_key() {
    let (_folder, session) = session().await;
    let sql = "select uri, fate_value, tags, fate = 'kept' as kept, providers from clips cross join runs \
               where uri like '%short%' or uri like '%flicker%' order by uri, run";
    let text = answer(&session, sql, Format::Json).await.unwrap();
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 4);
    assert_eq!(
        rows[0],
        serde_json::json!({"uri": "real/short.mp4", "fate_value": 0.4, "tags": ["dog", "real"], "kept": false,
            "providers": "{\"base\":\"cpu\"}"})
    );
    let text = answer(&session, "select null as a, cast('nan' as double) as b", Format::Json).await.unwrap();
    assert_eq!(text, "[\n{\"a\":null,\"b\":null}\n]\n");
}

#[tokio::test]
async fn parquet_holds_the_types() {
    let (_folder, session) = session().await;
    let mut out = Vec::new();
    session.write("select uri, tags, simdrop_score from clips order by uri", Format::Parquet, &mut out).await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(out)).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 7);
    assert_eq!(batches[0]["uri"].as_string::<i32>().value(0), "real/a.mp4");
    assert!(batches[0]["tags"].as_list::<i32>().is_valid(0));
}

#[tokio::test]
async fn a_table_cuts_long_cells_and_tames_control_characters() {
    let (_folder, session) = session().await;
    let sql = "select 1.5 as n, repeat('x', 200) as long, null as nothing, concat('a', chr(27), '[2J') as escape";
    let table = answer(&session, sql, Format::Table).await.unwrap();
    assert!(table.contains(&format!(" {}… ", "x".repeat(79))), "{table}");
    assert!(table.contains("a\\u{1b}[2J") && table.contains("NULL"), "{table}");
    let table = answer(&session, "select * from generate_series(1, 10001)", Format::Table).await.unwrap();
    assert!(table.ends_with("and more rows after these 10000; --format csv writes all of them\n"));
    let table = answer(&session, "select n from (values (1), (100)) as t(n) order by n", Format::Table).await.unwrap();
    assert_eq!(table, "+-----+\n|   n |\n+-----+\n|   1 |\n| 100 |\n+-----+\n");
    let table = answer(&session, "select uri from clips where false", Format::Table).await.unwrap();
    assert!(table.contains("| uri |"), "{table}");
}

#[tokio::test]
async fn a_missing_or_damaged_dataset_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let uri = folder.path().display().to_string();
    let error = SqlSession::open(&Storage::default(), &uri).await.unwrap_err();
    assert!(error.to_string().contains("there is no dataset at"), "{error}");
    let dataset = testing::write(folder.path());
    std::fs::write(folder.path().join(&dataset.clips[0].path), "no parquet").unwrap();
    let error = SqlSession::open(&Storage::default(), &uri).await.unwrap_err();
    assert!(error.to_string().contains("u-real.parquet is listed in the dataset and cannot be read"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn a_plan_is_written_as_it_is() {
    let (_folder, session) = session().await;
    let plan = answer(&session, "explain select uri from clips where source = 'real'", Format::Table).await.unwrap();
    assert!(plan.starts_with("logical_plan\n") && plan.contains("\n    DataSourceExec: "), "{plan}");
}

/// Takes so many bytes and is closed then, as `head` is.
struct Head(usize);

impl std::io::Write for Head {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_who_has_seen_enough_is_no_fault() {
    let (_folder, session) = session().await;
    for format in [Format::Table, Format::Csv, Format::Json, Format::Parquet] {
        let mut head = Head(100);
        let sql = "select value, repeat('x', 100) as x from generate_series(1, 100000)";
        session.write(sql, format, &mut head).await.unwrap();
        assert!(head.0 <= 100, "{format:?}");
    }
}
