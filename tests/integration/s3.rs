//! Clips, lists, renders and datasets in an object store.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::Value;

use super::program::{DECODE, Workplace, command, expect_code, root, simdrop, stderr, stdout};
use super::s3_server::S3Server;

fn run(server: &S3Server, args: &[&str]) -> Output {
    command(args).envs(server.environment()).output().unwrap()
}

fn query(server: &S3Server, dataset: &str, sql: &str) -> Vec<Value> {
    let made = run(server, &["sql", dataset, sql, "--format", "json"]);
    expect_code(&made, 0);
    serde_json::from_slice(&made.stdout).unwrap()
}

fn pipeline(place: &Workplace, sources: &str, stages: &str, output: &str) -> String {
    let yaml = format!("name: test\nsources:\n{sources}\nstages:\n{stages}\noutput: {{path: {output}}}\n");
    std::fs::write(place.path("pipeline.yaml"), yaml).unwrap();
    place.text("pipeline.yaml")
}

#[test]
fn a_bucket_gives_clips_and_takes_the_dataset() {
    let (server, place) = (S3Server::start(), Workplace::new());
    let real = root().join("data/clips/real");
    for key in ["clips/a/car phone #1.mp4", "clips/b.mp4", "clips/a/deep/c.mp4"] {
        server.put(key, &real.join("carphone.mp4"));
    }
    server.put("clips/readme.txt", &root().join("README.md"));
    server.put("clips/broken.mp4", &root().join("README.md"));
    let pipeline = pipeline(&place, "  - {path: 's3://data/clips', kind: real}", DECODE, "s3://data/out");
    let made = run(&server, &["run", &pipeline, "--progress", "none"]);
    expect_code(&made, 0);
    let rows = query(&server, "s3://data/out", "select uri, fate, dataset, size_bytes from clips order by uri");
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(rows[0]["uri"], "s3://data/clips/a/car phone #1.mp4");
    assert_eq!(rows.iter().filter(|row| row["fate"] == "kept").count(), 3, "{rows:?}");
    assert_eq!(rows[3]["uri"], "s3://data/clips/broken.mp4");
    // What lies in the bucket is the dataset that a disk would have.
    let local = server.path("out").display().to_string();
    let made = simdrop(&["sql", &local, "select count(*) as clips from clips", "--format", "csv"]);
    assert!(stdout(&made).contains('4'), "{}", stdout(&made));
    // Another run has nothing to do, and a new clip makes a new version.
    let again = run(&server, &["run", &pipeline, "--progress", "none"]);
    expect_code(&again, 0);
    server.put("clips/new.mp4", &real.join("carphone.mp4"));
    expect_code(&run(&server, &["run", &pipeline, "--progress", "none"]), 0);
    assert_eq!(query(&server, "s3://data/out", "select * from clips").len(), 5);
    let dataset: Value = serde_json::from_slice(&std::fs::read(server.path("out/dataset.json")).unwrap()).unwrap();
    assert_eq!(dataset["version"], 2);
    // It can be checked there.
    expect_code(&run(&server, &["verify", "s3://data/out"]), 0);
    // A clip that fails again leaves another version, and nothing beside it.
    expect_code(&run(&server, &["run", &pipeline, "--progress", "none", "--retry-failed"]), 0);
    let made = run(&server, &["verify", "s3://data/out"]);
    expect_code(&made, 0);
    assert!(stdout(&made).contains("version 3, 5 clips (4 kept, 0 dropped, 1 failed)"), "{}", stdout(&made));
    let shard = server.path("out").join(dataset["shards"][0]["path"].as_str().unwrap());
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    let made = run(&server, &["verify", "s3://data/out"]);
    expect_code(&made, 1);
    assert!(stdout(&made).contains("its bytes are not those that were written"), "{}", stdout(&made));
    // Secrets stay where they are.
    for secret in ["test-secret", "test-key"] {
        assert!(!dataset.to_string().contains(secret) && !stderr(&made).contains(secret));
    }
}

