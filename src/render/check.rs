//! What has to hold in a file of scenes beyond the types of its fields, without any I/O.

use std::collections::BTreeSet;

use serde_json::Value;

use super::distribution::{Choice, Number};
use super::draw::group_name;
use super::elements::{Family, PhysicsKind, Shape};
use super::spec::{SceneGroup, ScenesSpec};
use crate::spec::{Document, Found, Mistake, is_name};

impl Document for ScenesSpec {
    const NAME: &'static str = "a file of scenes";
    const MINIMUM: &'static str =
        "a file of scenes has at least `name`, `scenes` and `output`; see data/scenes/tour.yaml";

    fn schema() -> Value {
        crate::spec::schema::scenes()
    }

    fn check(&self) -> Vec<Mistake> {
        let mut found = Found(Vec::new());
        if !is_name(&self.name) {
            found.add("name", format!("`{}` is no name for a collection", self.name), "letters, digits, `-` and `_`");
        }
        for (side, pixels) in [("width", self.render.width), ("height", self.render.height)] {
            if pixels % 2 != 0 {
                found.add(
                    format!("render.{side}"),
                    format!("{pixels} is odd; H.264 takes even sides"),
                    "one pixel more",
                );
            }
        }
        let mut names = BTreeSet::new();
        for (index, group) in self.scenes.iter().enumerate() {
            let at = format!("scenes[{index}]");
            if !names.insert(group_name(group)) {
                let message =
                    format!("two groups are called `{}`, so they would draw the same scenes", group_name(group));
                found.add(at.clone(), message, "give one of them another `name`");
            }
            check_group(group, &at, &mut found);
        }
        found.0
    }
}

/// Checks of distributions.
trait Distributions {
    /// A number has to stay between `least` and `most`.
    fn number(&mut self, at: &str, field: &str, number: Option<&Number>, least: f64, most: f64);
    /// A choice needs something to choose from.
    fn choice<T: Ord + Clone>(&mut self, at: &str, field: &str, choice: Option<&Choice<T>>);
}

impl Distributions for Found {
    fn number(&mut self, at: &str, field: &str, number: Option<&Number>, least: f64, most: f64) {
        if let Some(problem) = number.and_then(|number| number.problem(least, most)) {
            self.add(format!("{at}.{field}"), format!("`{field}` {problem}"), "");
        }
    }

    fn choice<T: Ord + Clone>(&mut self, at: &str, field: &str, choice: Option<&Choice<T>>) {
        if let Some(problem) = choice.and_then(Choice::problem) {
            self.add(format!("{at}.{field}"), format!("`{field}` {problem}"), "");
        }
    }
}

