use super::*;
use crate::stage::decode::config::DecodeConfig;

#[test]
fn every_pipeline_of_the_repository_loads() {
    let files = |folder: &str| {
        let entries = std::fs::read_dir(root().join(folder)).expect("a folder");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
        files.retain(|path| path.is_file());
        files.sort();
        files
    };
    let all = [files("pipelines"), files("pipelines/reference")].concat();
    assert!(all.len() >= 10, "{all:?}");
    for file in all {
        // The first line says for editors what a file is.
        let text = std::fs::read_to_string(&file).expect("text");
        let loaded = match text.lines().next().is_some_and(|line| line.contains("train.schema.json")) {
            true => load::<crate::train::spec::TrainSpec>(&file, &[], &|_| None).err(),
            false => load::<PipelineSpec>(&file, &[], &|_| None).err(),
        };
        assert!(loaded.is_none(), "{}", loaded.map(|wrong| wrong.to_string()).unwrap_or_default());
    }
}

#[test]
fn generated_files_are_up_to_date() {
    for (name, content) in schema::files() {
        let there = std::fs::read_to_string(root().join("schemas").join(name)).unwrap_or_default();
        assert!(there == content, "schemas/{name} is not what the types say: run `make schemas`");
    }
}

#[test]
fn every_field_is_documented() {
    // The kinds of a tagged list are documented one level up.
    fn walk(value: &serde_json::Value, path: &str, bare: &mut Vec<String>) {
        for (name, field) in value["properties"].as_object().into_iter().flatten() {
            let is_tag = value["properties"].as_object().is_some_and(|all| all.len() == 1);
            if field["description"].is_null() && !is_tag {
                bare.push(format!("{path}.{name}"));
            }
        }
    }
    let schema = schema::pipeline();
    let mut bare = Vec::new();
    walk(&schema, "", &mut bare);
    for (name, definition) in schema["definitions"].as_object().expect("definitions") {
        walk(definition, name, &mut bare);
    }
    assert!(bare.is_empty(), "{bare:?} have no documentation");
}

#[test]
fn left_out_and_empty_are_the_same() {
    let empty = format!("{LEAST}description:\nstages:\nmodels:\nrun:\n  threads:\n");
    assert_eq!(spec_of(&empty, &[]), spec_of(LEAST, &[]));
}

#[test]
fn a_bare_stage_has_its_defaults() {
    for stages in ["  - decode\n", "  - decode:\n", "  - decode: {}\n"] {
        assert_eq!(spec_of(&with_stages(stages), &[]).stages, [StageSpec::Decode(DecodeConfig::default())]);
    }
}

#[test]
fn an_alias_repeats_a_value() {
    let stages =
        "  - decode: &small {frames: 8, width: 32}\n  - decode:\n      name: b\n      column: b\n      also: []\n";
    assert_eq!(spec_of(&with_stages(stages), &[]).stages.len(), 2);
    let list =
        format!("{LEAST}description: &text twice\n").replace("least", "&n least").replace("path: out", "path: *n");
    assert_eq!(spec_of(&list, &[]).output.path, "least");
}