#[test]
fn globs_lists_and_single_objects_name_clips() {
    let (server, place) = (S3Server::start(), Workplace::new());
    let real = root().join("data/clips/real");
    for key in ["clips/a/1.mp4", "clips/a/2.mov", "clips/b/3.mp4", "clips/b/c/4.mp4"] {
        server.put(key, &real.join("carphone.mp4"));
    }
    std::fs::write(place.path("list.csv"), "uri,caption\na/1.mp4,one\ns3://data/clips/b/3.mp4,two\n").unwrap();
    server.put("clips/list.csv", &place.path("list.csv"));
    for (source, expected) in [
        ("path: 's3://data/clips/*/*.mp4'", 2),
        ("path: 's3://data/clips/**/*.mp4'", 3),
        ("path: 's3://data/clips/b/**'", 2),
        ("path: 's3://data/clips/a/2.mov'", 1),
        ("path: 's3://data/clips/'", 4),
        ("list: 's3://data/clips/list.csv'", 2),
    ] {
        let pipeline = pipeline(&place, &format!("  - {{{source}, kind: real}}"), DECODE, &place.text("out"));
        let made = run(&server, &["run", &pipeline, "--progress", "none", "--overwrite"]);
        expect_code(&made, 0);
        assert_eq!(place.query("out", "select * from clips where fate = 'kept'").len(), expected, "{source}");
    }
    for (source, part) in [
        ("path: 's3://data/none'", "holds no video"),
        ("path: 's3://nowhere/clips'", "s3://nowhere/clips"),
        ("list: 's3://data/none.csv'", "s3://data/none.csv"),
    ] {
        let pipeline = pipeline(&place, &format!("  - {{{source}, kind: real}}"), DECODE, &place.text("none"));
        let made = run(&server, &["run", &pipeline, "--progress", "none"]);
        assert_ne!(made.status.code(), Some(0));
        assert!(stderr(&made).contains(part), "{}", stderr(&made));
    }
}

#[test]
fn the_endpoint_may_stand_in_the_pipeline() {
    let (server, place) = (S3Server::start(), Workplace::new());
    server.put("clips/a.mp4", &root().join("data/clips/real/carphone.mp4"));
    let pipeline = pipeline(&place, "  - {path: 's3://data/clips', kind: real}", DECODE, "s3://data/out");
    let set = format!("storage.endpoint={}", server.endpoint());
    let mut call = command(&["run", &pipeline, "--progress", "none", "--set", &set]);
    let made = call.envs(server.environment()).env_remove("AWS_ENDPOINT_URL").output().unwrap();
    expect_code(&made, 0);
    assert_eq!(query(&server, "s3://data/out", "select * from clips where fate = 'kept'").len(), 1);
}

#[test]
fn renders_go_to_a_bucket_and_from_there_into_a_pipeline() {
    let (server, place) = (S3Server::start(), Workplace::new());
    let scenes = scenes(&place);
    let listed = stdout(&simdrop(&["render", &scenes, "--list"]));
    let scene: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    fill(&place, scene["id"].as_str().unwrap());
    let made = run(&server, &["render", &scenes, "--progress", "none"]);
    expect_code(&made, 0);
    assert!(stdout(&made).contains("1 clips, 1 rendered now"), "{}", stdout(&made));
    // What is there is not rendered again.
    let made = run(&server, &["render", &scenes, "--progress", "none"]);
    assert!(stdout(&made).contains("1 clips, 0 rendered now"), "{}", stdout(&made));
    let stages = format!("{DECODE}\n  - caption: {{from: [{{compositional: {{}}}}]}}");
    let source = format!("  - {{render: '{scenes}', kind: synthetic}}");
    let pipeline = pipeline(&place, &source, &stages, "s3://data/out");
    expect_code(&run(&server, &["run", &pipeline, "--progress", "none"]), 0);
    let rows = query(&server, "s3://data/out", "select uri, fate, caption from clips");
    assert_eq!(rows[0]["fate"], "kept", "{rows:?}");
    assert!(rows[0]["caption"].as_str().unwrap().starts_with("rendered, "), "{rows:?}");
    assert!(rows[0]["uri"].as_str().unwrap().starts_with("s3://data/renders/"), "{rows:?}");
}

