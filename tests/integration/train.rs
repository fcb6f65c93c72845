//! Training: what comes out, that it goes on where it was killed, and what it says when it cannot go on.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::{Workplace, command, expect_code, root, simdrop, stderr, stdout};
use super::s3_server::S3Server;

/// A dataset of frames, 32×32, of the shipped clips; their first seconds in windows.
fn dataset(output: &str, place: &Workplace, environment: &[(&str, String)]) {
    let yaml = format!(
        "name: frames\nsources:\n  - {{kind: real, path: data/clips/real/carphone.mp4}}\n  - {{kind: synthetic, list: \
         data/clips/synthetic/defects.parquet}}\nstages:\n  - split: {{length_s: 1, minimum_s: 0.5}}\n  - decode: {{frames: 8, \
         width: 32, height: 32}}\n  - caption: compositional\noutput: {{path: {output}, payload: [frames]}}\n"
    );
    std::fs::write(place.path("frames.yaml"), yaml).unwrap();
    let mut call = command(&["run", &place.text("frames.yaml"), "--progress", "none"]);
    expect_code(&call.envs(environment.iter().cloned()).output().unwrap(), 0);
}

fn training(place: &Workplace, data: &str, rest: &str) -> String {
    let yaml = format!(
        "name: test\nmodel: tiny\ndata: [{{dataset: '{data}'}}]\noutput: {{path: '{}'}}\n{rest}\n",
        place.text("unset")
    );
    std::fs::write(place.path("train.yaml"), yaml).unwrap();
    place.text("train.yaml")
}

fn train(training: &str, output: &str, more: &[&str]) -> Output {
    let set = format!("output.path={output}");
    simdrop(&[&["train", training, "--set", &set, "--progress", "none"], more].concat())
}

const SHORT: &str = "steps: 12\noptimizer: {warmup: 2, learning_rate: 0.002}\ncheckpoints: {every: 4, keep: 2}\nvalidation: \
                     {every: 6, share: 0.2, clips: 16}\nrun: {log_every: 2}\nclips: {blur: {share: 0.5}}";

fn bytes(place: &Workplace, path: &str) -> Vec<u8> {
    std::fs::read(place.path(path)).unwrap()
}

#[test]
fn a_killed_training_goes_on_bit_for_bit() {
    let place = Workplace::new();
    dataset(&place.text("data"), &place, &[]);
    let training = training(&place, &place.text("data"), SHORT);
    let made = train(&training, &place.text("whole"), &[]);
    expect_code(&made, 0);
    assert!(stdout(&made).contains("12 steps, 12 of them now"), "{}", stdout(&made));

    let set = format!("output.path={}", place.text("killed"));
    let mut child = command(&["train", &training, "--set", &set, "--progress", "none"]).spawn().unwrap();
    let first = place.path("killed/checkpoints/step-00000004.safetensors");
    let limit = Instant::now() + Duration::from_secs(120);
    while !first.exists() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Without a word on what to do with what is there, nothing is done.
    let refused = train(&training, &place.text("killed"), &[]);
    expect_code(&refused, 2);
    assert!(stderr(&refused).contains("--resume"), "{}", stderr(&refused));
    let made = train(&training, &place.text("killed"), &["--resume"]);
    expect_code(&made, 0);
    assert!(!stdout(&made).contains("12 of them now"), "{}", stdout(&made));
    for file in ["checkpoints/step-00000012.safetensors", "model.onnx"] {
        assert!(bytes(&place, &format!("whole/{file}")) == bytes(&place, &format!("killed/{file}")), "{file}");
    }
    let kept = |output: &str| std::fs::read_dir(place.path(output).join("checkpoints")).unwrap().count();
    assert_eq!((kept("whole"), kept("killed")), (2, 2));
    // The metrics of both are the same but for times.
    let losses =
        |output: &str| place.query(output, "select step, split, source, loss from metrics order by 1, 2, 3, 4");
    assert_eq!(losses("whole"), losses("killed"));
    assert!(losses("whole").iter().any(|row| row["split"] == "validation" && row["source"] == "synthetic"));
    assert!(std::fs::read_to_string(place.path("whole/loss.svg")).unwrap().starts_with("<svg"));
    // Another training does not go on from here.
    let other = train(&training, &place.text("whole"), &["--resume", "--set", "seed=9"]);
    expect_code(&other, 2);
    assert!(stderr(&other).contains("of another training"), "{}", stderr(&other));
}

