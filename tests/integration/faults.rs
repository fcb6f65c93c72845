//! Bad clips: each is one failed row with a reason, and the run goes on.

use std::path::Path;

use super::program::{DECODE, OUTPUT, Workplace, expect_code, stderr};

fn bytes(shipped: &str) -> Vec<u8> {
    std::fs::read(super::program::root().join("data/clips/real").join(shipped)).unwrap()
}

fn reason(place: &Workplace, name: &str) -> String {
    let sql = format!("select fate, fate_stage, fate_reason from clips where uri like '%/{name}'");
    let rows = place.query("out", &sql);
    assert_eq!(rows.len(), 1, "{name}");
    assert_eq!(rows[0]["fate"], "failed", "{name}: {rows:?}");
    rows[0]["fate_reason"].as_str().unwrap().to_owned()
}

#[test]
fn bad_clips_fail_alone_and_say_why() {
    let place = Workplace::new();
    place.clip("carphone.mp4", "good.mp4");
    let real = bytes("carphone.mp4");
    place.file("truncated.mp4", &real[..real.len() / 3]);
    place.file("text.mp4", b"this is no video at all\n");
    place.file("empty.mp4", b"");
    place.file("playlist.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n");
    place.file("concat.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n");
    std::os::unix::fs::symlink("/nowhere/at/all.mp4", place.path("clips/dangling.mp4")).unwrap();
    expect_code(&place.run(&place.pipeline(DECODE, OUTPUT), "out"), 0);
    for name in ["truncated.mp4", "text.mp4", "empty.mp4", "playlist.mp4", "concat.mp4", "dangling.mp4"] {
        let reason = reason(&place, name);
        assert!(reason.len() > 10, "{name}: {reason}");
    }
    assert!(reason(&place, "empty.mp4").contains("empty"));
    let kept = place.query("out", "select count(*) as n from clips where fate = 'kept'");
    assert_eq!(kept[0]["n"], 1);
}

#[test]
fn too_many_failures_end_the_run() {
    let place = Workplace::new();
    for number in 0..6 {
        place.file(&format!("{number}.mp4"), b"no video");
    }
    let pipeline = place.pipeline(DECODE, "output: {path: unset}\nrun: {max_failures: 2}");
    let ended = place.run(&pipeline, "out");
    expect_code(&ended, 1);
    assert!(stderr(&ended).contains("max_failures"), "{}", stderr(&ended));
    assert!(!place.path("out/dataset.json").exists());
}

#[test]
fn a_clip_with_too_few_frames_fails_or_repeats_by_choice() {
    let place = Workplace::new();
    place.clip("carphone.mp4", "a.mp4");
    let stage = |short: &str| format!("  - decode: {{frames: 5000, width: 8, height: 8, short: {short}}}");
    expect_code(&place.run(&place.pipeline(&stage("fail"), OUTPUT), "out"), 0);
    assert!(reason(&place, "a.mp4").contains("5000"));
    expect_code(&place.run(&place.pipeline(&stage("repeat"), OUTPUT), "repeated"), 0);
    assert_eq!(place.query("repeated", "select fate from clips")[0]["fate"], "kept");
}

#[test]
fn frames_past_the_memory_limit_fail_with_both_numbers() {
    let place = Workplace::new();
    place.clip("bikes.mp4", "a.mp4");
    let pipeline = place.pipeline("  - decode: {}", "output: {path: unset}\nrun: {memory_limit: 64MiB}");
    expect_code(&place.run(&pipeline, "out"), 0);
    assert!(reason(&place, "a.mp4").contains("memory_limit"));
}

/// Every file below a folder, relative to it.
fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path().strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn names_from_outside_never_leave_the_output() {
    let workplace = Workplace::new();
    let names = ["..mp4", "..%2F..%2Fescaped.mp4", "back\\..\\slash.mp4", "$(touch escaped).mp4"];
    for name in names {
        workplace.clip("carphone.mp4", name);
    }
    let mut list = String::from("uri,clip_id,key,shard,unit,caption\n");
    for name in names {
        list += &format!("clips/{name},../../escaped,../escaped,../escaped.tar,../../unit,\"../escaped\"\n");
    }
    std::fs::write(workplace.path("list.csv"), list).unwrap();
    let yaml =
        format!("name: test\nsources: [{{list: {}, kind: real}}]\noutput: {{path: x}}\n", workplace.text("list.csv"));
    std::fs::write(workplace.path("list.yaml"), yaml).unwrap();
    let before: Vec<String> = files_below(&workplace.path(""));
    let output = workplace.run(&workplace.text("list.yaml"), "out");
    expect_code(&output, 0);
    let after = files_below(&workplace.path(""));
    assert!(after.iter().all(|file| before.contains(file) || file.starts_with("out/")), "{after:?}");
    for row in workplace.query("out", "select clip_id, key, shard, fate, list_key from clips") {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        assert_eq!((text("fate").as_str(), text("list_key").as_str()), ("kept", "../escaped"), "{row}");
        assert!(
            text("key").chars().all(|letter| letter.is_ascii_hexdigit()) && text("key") == text("clip_id"),
            "{row}"
        );
        assert!(text("shard").starts_with("shards/test-") && !text("shard").contains(".."), "{row}");
    }
    for file in after.iter().filter(|file| file.ends_with(".tar")) {
        let mut archive = tar::Archive::new(std::fs::File::open(workplace.path(file)).unwrap());
        for entry in archive.entries().unwrap() {
            let name = String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap();
            assert!(!name.contains(['/', '\\']) && !name.contains(".."), "{name}");
        }
    }
}