/// A file with one scene that the repository ships rendered, for a bucket and a Blender that leaves prepared files.
fn scenes(place: &Workplace) -> String {
    let blender = place.path("blender");
    let script = format!(
        "#!/bin/sh\necho 'simdrop {{\"ready\": \"4.5.0\"}}'\nwhile read job; do\n\
         folder=$(echo \"$job\" | sed 's/.*\"output\": *\"\\([^\"]*\\)\".*/\\1/')\n\
         cp -r {}/. \"$folder\"\necho 'simdrop {{\"done\": {{}}}}'\ndone\n",
        place.text("prepared")
    );
    std::fs::write(&blender, script).unwrap();
    std::fs::set_permissions(&blender, std::fs::Permissions::from_mode(0o755)).unwrap();
    let yaml = format!(
        "name: clean\nseed: 2026\nrender: {{width: 128, height: 128, frames: 24, fps: 12, samples: 16}}\n\
         scenes: [{{family: objects, name: objects-motion, count: 1}}]\n\
         output: {{path: 's3://data/renders', crf: 20, licence: CC0-1.0}}\nrun: {{blender: {}, workers: 1}}\n",
        blender.display()
    );
    std::fs::write(place.path("scenes.yaml"), yaml).unwrap();
    place.text("scenes.yaml")
}

/// What Blender would leave of a scene, from the ground truth that is shipped with it.
fn fill(place: &Workplace, id: &str) {
    let frames = place.path("prepared/frames");
    std::fs::create_dir_all(&frames).unwrap();
    std::fs::copy(root().join(format!("data/clips/synthetic/{id}.truth.json")), place.path("prepared/truth.json"))
        .unwrap();
    for frame in 0..24u8 {
        let file = std::fs::File::create(frames.join(format!("{frame:06}.png"))).unwrap();
        let mut encoder = png::Encoder::new(file, 128, 128);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&vec![frame * 8; 128 * 128 * 3]).unwrap();
    }
}

#[test]
fn who_may_not_is_told_what_to_do() {
    let (server, place) = (S3Server::start(), Workplace::new());
    let pipeline = pipeline(&place, "  - {path: 's3://data/clips', kind: real}", DECODE, &place.text("out"));
    let call = |secret: &str| {
        let mut call = command(&["run", &pipeline, "--progress", "none"]);
        call.envs(server.environment()).env("AWS_SECRET_ACCESS_KEY", secret).output().unwrap()
    };
    let made = call("a-wrong-secret");
    assert_ne!(made.status.code(), Some(0));
    let text = stderr(&made);
    assert!(text.contains("s3://data/clips") && text.contains("credentials"), "{text}");
    assert!(!text.contains("a-wrong-secret"), "{text}");
}