#[test]
fn variables_take_the_type_that_is_wanted() {
    let text = "\
name: ${FOUR}
sources: [{path: 'a/${NOBODY:-${FOUR}}/$${x}', kind: \"${NOBODY:-real}\"}]
output:
  path: out-${EMPTY:-none}$
run:
  threads: ${FOUR}
  memory_limit: ${NOBODY:-2GiB}
  max_failures: ${NOBODY:-0.5}
  clips_per_unit: ${NOBODY:-}
";
    let spec = spec_of(text, &[]);
    assert_eq!(spec.name, "4");
    assert_eq!(spec.sources[0].path.as_deref(), Some("a/4/${x}"));
    assert_eq!(spec.output.path, "out-none$");
    assert_eq!(spec.run.threads, Some(4));
    assert_eq!(spec.run.memory_limit, Some(bytesize::ByteSize::gib(2)));
    assert_eq!(spec.run.max_failures, Some(MaxFailures::Share(0.5)));
    assert_eq!(spec.run.clips_per_unit, RunSpec::default().clips_per_unit);
}

#[test]
fn options_change_what_the_file_says() {
    let text = with_stages("  - decode\n  - filter: {name: wide, keep: width > 1}\n");
    let sets = [
        "stages.decode.fps=4",
        "stages.decode.also=[{column: b, width: 8}]",
        "stages.decode.also.0.width=16",
        "stages[1].keep=width > 2 and height = 3",
        "stages.filter.filter.name=wider",
        "name=2024",
        "run.threads=2",
        "models.providers=[cpu]",
        "sources.0.path=b/c=d.mp4",
        "description=",
    ];
    let spec = spec_of(&text, &sets);
    let StageSpec::Decode(decode) = &spec.stages[0] else { panic!("{:?}", spec.stages) };
    assert_eq!((decode.fps, decode.also[0].width), (Some(4.0), Some(16)));
    let StageSpec::Filter(filter) = &spec.stages[1] else { panic!("{:?}", spec.stages) };
    assert_eq!((filter.keep.as_str(), filter.name.as_str()), ("width > 2 and height = 3", "wider"));
    assert_eq!((spec.name.as_str(), spec.run.threads), ("2024", Some(2)));
    assert_eq!(spec.models.providers, [Provider::Cpu]);
    assert_eq!(spec.sources[0].path.as_deref(), Some("b/c=d.mp4"));
    assert_eq!(spec.description, None);
}

#[test]
fn the_nearest_name_is_found() {
    let fields = ["name", "frames", "fps", "width", "height", "filter", "fit"];
    for (word, nearest) in [("fsp", Some("fps")), ("widht", Some("width")), ("frame", Some("frames")), ("colour", None)]
    {
        assert_eq!(suggest::nearest(word, fields), nearest, "{word}");
    }
    assert_eq!(suggest::nearest("x", ["y"]), None);
}

#[test]
fn numbers_are_those_of_yaml() {
    let threads = |text: &str| read(LEAST, &[&format!("run.threads={text}")]).map(|loaded| loaded.spec.run.threads);
    assert_eq!(threads("0x10").expect("hexadecimal"), Some(16));
    assert_eq!(threads("+8").expect("a sign"), Some(8));
    for wrong in ["1_000", "08x", "1e", "--1", ".inf", "yes", "-"] {
        assert!(threads(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn sizes_are_written_exactly() {
    for (bytes, text) in [(3_000_000_000, "3GB"), (4 << 30, "4GiB"), (1536 << 20, "1536MiB"), (7, "7B"), (0, "0B")] {
        let size = bytesize::ByteSize(bytes);
        assert_eq!(bytes::exact(size), text);
        assert_eq!(text.parse::<bytesize::ByteSize>(), Ok(size));
    }
    assert_eq!(spec_of(LEAST, &["output.max_bytes=1048576"]).output.max_bytes.as_u64(), 1 << 20);
    assert!(read(LEAST, &["output.max_bytes=0"]).is_err());
}

#[test]
fn the_fingerprint_is_of_what_comes_out() {
    let text = with_stages(
        "  - decode: {frames: 8}\n  - model: {model: a.onnx, inputs: [{tensor: x, column: frames}], outputs: [{tensor: y, column: y}]}\n",
    );
    let files = |hash: &str| vec![("a.onnx".to_owned(), hash.to_owned()), ("b".to_owned(), "2".to_owned())];
    let print =
        |sets: &[&str], files: Vec<(String, String)>| fingerprint(&spec_of(&text, sets), files).expect("a hash");
    let base = print(&[], files("1"));
    for same in [
        "run.threads=1",
        "run.memory_limit=1GiB",
        "run.max_failures=3",
        "models.providers=[cpu]",
        "models.device=1",
        "output.path=elsewhere",
        "description=other",
        "sources.0.path=elsewhere",
        "stages.model.batch=2",
        "stages.decode.filter=area",
        "output.max_bytes=3000000000",
    ] {
        assert_eq!(print(&[same], files("1")), base, "{same}");
    }
    for other in [
        "name=other",
        "stages.decode.frames=4",
        "stages.decode.name=other",
        "stages.model.outputs.0.reduce=max",
        "output.payload=[frames]",
        "output.frames=[frames]",
        "output.cut=copy",
        "output.max_samples=3",
        "output.max_bytes=1GB",
        "run.clips_per_unit=3",
    ] {
        let changes = other != "output.frames=[frames]";
        assert_eq!(print(&[other], files("1")) != base, changes, "{other}");
    }
    assert_ne!(print(&[], files("3")), base);
    assert_eq!(print(&[], files("1").into_iter().rev().collect()), base);
}

prop_compose! {
    fn a_decode()(
        name in proptest::option::of("[a-z_-]{1,8}"),
        frames in proptest::option::of(1_u32..1000),
        // Up to 15 digits, as people write them: serde_json is a bit off beyond without its `float_roundtrip`.
        fps in proptest::option::of((1_u32..1_000_000).prop_map(|n| f64::from(n) / 1000.0)),
        width in proptest::option::of(1_u32..16_384),
        max_pixels in 1_u64..=u64::MAX,
        timeout_s in (1_u32..u32::MAX).prop_map(|n| f64::from(n) / 1000.0),
        seed in 0_u64..=u64::MAX,
        t in proptest::collection::vec(0.001_f32..0.999, 1..4),
    ) -> Vec<StageSpec> {
        let mut decode = DecodeConfig { name, frames, fps, width, max_pixels, timeout_s, ..DecodeConfig::default() };
        decode.column = "frames".into();
        let score = serde_json::json!({ "score": {
            "name": "a-score", "models": { "a b: c": "x", "d": "#y" }, "seed": seed,
            "scores": { "s": { "base": "a b: c", "reference": "d", "t": t } },
        }});
        vec![StageSpec::Decode(decode), serde_json::from_value(score).expect("a score")]
    }
}

prop_compose! {
    fn a_spec()(
        name in "[A-Za-z0-9_-]{1,12}",
        // Anything that people may write, what YAML takes for something else included.
        text in r#"[ -~äß✓\n\t]{0,24}|[0-9.e+-]{1,6}|true|null|~|0x1f|\$\{x|- a|a: b|'|"#,
        path in "[ -~]{0,12}[a-z]",
        bytes in 1_u64..=u64::MAX,
        memory in (64_u64 << 20)..=u64::MAX,
        failures in prop_oneof![any::<u64>().prop_map(MaxFailures::Count), (0_u32..=1000).prop_map(|n| MaxFailures::Share(f64::from(n) / 1000.0))],
        stages in a_decode(),
        threads in proptest::option::of(1_usize..=1024),
    ) -> PipelineSpec {
        let mut spec = spec_of(LEAST, &[]);
        spec.name = name;
        spec.description = Some(text);
        spec.sources[0].path = Some(path);
        spec.output.max_bytes = bytesize::ByteSize(bytes);
        spec.run.memory_limit = Some(bytesize::ByteSize(memory));
        spec.run.max_failures = Some(failures);
        spec.run.threads = threads;
        spec.stages = stages;
        spec
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_spec_survives_yaml_and_json(spec in a_spec()) {
        let json = serde_json::to_string(&spec).expect("JSON");
        prop_assert_eq!(&serde_json::from_str::<PipelineSpec>(&json).expect("a spec"), &spec);
        // `${` is the one thing that YAML text means differently here.
        let escaped = json.replace("${", "$${");
        prop_assert_eq!(&spec_of(&escaped, &[]), &spec);
        let yaml = serde_saphyr::to_string(&spec).expect("YAML").replace("${", "$${");
        prop_assert_eq!(&spec_of(&yaml, &[]), &spec);
    }

    #[test]
    fn no_text_is_a_panic(text in "[a-z:${}\\[\\]&*#'\"|>!%@, \n\t-]{0,80}", set in "[a-z.=\\[\\]0-9{}$]{0,20}") {
        let _ = read(&text, &[&set]);
        let _ = read(&with_stages(&format!("  - {text}")), &[&set]);
        let _ = read(LEAST, &[&set]);
    }
}
