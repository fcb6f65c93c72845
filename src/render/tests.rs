use std::collections::HashSet;

use super::caption::{CaptionPart, compose};
use super::distribution::{Choice, Draws, Number};
use super::elements::{Color, DefectKind, Family};
use super::scene::Scene;
use super::spec::ScenesSpec;
use super::{blender, draw};
use crate::spec::{Diagnostics, Loaded, parse};

const ALL: &str = "
name: all
seed: 5
scenes:
  - {family: objects, count: 20}
  - {family: human, count: 20}
  - {family: layers, count: 20}
  - {family: rigid, count: 20}
  - {family: cloth, count: 20}
  - {family: fluid, count: 20}
output: {path: out}
";

fn load(text: &str) -> Result<Loaded<ScenesSpec>, Diagnostics> {
    parse(std::path::Path::new("scenes.yaml"), text.to_owned(), &[], &|_| None)
}

fn scenes(text: &str) -> Vec<Scene> {
    draw::scenes(&load(text).unwrap().spec).collect()
}

#[test]
fn a_seed_gives_the_same_scenes_everywhere() {
    // Drawn once and written down: another machine, compiler or version has to come to the same.
    let ids: Vec<String> = scenes(ALL).into_iter().map(|scene| scene.id).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 120);
    insta::assert_json_snapshot!("scenes_of_seed_5", [&ids[0], &ids[20], &ids[40], &ids[60], &ids[80], &ids[100]]);
    insta::assert_json_snapshot!("first_scene_of_seed_5", scenes(ALL)[0]);
}

#[test]
fn elements_are_drawn_by_themselves() {
    let plain = scenes(ALL);
    let moved =
        scenes(&ALL.replace("{family: rigid, count: 20}", "{family: rigid, count: 20, camera: {moves: static}}"));
    for (plain, moved) in plain.iter().zip(&moved) {
        assert_eq!(plain.objects, moved.objects);
        assert_eq!(plain.environment, moved.environment);
        assert_eq!(plain.id == moved.id, plain.camera == moved.camera);
    }
    let more = scenes(&ALL.replace("{family: objects, count: 20}", "{family: objects, count: 30}"));
    assert_eq!(plain[..20], more[..20]);
    assert_eq!(plain[20..], more[30..]);
}

#[test]
fn pairs_share_everything_but_the_defect() {
    let text = ALL.replace(
        "{family: objects, count: 20}",
        "{family: objects, count: 2, defects: {kinds: [noise, popping, wrong_gravity]}}",
    );
    let scenes = scenes(&text);
    let (clean, noisy) = (&scenes[0], &scenes[1]);
    assert_eq!(
        scenes[..4].iter().map(Scene::defect).collect::<Vec<_>>(),
        [None, Some("noise".to_owned()), Some("popping".to_owned()), Some("wrong_gravity".to_owned())]
    );
    assert_eq!(clean.id, clean.scene_id);
    assert_eq!(clean.scene_id, noisy.scene_id);
    assert_ne!(clean.id, noisy.id);
    let without = Scene { defects: Vec::new(), ..noisy.clone() };
    assert_eq!(without.identified(), *clean);
    assert_ne!(scenes[4].scene_id, clean.scene_id);
}

#[test]
fn defects_that_a_family_cannot_show_are_left_out() {
    let text = ALL.replace("{family: fluid, count: 20}", "{family: fluid, count: 5, defects: {mode: one}}");
    let shown: HashSet<DefectKind> =
        scenes(&text).iter().flat_map(|scene| scene.defects.iter().map(|defect| defect.kind)).collect();
    assert!(!shown.is_empty());
    assert!(shown.iter().all(|kind| kind.applies(Family::Fluid, false)), "{shown:?}");
}

#[test]
fn captions_are_put_together_and_leave_out_what_they_are_told_to() {
    let scene = &scenes(ALL)[20];
    let all = compose(&scene.caption, &[]);
    assert!(all.starts_with("rendered, a ") && all.contains(&scene.caption.action), "{all}");
    let without = compose(&scene.caption, &[CaptionPart::Action, CaptionPart::Tags]);
    assert!(!without.contains(&scene.caption.action) && !without.contains("rendered"), "{without}");
    let everything =
        [CaptionPart::Object, CaptionPart::Action, CaptionPart::Background, CaptionPart::Camera, CaptionPart::Tags];
    assert_eq!(compose(&scene.caption, &everything), "");
}

#[test]
fn draws_stay_in_their_ranges_and_follow_their_weights() {
    let mut draws = Draws::new(1, 2, "test");
    let choice = Choice::Weighted([(Color::Red, 3.0), (Color::Blue, 1.0), (Color::Black, 0.0)].into_iter().collect());
    let red = (0..4000).filter(|_| draws.choice(&choice) == Color::Red).count();
    assert!((2800..3200).contains(&red), "{red}");
    let range = Number::range(-2.0, 3.0);
    assert!((0..1000).map(|_| draws.number(&range)).all(|number| (-2.0..=3.0).contains(&number)));
    let counts: HashSet<usize> = (0..200).map(|_| draws.count(&Number::range(1.0, 3.0))).collect();
    assert_eq!(counts, HashSet::from([1, 2, 3]));
}

#[test]
fn mistakes_in_scenes_get_places_and_suggestions() {
    let wrong = "
name: a b
scenes:
  - {family: objcts, count: 2}
  - {family: rigid, count: 2, physics: {kinds: flag}, camera: {focal_share: {min: 3, max: 1}}}
  - {family: rigid, count: 2, lights: {count: many}}
render: {width: 33}
output: {path: out}
";
    let text = load(wrong).unwrap_err().to_string();
    insta::assert_snapshot!(text);
    let structural = wrong.replace("objcts", "objects").replace(", lights: {count: many}", "");
    insta::assert_snapshot!("structure", load(&structural).unwrap_err().to_string());
}

#[test]
fn every_script_travels_with_the_program() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/render/blender");
    let names: HashSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".py"))
        .collect();
    assert_eq!(names, blender::SCRIPTS.iter().map(|(name, _)| (*name).to_owned()).collect());
}