#[test]
fn models_labels_and_thresholds_may_lie_in_a_bucket() {
    let (server, place) = (S3Server::start(), Workplace::new());
    server.put("clips/a.mp4", &root().join("data/clips/real/carphone.mp4"));
    for name in ["clean", "artefact"] {
        let model = format!("denoiser-{name}.onnx");
        server.put(&format!("models/{model}"), &root().join("data/models/denoiser").join(&model));
    }
    std::fs::write(place.path("thresholds.json"), r#"{"simdrop_score": -1000}"#).unwrap();
    server.put("thresholds.json", &place.path("thresholds.json"));
    let stages = |models: &str, thresholds: &str| {
        format!(
            "  - decode: {{frames: 8, width: 32, height: 32}}\n  - score:\n      models: {{clean: '{models}/denoiser-clean.onnx', \
             artefact: '{models}/denoiser-artefact.onnx'}}\n      scores: {{simdrop_score: {{base: clean, reference: \
             artefact}}}}\n  - simdrop: {{thresholds: '{thresholds}'}}"
        )
    };
    let score = |stages: &str, output: &str| -> Value {
        let pipeline = pipeline(&place, "  - {path: 's3://data/clips', kind: real}", stages, output);
        expect_code(&run(&server, &["run", &pipeline, "--progress", "none"]), 0);
        let rows = query(&server, output, "select simdrop_score, fate from clips");
        assert_eq!(rows[0]["fate"], "dropped", "{rows:?}");
        rows[0]["simdrop_score"].clone()
    };
    let there = score(&stages("s3://data/models", "s3://data/thresholds.json"), "s3://data/out");
    let here = score(&stages("data/models/denoiser", &place.text("thresholds.json")), &place.text("out"));
    assert_eq!(there, here);
    let missing = stages("s3://data/none", "s3://data/thresholds.json");
    let pipeline = pipeline(&place, "  - {path: 's3://data/clips', kind: real}", &missing, "s3://data/none");
    let made = run(&server, &["run", &pipeline, "--progress", "none"]);
    assert_ne!(made.status.code(), Some(0));
    assert!(stderr(&made).contains("s3://data/none/denoiser"), "{}", stderr(&made));
}

#[test]
fn profiles_give_keys_and_nothing_shows_them() {
    let (server, place) = (S3Server::start(), Workplace::new());
    server.put("clips/a.mp4", &root().join("data/clips/real/carphone.mp4"));
    server.put("clips/broken.mp4", &root().join("README.md"));
    let pipeline = pipeline(&place, "  - {path: 's3://data/clips', kind: real}", DECODE, "s3://data/out");
    std::fs::create_dir(place.path(".aws")).unwrap();
    let config = format!("[profile work]\nregion = us-east-1\nendpoint_url = {}\n", server.endpoint());
    std::fs::write(place.path(".aws/config"), config).unwrap();
    let keys = |id: &str, secret: &str| {
        let text = format!("[work]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        std::fs::write(place.path(".aws/credentials"), text).unwrap();
    };
    let call = |args: &[&str], variables: &[(&str, &str)]| {
        let mut call = command(args);
        call.envs(variables.iter().copied()).env("HOME", place.path("")).env("SIMDROP_LOG", "trace").output().unwrap()
    };
    let told = |made: &Output| format!("{}{}", stdout(made), stderr(made));
    let mut texts = Vec::new();
    // By the pipeline's setting, and by the environment.
    keys("test-key", "test-secret");
    let set = ["--set", "storage.profile=work"];
    let made = call(&[&["run", &pipeline, "--progress", "plain"], &set[..]].concat(), &[]);
    expect_code(&made, 0);
    texts.push(told(&made));
    for verb in ["explain", "validate"] {
        let made = call(&[verb, &pipeline], &[("AWS_PROFILE", "work")]);
        expect_code(&made, 0);
        texts.push(told(&made));
    }
    // Wrong keys, and a profile that is not there.
    keys("test-key", "no-such-secret");
    let made = call(&["run", &pipeline, "--overwrite"], &[("AWS_PROFILE", "work")]);
    assert_ne!(made.status.code(), Some(0));
    assert!(stderr(&made).contains("credentials"), "{}", stderr(&made));
    texts.push(told(&made));
    let made = call(&["run", &pipeline, "--overwrite"], &[("AWS_PROFILE", "nobody")]);
    assert_ne!(made.status.code(), Some(0));
    assert!(stderr(&made).contains("AWS profile nobody is not in"), "{}", stderr(&made));
    // Whatever was told or written.
    let mut folders = vec![server.path("out")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => texts.push(String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()),
            }
        }
    }
    assert!(texts.len() > 6, "a dataset has files");
    for secret in ["test-secret", "no-such-secret"] {
        let shown = texts.iter().find_map(|text| text.lines().find(|line| line.contains(secret)));
        assert!(shown.is_none(), "{shown:?}");
    }
}
