//! Rendering: what becomes of scenes when Blender fails, and of clips that are rendered already.
//!
//! Blender itself is optional; the processes here speak its worker's protocol and go wrong in its ways.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::program::{Workplace, command, expect_code, root, simdrop, stderr, stdout};

const SCENES: &str = "name: faults
scenes: [{family: objects, count: 2, environment: {kinds: room}}]
render: {width: 32, height: 32, frames: 2}
";

/// A file of scenes, and a Blender that answers every job with `answer` (shell, after the job was read).
fn scenes(place: &Workplace, answer: &str, run: &str) -> String {
    let blender = place.path("blender");
    let ready = r#"echo 'simdrop {"ready": "4.5.0"}'"#;
    std::fs::write(
        &blender,
        format!("#!/bin/sh\necho starts >> {}\n{ready}\nwhile read job; do\n{answer}\ndone\n", place.text("starts")),
    )
    .unwrap();
    std::fs::set_permissions(&blender, std::fs::Permissions::from_mode(0o755)).unwrap();
    let yaml = format!(
        "{SCENES}output: {{path: {}}}\nrun: {{blender: {}, workers: 1{run}}}\n",
        place.text("out"),
        blender.display()
    );
    std::fs::write(place.path("scenes.yaml"), yaml).unwrap();
    place.text("scenes.yaml")
}

/// The records of failed scenes.
fn failures(place: &Workplace) -> Vec<Value> {
    let entries = std::fs::read_dir(place.path("out/failed")).unwrap().flatten();
    entries.map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap()).collect()
}

fn starts(place: &Workplace) -> usize {
    std::fs::read_to_string(place.path("starts")).unwrap().lines().count()
}

fn render(scenes: &str) -> std::process::Output {
    simdrop(&["render", scenes, "--progress", "none"])
}

#[test]
fn a_crash_is_tried_once_more_and_recorded_with_the_last_words() {
    let place = Workplace::new();
    let scenes = scenes(&place, "echo 'Segmentation fault in cycles' >&2; exit 139", "");
    let made = render(&scenes);
    expect_code(&made, 0);
    assert!(stdout(&made).contains("failed   2"), "{}", stdout(&made));
    // Two scenes, two tries each, a fresh process for each.
    assert_eq!(starts(&place), 4);
    let records = failures(&place);
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["failure"]["kind"], "crash");
    assert!(records[0]["failure"]["log"].to_string().contains("Segmentation fault in cycles"), "{}", records[0]);
    assert_eq!(records[0]["scene"]["family"], "objects");
    // Another run tries again.
    expect_code(&render(&scenes), 0);
    assert_eq!(starts(&place), 8);
}

#[test]
fn a_hang_ends_at_the_time_limit() {
    let place = Workplace::new();
    let scenes = scenes(&place, "sleep 600", ", timeout_s: 1, max_failures: 0");
    let begin = std::time::Instant::now();
    let made = render(&scenes);
    expect_code(&made, 1);
    assert!(stderr(&made).contains("run.max_failures"), "{}", stderr(&made));
    assert!(begin.elapsed().as_secs() < 60);
    assert_eq!(failures(&place)[0]["failure"]["kind"], "timeout");
}

#[test]
fn what_blender_refuses_is_not_tried_again() {
    let place = Workplace::new();
    let answer = r#"echo 'simdrop {"failed": {"kind": "configuration", "message": "object_0: size is 0"}}'"#;
    let scenes = scenes(&place, answer, "");
    expect_code(&render(&scenes), 0);
    // The process is sound and goes on.
    assert_eq!(starts(&place), 1);
    assert!(failures(&place).iter().all(|record| record["failure"]["message"] == "object_0: size is 0"));
}

#[test]
fn frames_that_are_missing_are_a_failure_not_a_clip() {
    let place = Workplace::new();
    let scenes = scenes(&place, r#"echo 'simdrop {"done": {"render_s": 1.0}}'"#, "");
    expect_code(&render(&scenes), 0);
    assert_eq!(failures(&place)[0]["failure"]["kind"], "output");
    let clips = std::fs::read_dir(place.path("out")).unwrap().flatten();
    assert!(!clips.into_iter().any(|entry| entry.path().extension().is_some_and(|extension| extension == "mp4")));
}

#[test]
fn without_blender_the_call_says_what_to_do() {
    let place = Workplace::new();
    std::fs::write(place.path("scenes.yaml"), format!("{SCENES}output: {{path: {}}}\n", place.text("out"))).unwrap();
    let made = command(&["render", &place.text("scenes.yaml"), "--blender", "/nowhere/blender"]).output().unwrap();
    expect_code(&made, 2);
    assert!(stderr(&made).contains("/nowhere/blender"), "{}", stderr(&made));
    let listed = simdrop(&["render", &place.text("scenes.yaml"), "--list"]);
    expect_code(&listed, 0);
    assert_eq!(stdout(&listed).lines().count(), 2);
}

#[test]
fn shipped_clips_are_those_of_their_scenes() {
    let folder = root().join("data/clips/synthetic");
    for name in ["clean", "defects"] {
        let listed = simdrop(&["render", &format!("data/scenes/{name}.yaml"), "--list"]);
        expect_code(&listed, 0);
        for line in stdout(&listed).lines() {
            let scene: Value = serde_json::from_str(line).unwrap();
            let id = scene["id"].as_str().unwrap();
            let stored = std::fs::read(folder.join(format!("{id}.scene.json"))).expect(id);
            assert_eq!(serde_json::from_slice::<Value>(&stored).unwrap(), scene);
            assert!(folder.join(format!("{id}.mp4")).exists(), "{id}");
        }
    }
}

#[test]
fn a_pipeline_takes_rendered_clips_with_captions_of_their_elements() {
    let place = Workplace::new();
    let yaml = "name: rendered
sources: [{kind: synthetic, render: data/scenes/clean.yaml}]
stages:
  - filter: {name: others, keep: \"family = 'layers'\"}
  - decode: {frames: 4, width: 32, height: 32}
  - caption: compositional
output: {path: unset}
";
    std::fs::write(place.path("pipeline.yaml"), yaml).unwrap();
    expect_code(&place.run(&place.text("pipeline.yaml"), "out"), 0);
    let sql = "select caption, caption_source, generator, scene_id, defect from clips where fate = 'kept'";
    let rows = place.query("out", sql);
    assert!(!rows.is_empty());
    for row in &rows {
        assert!(row["caption"].as_str().unwrap().starts_with("rendered, a"), "{row}");
        assert_eq!(row["caption_source"], "compositional");
        assert!(row["generator"].as_str().unwrap().starts_with("blender-4"), "{row}");
    }
}