fn check_group(group: &SceneGroup, at: &str, found: &mut Found) {
    const ANY: f64 = 1e6;
    let SceneGroup { objects, person, environment, lights, camera, physics, defects, .. } = group;
    let inner = |name: &str| format!("{at}.{name}");

    let place = inner("objects");
    found.number(&place, "count", objects.count.as_ref(), 0.0, 200.0);
    found.number(&place, "size", objects.size.as_ref(), 0.01, 100.0);
    found.number(&place, "roughness", objects.roughness.as_ref(), 0.0, 1.0);
    found.number(&place, "bevel", objects.bevel.as_ref(), 0.0, 0.3);
    found.number(&place, "turns", objects.turns.as_ref(), 0.0, 100.0);
    found.choice(&place, "shapes", objects.shapes.as_ref());
    found.choice(&place, "colors", objects.colors.as_ref());
    found.choice(&place, "materials", objects.materials.as_ref());
    found.choice(&place, "modifiers", objects.modifiers.as_ref());
    found.choice(&place, "motions", objects.motions.as_ref());
    let wants_files =
        objects.shapes.as_ref().is_some_and(|shapes| shapes.weights().iter().any(|(shape, _)| *shape == Shape::File));
    if wants_files && objects.files.is_empty() {
        found.add(format!("{place}.shapes"), "the shape `file` needs models", "list them under `files`");
    }

    let place = inner("person");
    for (field, number, least, most) in [
        ("speed", &person.speed, 0.1, 5.0),
        ("gender", &person.gender, 0.0, 1.0),
        ("age", &person.age, 0.0, 1.0),
        ("weight", &person.weight, 0.0, 1.0),
        ("muscle", &person.muscle, 0.0, 1.0),
        ("height", &person.height, 0.0, 1.0),
    ] {
        found.number(&place, field, number.as_ref(), least, most);
    }
    found.choice(&place, "motions", person.motions.as_ref());
    found.choice(&place, "colors", person.colors.as_ref());

    let place = inner("environment");
    found.choice(&place, "kinds", environment.kinds.as_ref());
    found.choice(&place, "panoramas", environment.panoramas.as_ref());
    found.choice(&place, "colors", environment.colors.as_ref());
    found.number(&place, "strength", environment.strength.as_ref(), 0.0, 100.0);

    let place = inner("lights");
    found.number(&place, "count", lights.count.as_ref(), 0.0, 16.0);
    for (axis, number) in lights.position.iter().flatten().enumerate() {
        found.number(&place, &format!("position[{axis}]"), Some(number), -1000.0, 1000.0);
    }
    found.number(&place, "temperature_k", lights.temperature_k.as_ref(), 1000.0, 20_000.0);
    found.number(&place, "intensity", lights.intensity.as_ref(), 0.0, 100.0);
    found.number(&place, "size", lights.size.as_ref(), 0.0, 50.0);

    let place = inner("camera");
    found.choice(&place, "moves", camera.moves.as_ref());
    found.choice(&place, "focus", camera.focus.as_ref());
    found.number(&place, "extent", camera.extent.as_ref(), 0.0, 1.0);
    found.number(&place, "azimuth_deg", camera.azimuth_deg.as_ref(), -ANY, ANY);
    found.number(&place, "elevation_deg", camera.elevation_deg.as_ref(), 0.0, 85.0);
    found.number(&place, "focal_mm", camera.focal_mm.as_ref(), 8.0, 400.0);
    found.number(&place, "focal_share", camera.focal_share.as_ref(), 0.05, 2.0);

    let place = inner("physics");
    found.number(&place, "gravity", physics.gravity.as_ref(), 0.0, 100.0);
    found.number(&place, "friction", physics.friction.as_ref(), 0.0, 1.0);
    found.number(&place, "bounce", physics.bounce.as_ref(), 0.0, 1.0);
    found.number(&place, "speed", physics.speed.as_ref(), 0.0, 50.0);
    found.number(&place, "stiffness", physics.stiffness.as_ref(), 0.0, 1.0);
    found.choice(&place, "kinds", physics.kinds.as_ref());
    check_physics(group, &place, found);

    if let Some(defects) = defects {
        let place = inner("defects");
        found.choice(&place, "kinds", defects.kinds.as_ref());
        found.number(&place, "strength", defects.strength.as_ref(), 0.0, 1.0);
    }
}

fn check_physics(group: &SceneGroup, place: &str, found: &mut Found) {
    let Some(kinds) = &group.physics.kinds else { return };
    let foreign = kinds.weights().into_iter().find(|(kind, _)| kind.family() != group.family);
    if let Some((kind, _)) = foreign {
        let known: Vec<String> = PhysicsKind::ALL
            .iter()
            .filter(|kind| kind.family() == group.family)
            .map(|kind| format!("`{}`", kind.name()))
            .collect();
        let help = if known.is_empty() {
            "this family has no physics".to_owned()
        } else {
            format!("it is one of {}", known.join(", "))
        };
        let family = group.family.name();
        found.add(format!("{place}.kinds"), format!("`{}` is no physics of family `{family}`", kind.name()), help);
    }
    if matches!(group.family, Family::Rigid) && group.objects.count == Some(Number::Constant(0.0)) {
        found.add(format!("{place}.kinds"), "rigid bodies need at least one object", "raise `objects.count`");
    }
}
