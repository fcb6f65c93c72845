//! A run that is killed at every boundary of its work, by the store that it talks to, and what the next run makes of it.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::program::{DECODE, Workplace, command, expect_code, root};
use super::s3_faults::{Faults, Trap, dataset};
use super::s3_server::S3Server;

/// Where runs are killed: the request, the how-manieth of its kind, and whether it is served first.
const MOMENTS: &[(&str, Method, &str, u64, bool)] = &[
    ("while listing", Method::GET, "/data", 2, true),
    ("after listing", Method::PUT, "/units/", 1, false),
    ("between units", Method::PUT, "/units/", 3, true),
    ("while decoding", Method::GET, "/clips/05.mp4", 1, false),
    ("while copying", Method::GET, "/clips/05.mp4", 2, false),
    ("before a shard", Method::PUT, "/shards/", 2, false),
    ("after a shard", Method::PUT, "/shards/", 2, true),
    ("before rows", Method::PUT, "/clips/", 2, false),
    ("before a receipt", Method::PUT, "/receipts/", 1, false),
    ("after a receipt", Method::PUT, "/receipts/", 1, true),
    ("between receipts", Method::PUT, "/receipts/", 3, false),
    ("before the commit", Method::PUT, "/dataset.json", 1, false),
    ("in the commit", Method::PUT, "/dataset.json", 1, true),
];

#[test]
fn a_run_killed_at_any_boundary_goes_on_to_the_same_dataset() {
    let faults = Faults::none();
    let (server, place) = (S3Server::start_with(faults.clone()), Workplace::new());
    for number in 0..12 {
        server.put(&format!("clips/{number:02}.mp4"), &root().join("data/clips/real/carphone.mp4"));
    }
    server.put("clips/broken.mp4", &root().join("README.md"));
    let run = |output: &str, threads: u32, clips_per_unit: u32| {
        let yaml = format!(
            "name: test\nsources: [{{path: 's3://data/clips', kind: real}}]\nstages:\n{DECODE}\n\
             run: {{threads: {threads}, clips_per_unit: {clips_per_unit}}}\noutput: {{path: 's3://data/{output}'}}\n"
        );
        std::fs::write(place.path("pipeline.yaml"), yaml).unwrap();
        let mut call = command(&["run", &place.text("pipeline.yaml"), "--progress", "none"]);
        call.envs(server.environment());
        call
    };
    expect_code(&run("undisturbed", 2, 2).output().unwrap(), 0);
    let (shards, rows) = dataset(&server, "undisturbed");
    assert_eq!(rows.len(), 13);
    for (number, (name, method, part, request, after)) in MOMENTS.iter().enumerate() {
        let output = format!("killed-{number}");
        // The store answers nothing before the trap is set.
        let mut trap = faults.trap.lock().unwrap();
        let victim = run(&output, 2, 2).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        *trap = Some(Trap { victim, method: method.clone(), part, number: *request, after: *after });
        drop(trap);
        let status = loop {
            let ended = faults.trap.lock().unwrap().as_mut().unwrap().victim.try_wait().unwrap();
            match ended {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        *faults.trap.lock().unwrap() = None;
        assert_eq!(status.signal(), Some(9), "no run comes by this moment: {name}");
        // How many cores there are the next time makes no difference.
        expect_code(&run(&output, 1 + number as u32 % 2, 2).output().unwrap(), 0);
        let (again, again_rows) = dataset(&server, &output);
        println!("killed {name}: {} rows and {} shards afterwards", again_rows.len(), again.len());
        assert_eq!(again, shards, "killed {name}");
        assert_eq!(again_rows, rows, "killed {name}");
    }
    // Units of another size give other shards and the same clips.
    expect_code(&run("other-units", 1, 5).output().unwrap(), 0);
    let (_, other) = dataset(&server, "other-units");
    let fates = |rows: &[Value]| -> Vec<String> {
        let fate = |row: &Value| format!("{} {} {} {}", row["clip_id"], row["uri"], row["fate"], row["fate_reason"]);
        rows.iter().map(fate).collect()
    };
    assert_eq!(fates(&other), fates(&rows));
}
