//! The audit of a dataset: what it finds, what it says, and that what it says helps.

use std::path::PathBuf;

use serde_json::Value;

use super::program::{DECODE, OUTPUT, Workplace, expect_code, simdrop, stderr, stdout};

fn dataset(place: &Workplace) -> (String, Value) {
    for name in ["carphone.mp4", "bikes.mp4"] {
        place.clip(name, name);
    }
    place.file("broken.mp4", b"no video");
    let pipeline = place.pipeline(DECODE, OUTPUT);
    expect_code(&place.run(&pipeline, "out"), 0);
    let json = std::fs::read(place.path("out/dataset.json")).unwrap();
    (pipeline, serde_json::from_slice(&json).unwrap())
}

fn path(place: &Workplace, entry: &Value) -> (String, PathBuf) {
    let path = entry["path"].as_str().unwrap();
    (path.to_owned(), place.path("out").join(path))
}

#[test]
fn a_sound_dataset_is_said_to_be_so() {
    let place = Workplace::new();
    dataset(&place);
    let made = simdrop(&["verify", &place.text("out")]);
    expect_code(&made, 0);
    assert!(stdout(&made).contains("is sound: version 1, 3 clips (2 kept, 0 dropped, 1 failed)"), "{}", stdout(&made));
    let made = simdrop(&["verify", &place.text("out"), "--format", "json"]);
    expect_code(&made, 0);
    let checked: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&checked["sound"], &checked["findings"]), (&true.into(), &Value::Array(Vec::new())));
}

#[test]
fn a_flipped_byte_is_found_and_the_advice_mends_it() {
    let place = Workplace::new();
    let (pipeline, dataset) = dataset(&place);
    let shards = place.shards("out");
    for entry in [&dataset["shards"][0], &dataset["clips"][0]] {
        let (name, file) = path(&place, entry);
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(&file, bytes).unwrap();
        let made = simdrop(&["verify", &place.text("out")]);
        expect_code(&made, 1);
        let text = stdout(&made);
        assert!(text.contains(&format!("{name}: its bytes are not those that were written")), "{text}");
        assert!(text.contains("what to do: remove it and run the pipeline `test`"), "{text}");
        assert!(stderr(&made).contains("is not sound"), "{}", stderr(&made));
        // As it says.
        std::fs::remove_file(&file).unwrap();
        let made = simdrop(&["verify", &place.text("out")]);
        expect_code(&made, 1);
        assert!(stdout(&made).contains(&format!("{name}: the file is gone")), "{}", stdout(&made));
        expect_code(&place.run(&pipeline, "out"), 0);
        expect_code(&simdrop(&["verify", &place.text("out")]), 0);
        assert_eq!(place.shards("out"), shards);
    }
}

#[test]
fn a_damaged_dataset_file_is_written_anew_from_what_is_done() {
    let place = Workplace::new();
    let (pipeline, _) = dataset(&place);
    let file = place.path("out/dataset.json");
    let text = std::fs::read_to_string(&file).unwrap();
    for (damaged, code) in [(text.replace("\"kept\": 2", "\"kept\": 3"), 1), (text.replacen('{', "(", 1), 1)] {
        std::fs::write(&file, damaged).unwrap();
        let made = simdrop(&["verify", &place.text("out")]);
        expect_code(&made, code);
        let said = stdout(&made) + &stderr(&made);
        assert!(said.contains("dataset.json") && said.contains("remove it"), "{said}");
        std::fs::remove_file(&file).unwrap();
        expect_code(&place.run(&pipeline, "out"), 0);
        expect_code(&simdrop(&["verify", &place.text("out")]), 0);
    }
    let made = simdrop(&["verify", &place.text("clips")]);
    expect_code(&made, 1);
    assert!(stderr(&made).contains("there is no dataset"), "{}", stderr(&made));
}

#[test]
fn a_repacked_dataset_is_verified_too() {
    let place = Workplace::new();
    dataset(&place);
    let (from, to) = (place.text("out"), place.text("new"));
    expect_code(&simdrop(&["repack", &from, "--output", &to, "--shuffle", "7"]), 0);
    expect_code(&simdrop(&["verify", &to]), 0);
    let shard = place.path("new/shards").join(place.shards("new").keys().next().unwrap());
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &bytes[..bytes.len() - 1024]).unwrap();
    let made = simdrop(&["verify", &to]);
    expect_code(&made, 1);
    for part in ["bytes, dataset.json says", "the file ends before the tar does", "repack", "--overwrite"] {
        assert!(stdout(&made).contains(part), "{part} is missing in\n{}", stdout(&made));
    }
}
