use super::*;

#[test]
fn many_mistakes_are_shown_at_once() {
    let text = "\
name: my demo
sorces:
  - path: clips/*.mp4
    kind: reel
stages:
  - decod:
      frames: 8
  - decode:
      fsp: 4
      frames: many
      fit: fil
      width: 0
  - simdrop:
      threshold: high
output:
  path: out/demo
  max_bytes: 4 parsecs
run:
  threads: 2.5
  max_failures: few
";
    insta::assert_snapshot!(mistakes_of(text, &[]));
}

#[test]
fn structure_is_checked_where_it_is_written() {
    let text = "\
name: my demo
sources:
  - path: a
    list: b.csv
    kind: real
  - kind: synthetic
stages:
  - split:
      length_s: 2
      stride_s: 0
      minimum_s: 3
  - decode:
      column: Frames
      also:
        - column: small
        - column: small
  - decode: {column: uri}
  - caption:
      from:
        - sidecar: {extension: .txt}
  - score:
      models: {base: a.onnx, clean: b.onnx}
      scores:
        look:
          base: base
          reference: claen
          t: [0.1, 1]
        same: {base: base, reference: base}
  - filter: {name: small, keep: ''}
  - simdrop: {threshold: 1, groups: {by: source, values: {}}}
output:
  path: out
  payload: [source, frames]
  frames: [smal]
models:
  providers: [cpu, cpu]
  require: cuda
run:
  memory_limit: 1MB
  max_failures: 1.5
";
    insta::assert_snapshot!(mistakes_of(text, &[]));
}

#[test]
fn settings_beside_their_stage() {
    insta::assert_snapshot!(mistakes_of(
        &with_stages("  - decode:\n    fps: 4\n  - filter: {name: a, keep: b}\n    decode: {}\n"),
        &[]
    ));
}

#[test]
fn wrong_kinds_of_values() {
    let text = "name: 7\nsources: clips\nstages: {decode: {}}\noutput: [out]\nmodels: cuda\nrun:\n  max_failures: []\n";
    insta::assert_snapshot!(mistakes_of(text, &[]));
}

#[test]
fn unknown_words_of_a_tagged_list() {
    let stages = "  - caption:\n      from:\n        - sidcar: {extension: txt}\n        - template: 4\n        - {}\n        - column\n";
    insta::assert_snapshot!(mistakes_of(&with_stages(stages), &[]));
}

#[test]
fn a_stage_without_what_it_needs() {
    insta::assert_snapshot!(mistakes_of(
        &with_stages("  - filter\n  - split:\n  - simdrop\n  - decode: {also: [{}]}\n"),
        &[]
    ));
}

#[test]
fn environment_variables() {
    let text = "name: ${NOBODY}\nsources: [{path: \"a/${1X}/b\", kind: real}]\noutput:\n  path: out/${OPEN\nrun:\n  threads: ${FOUR}x\n";
    insta::assert_snapshot!(mistakes_of(text, &[]));
}

#[test]
fn options_of_the_command_line() {
    let text = with_stages(
        "  - decode: {}\n  - decode: {name: again, column: more}\n  - filter: {name: wide, keep: width > 1}\n",
    );
    let sets = [
        "stages.decode.fsp=4",
        "stages.decod.fps=4",
        "stages.7.fps=4",
        "stages.wide.keep=[1, 2]",
        "run.thread=3",
        "run.threads=0",
        "sources.1.path=a",
        "name.first=a",
        "output.path: a",
        "=3",
        "output.cut={encode",
        "stages=",
        "stages.decode.fps=4",
    ];
    insta::assert_snapshot!(mistakes_of(&text, &sets));
}

#[test]
fn a_kind_that_two_stages_have() {
    let text = with_stages("  - decode: {name: small}\n  - decode: {name: large, column: large}\n");
    insta::assert_snapshot!(mistakes_of(&text, &["stages.decode.fps=4"]));
}

#[test]
fn a_field_twice() {
    insta::assert_snapshot!(mistakes_of("name: a\nname: b\nrun: {threads: 1, threads: 2}\n", &[]));
}

#[test]
fn a_tab() {
    insta::assert_snapshot!(mistakes_of("name: a\nrun:\n\tthreads: 1\n", &[]));
}

#[test]
fn an_indentation_that_fits_nowhere() {
    insta::assert_snapshot!(mistakes_of("name: a\nstages:\n    - decode:\n        fps: 4\n   - caption\n", &[]));
}

#[test]
fn a_quote_that_stays_open() {
    insta::assert_snapshot!(mistakes_of("name: a\noutput:\n  path: \"out\nrun:\n  threads: 1\n", &[]));
}

#[test]
fn a_variable_within_brackets() {
    insta::assert_snapshot!(mistakes_of("name: a\noutput: {path: ${HOME}}\n", &[]));
}

#[test]
fn nothing_and_other_things() {
    let all =
        ["", "# only a comment\n", "- decode\n", "just text\n", "a: 1\n---\nb: 2\n", "name: !secret a\n", "[a]: b\n"];
    let shown: Vec<String> = all.iter().map(|text| mistakes_of(text, &[])).collect();
    insta::assert_snapshot!(shown.join("\n\n========\n"));
}

#[test]
fn two_stages_of_one_name() {
    insta::assert_snapshot!(mistakes_of(&with_stages("  - decode\n  - decode: {column: b}\n"), &[]));
}

#[test]
fn a_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{}, ", level - 1).repeat(9);
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let wrong = read(&text, &[]).expect_err("a bomb");
    assert!(wrong.all()[0].message().contains("more than 50000 values"), "{wrong}");
}

#[test]
fn text_that_aliases_repeat_is_bounded() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(20_000));
    let wrong = read(&text, &[]).expect_err("20 GB");
    assert!(wrong.all()[0].message().contains("bytes of text"), "{}", wrong.all()[0]);
}

#[test]
fn thousands_of_mistakes_are_counted_and_few_are_shown() {
    let text: String = (0..20_000).map(|number| format!("k{number}: 1\n")).collect();
    let start = std::time::Instant::now();
    let said = mistakes_of(&text, &[]);
    assert!(said.contains(" more\n") && said.contains("mistakes in pipeline.yaml"), "{said}");
    assert!(said.len() < 100_000, "{} bytes", said.len());
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
    let line = format!("{LEAST}run: {{{}}}", "x: 1, ".repeat(10_000));
    assert!(mistakes_of(&line, &[]).len() < 100_000);
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let wrong = load::<PipelineSpec>(Path::new("/dev/zero"), &[], &|_| None).expect_err("no pipeline");
    assert!(wrong.to_string().contains("/dev/zero has more than 4194304 bytes"), "{wrong}");
}

#[test]
fn absurd_numbers_are_refused_where_they_stand() {
    let absurd = [
        ("stages: [{decode: {frames: 99999999999999999999}}]", "frames"),
        ("stages: [{decode: {width: 1e400}}]", "width"),
        ("stages: [{decode: {width: 4294967296}}]", "width"),
        ("stages: [{decode: {timeout_s: .inf}}]", "timeout_s"),
        ("stages: [{decode: {max_pixels: -1}}]", "max_pixels"),
        ("stages: [{split: {length_s: 1e-300}}]", "length_s"),
        ("run: {memory_limit: 99999999999999999EiB}", "16 EiB"),
        ("run: {clips_per_unit: 18446744073709551616}", "clips_per_unit"),
        ("run: {threads: 1e300}", "threads"),
    ];
    for (line, field) in absurd {
        let wrong = read(&format!("{LEAST}{line}\n"), &[]).map(|loaded| loaded.spec);
        let wrong = wrong.expect_err(line);
        assert_eq!(wrong.all().len(), 1, "{wrong}");
        assert!(wrong.all()[0].message().contains(field), "{line}: {wrong}");
        assert!(wrong.all()[0].spot().is_some_and(|(name, line, _)| (name, line) == ("pipeline.yaml", 4)), "{wrong}");
    }
}

#[test]
fn depth_is_bounded() {
    assert!(mistakes_of(&"[".repeat(10_000), &[]).contains("no valid YAML"));
    assert!(mistakes_of("a: &a [*a]\n", &[]).contains("alias"));
}

#[test]
fn a_variable_changes_no_structure() {
    let spec = spec_of(&LEAST.replace("path: out", "path: '${TRICK}'"), &[]);
    assert_eq!(spec.output.path, "a\nrun: {threads: 1}");
    assert_eq!(spec.run.threads, None);
}

#[test]
fn bytes_that_are_no_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("video.yaml");
    std::fs::write(&file, b"name: a\nx: \xff\xfe").expect("written");
    let wrong = load::<PipelineSpec>(&file, &[], &|_| None).expect_err("no text");
    assert_eq!(wrong.all()[0].spot().map(|(_, line, column)| (line, column)), Some((2, 4)));
    let missing = load::<PipelineSpec>(&folder.path().join("none.yaml"), &[], &|_| None).expect_err("no file");
    assert!(missing.to_string().contains("cannot read"), "{missing}");
}

#[test]
fn every_mistake_has_a_place_and_a_text() {
    let wrong = read(&with_stages("  - decode: {fit: fil}\n"), &["run.threads=x"]).expect_err("two mistakes");
    let spots: Vec<_> = wrong.all().iter().map(|one| (one.spot(), one.text())).collect();
    assert_eq!(spots[0], (Some(("pipeline.yaml", 5, 19)), Some("fil")));
    assert_eq!(spots[1], (Some(("command line", 1, 19)), Some("x")));
}

#[test]
fn the_file_is_given_back_where_a_later_check_fails() {
    let text = with_stages(
        "  - score:\n      models:\n        base: missing.onnx\n        clean: b.onnx\n      scores: {s: {base: base, reference: clean}}\n",
    );
    let loaded = read(&text, &["run.threads=2"]).expect("sound");
    let at = |path: &str| loaded.locate(path);
    assert_eq!(at("stages[0].models.base"), ("pipeline.yaml".into(), 7, 15, "missing.onnx".into()));
    assert_eq!(at("stages.score.models.base"), at("stages[0].score.models.base"));
    assert_eq!(at("stages[0]").3, "score");
    assert_eq!(at("stages[0].batch").3, "score");
    assert_eq!(at("run.threads"), ("command line".into(), 1, 19, "2".into()));
    let one = loaded.diagnose("stages[0].models.base", "missing.onnx is not there", "export it with `make models`");
    insta::assert_snapshot!(Diagnostics::from(one).to_string());
}
