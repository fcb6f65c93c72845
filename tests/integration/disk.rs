//! Disks that are full or take nothing: a clear error, and a run that goes on where it was.

use std::process::{Command, Output};

use super::program::{DECODE, Workplace, expect_code, root, stderr, stdout};

/// Runs a shell script where `$DISK` can be mounted; none where this machine lets nobody mount.
fn where_disks_can_be_mounted(script: &str, place: &Workplace) -> Option<Output> {
    let unshare = |how: &[&str], script: &str| {
        let mut call = Command::new("unshare");
        call.args(how).args(["sh", "-euc", script]).current_dir(root()).env("NO_COLOR", "1");
        call.env("SIMDROP", env!("CARGO_BIN_EXE_simdrop")).env("DISK", place.path("disk")).output()
    };
    std::fs::create_dir(place.path("disk")).unwrap();
    let try_out = "mount -t tmpfs -o size=1m none \"$DISK\"";
    let may = |how: &&&[&str]| unshare(how, try_out).is_ok_and(|made| made.status.success());
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let way = ways.iter().find(may);
    way.map(|how| unshare(how, script).unwrap())
}

#[test]
fn a_full_disk_and_a_read_only_one_end_the_run_and_lose_nothing() {
    let place = Workplace::new();
    for (number, clip) in ["carphone", "bikes", "walkers", "athlete-cam01"].iter().enumerate() {
        place.clip(&format!("{clip}.mp4"), &format!("{number}.mp4"));
    }
    let pipeline = place.pipeline(DECODE, "output: {path: unset, max_bytes: 200KiB}\nrun: {clips_per_unit: 1}");
    let script = format!(
        "run() {{ code=0; \"$SIMDROP\" run {pipeline} --set \"output.path=$DISK/out\" --progress none || code=$?; echo \"code $code\"; }}
         mount -t tmpfs -o size=900k none \"$DISK\"
         run
         test ! -e \"$DISK/out/dataset.json\"
         mount -o remount,size=64m,ro none \"$DISK\"
         run
         mount -o remount,rw none \"$DISK\"
         run
         run
         \"$SIMDROP\" verify \"$DISK/out\"
         \"$SIMDROP\" sql \"$DISK/out\" \"select count(*) as clips, count(distinct uri) as uris from clips\" --format csv"
    );
    let Some(made) = where_disks_can_be_mounted(&script, &place) else {
        eprintln!("SKIPPED: nobody may mount a disk here, so a full and a read-only one were not tried");
        return;
    };
    expect_code(&made, 0);
    let (out, errors) = (stdout(&made), stderr(&made));
    let codes: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("code ")).collect();
    assert_eq!(codes, ["1", "1", "0", "0"], "{out}{errors}");
    assert!(errors.contains("No space left on device"), "{errors}");
    assert!(errors.contains("Read-only file system"), "{errors}");
    assert!(out.contains("nothing to do"), "{out}");
    assert!(out.contains("4,4"), "{out}");
}