#[test]
fn gradients_of_small_batches_add_up_and_weights_are_taken_over() {
    let place = Workplace::new();
    dataset(&place.text("data"), &place, &[]);
    let training = training(&place, &place.text("data"), SHORT);
    expect_code(&train(&training, &place.text("base"), &["--set", "steps=4", "--set", "accumulate=2"]), 0);
    let checkpoint = place.text("base/checkpoints/step-00000004.safetensors");
    let init = format!("init={checkpoint}");
    // Full fine-tuning begins where the weights were, adapters change a model that stays.
    expect_code(&train(&training, &place.text("tuned"), &["--set", &init, "--set", "steps=4"]), 0);
    let made =
        train(&training, &place.text("adapted"), &["--set", &init, "--set", "model=tiny-lora", "--set", "steps=4"]);
    expect_code(&made, 0);
    assert!(stdout(&made).contains("7680 numbers trained"), "{}", stdout(&made));
    assert_ne!(bytes(&place, "tuned/model.onnx"), bytes(&place, "base/model.onnx"));
    let without = train(&training, &place.text("none"), &["--set", "model=tiny-lora"]);
    expect_code(&without, 2);
    assert!(stderr(&without).contains("init"), "{}", stderr(&without));
    // What was trained is a denoiser that a score stage takes.
    let score = format!(
        "  - decode: {{frames: 8, width: 32, height: 32}}\n  - score: {{models: {{a: {0}/base/model.onnx, b: \
         {0}/tuned/model.onnx}}, scores: {{difference: {{base: a, reference: b}}}}}}",
        place.path("").display()
    );
    place.clip("carphone.mp4", "clip.mp4");
    let pipeline = place.pipeline(&score, super::program::OUTPUT);
    expect_code(&place.run(&pipeline, "scored"), 0);
    let rows = place.query("scored", "select difference from clips");
    assert!(rows[0]["difference"].as_f64().is_some_and(|score| score.is_finite() && score != 0.0), "{rows:?}");
}

#[test]
fn a_loss_that_is_no_number_names_the_last_good_checkpoint() {
    let place = Workplace::new();
    dataset(&place.text("data"), &place, &[]);
    let training = training(&place, &place.text("data"), SHORT);
    expect_code(&train(&training, &place.text("out"), &["--set", "steps=4"]), 0);
    let wild =
        ["--set", "optimizer.learning_rate=1e30", "--set", "optimizer.clip_norm=1e30", "--set", "checkpoints.every=1"];
    let made = train(&training, &place.text("wild"), &wild);
    expect_code(&made, 1);
    let text = stderr(&made);
    assert!(text.contains("optimizer.learning_rate") && text.contains("checkpoint"), "{text}");
    assert!(!Path::new(&place.text("wild/model.onnx")).exists());
}

#[test]
fn datasets_and_outputs_lie_in_a_bucket() {
    let (server, place) = (S3Server::start(), Workplace::new());
    let environment = server.environment();
    dataset("s3://data/frames", &place, &environment);
    let training = training(&place, "s3://data/frames", SHORT);
    let run = |more: &[&str]| {
        let args = [&["train", &training, "--set", "output.path=s3://data/model", "--progress", "none"], more].concat();
        command(&args).envs(environment.iter().cloned()).output().unwrap()
    };
    expect_code(&run(&["--set", "steps=4"]), 0);
    expect_code(&run(&["--set", "steps=4", "--resume"]), 0);
    let description: Value = serde_json::from_slice(&std::fs::read(server.path("model/train.json")).unwrap()).unwrap();
    assert_eq!(description["complete"], true);
    assert!(server.path("model/checkpoints/step-00000004.safetensors").exists());
}

#[test]
fn mistakes_are_placed_and_say_what_to_do() {
    let place = Workplace::new();
    let training = training(&place, "nowhere", "steps: 10\noptimizer: {beta1: 1.5, warmup: 20}\nclips: {flop: 1}");
    let made = simdrop(&["train", &training]);
    expect_code(&made, 2);
    let text = stderr(&made);
    assert!(text.contains("flop") && text.contains("flip"), "{text}");
    let training = place.text("train.yaml");
    let text = std::fs::read_to_string(&training).unwrap().replace("\nclips: {flop: 1}", "");
    std::fs::write(&training, text).unwrap();
    let text = stderr(&simdrop(&["train", &training]));
    assert!(text.contains("beta1") && text.contains("warmup") && text.contains("train.yaml"), "{text}");
    let training = self::training(&place, "nowhere", "steps: 10\noptimizer: {warmup: 1}");
    let made = simdrop(&["train", &training, "--set", "model=tinny"]);
    assert!(stderr(&made).contains("did you mean tiny?"), "{}", stderr(&made));
    let made = simdrop(&["train", &training]);
    assert!(stderr(&made).contains("there is no dataset at nowhere"), "{}", stderr(&made));
    assert!(root().join("schemas/train.schema.json").exists());
}

#[test]
fn a_training_is_validated_before_it_begins() {
    let place = Workplace::new();
    dataset(&place.text("data"), &place, &[]);
    let sound = training(&place, &place.text("data"), SHORT);
    let validated = simdrop(&["validate", &sound, "--set", &format!("output.path={}", place.text("out"))]);
    expect_code(&validated, 0);
    let text = stdout(&validated);
    assert!(text.contains("train_step on cpu") && text.contains("clips to train on"), "{text}");
    assert!(text.contains("no training yet") && text.ends_with("valid\n"), "{text}");
    assert!(!place.path("out").exists(), "nothing is written");
    // All that is wrong at once, each where it stands.
    let more = format!("{SHORT}\ninit: nowhere.safetensors\ncondition: {{encoder: nothing.onnx}}");
    let wrong = training(&place, &place.text("no-data"), &more);
    let validated = simdrop(&["validate", &wrong, "--set", &format!("output.path={}", place.text("out"))]);
    expect_code(&validated, 2);
    let text = stderr(&validated);
    for part in ["train.yaml", "no-data", "init: nowhere.safetensors", "nothing.onnx", "3 mistakes"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
