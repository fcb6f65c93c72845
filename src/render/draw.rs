//! From distributions to scenes.
//!
//! Enters: a [`ScenesSpec`]. Leaves: [`Scene`]s in order. Every element is drawn by itself ([`Draws`]), so a change of
//! the camera's distribution changes no object.

mod objects;
mod people;

use super::caption;
use super::distribution::{Choice, Draws, Number, rounded};
use super::elements::{CameraMove, Color, DefectKind, EnvironmentKind, Family, Focus, Hdri, MaterialKind, PhysicsKind};
use super::scene::{
    Camera, CaptionParts, Defect, Environment, Light, Material, Person, Physics, Render, Scene, VERSION,
};
use super::spec::{DefectMode, SceneGroup, ScenesSpec};

/// All scenes of a file, group by group.
pub fn scenes(spec: &ScenesSpec) -> impl Iterator<Item = Scene> + '_ {
    spec.scenes.iter().flat_map(move |group| (0..group.count as u64).flat_map(move |number| clips(spec, group, number)))
}

/// Name of a group.
pub fn group_name(group: &SceneGroup) -> String {
    group.name.clone().unwrap_or_else(|| group.family.name())
}

/// Scene number `number` of a group: the clip, or the clean clip and those with a defect.
fn clips(spec: &ScenesSpec, group: &SceneGroup, number: u64) -> Vec<Scene> {
    let drawing = Drawing { seed: spec.seed, group, name: group_name(group), number };
    let clean = drawing.scene(spec);
    let defects = drawing.defects(clean.person.is_some());
    let with = |defect: Defect| Scene { defects: vec![defect], ..clean.clone() }.identified();
    let mode = group.defects.as_ref().map(|defects| defects.mode);
    let pairs = mode == Some(DefectMode::Each) && !defects.is_empty();
    let mut clips = Vec::with_capacity(defects.len() + 1);
    if pairs || defects.is_empty() {
        clips.push(clean.clone().identified());
    }
    clips.extend(defects.into_iter().map(with));
    clips
}

/// One scene while it is drawn.
struct Drawing<'a> {
    seed: u64,
    group: &'a SceneGroup,
    name: String,
    number: u64,
}

impl Drawing<'_> {
    fn draws(&self, element: &str) -> Draws {
        Draws::new(self.seed, self.number, &format!("{}/{element}", self.name))
    }

    fn scene(&self, spec: &ScenesSpec) -> Scene {
        let group = self.group;
        let person = self.shows_a_person().then(|| self.person());
        let physics = self.physics();
        let objects = match &person {
            Some(_) => Vec::new(),
            None => self.objects(physics.as_ref().map(|physics| physics.kind)),
        };
        let (environment, background) = self.environment();
        let camera = self.camera(person.as_ref());
        let lights = self.lights(&environment, camera.azimuth_deg);
        let caption = CaptionParts {
            object: caption::subject(person.as_ref(), &objects, physics.as_ref()),
            action: caption::action(person.as_ref(), &objects, physics.as_ref()),
            background,
            camera: caption::camera(&camera),
            tags: vec!["rendered".to_owned()],
        };
        let settings = &spec.render;
        let mut truth = group.truth.clone();
        truth.sort_unstable();
        truth.dedup();
        Scene {
            version: VERSION,
            id: String::new(),
            scene_id: String::new(),
            collection: spec.name.clone(),
            group: self.name.clone(),
            family: group.family,
            number: self.number,
            // What other languages read as a number without loss.
            seed: self.draws("seed").bits() >> 21,
            render: Render {
                width: settings.width,
                height: settings.height,
                frames: settings.frames,
                fps: settings.fps,
                engine: settings.engine,
                samples: settings.samples,
                denoise: settings.denoise,
                bounces: settings.bounces,
            },
            environment,
            lights,
            objects,
            person,
            camera,
            physics,
            defects: Vec::new(),
            truth,
            caption,
        }
    }

    fn shows_a_person(&self) -> bool {
        match self.group.family {
            Family::Human => true,
            Family::Layers => self.draws("subject").chance(self.group.person.share.unwrap_or(0.5)),
            _ => false,
        }
    }

    fn environment(&self) -> (Environment, String) {
        let (spec, mut draws) = (&self.group.environment, self.draws("environment"));
        let kinds = spec.kinds.clone().unwrap_or_else(|| match self.group.family {
            Family::Layers => Choice::OneOf(vec![EnvironmentKind::Room, EnvironmentKind::Empty]),
            _ => Choice::OneOf(vec![EnvironmentKind::Hdri, EnvironmentKind::Room]),
        });
        let kind = draws.choice(&kinds);
        let empty = Environment { kind, file: None, rotation_deg: None, strength: None, ground: None, color: None };
        match kind {
            EnvironmentKind::Empty => (empty, kind.phrase().to_owned()),
            EnvironmentKind::Room => {
                let color = draws.choice(&spec.colors.clone().unwrap_or_else(any_color));
                let what = if self.group.family == Family::Layers { "on a plain" } else { "in a plain" };
                let where_ = if self.group.family == Family::Layers { "background" } else { "room" };
                let phrase = format!("{what} {} {where_}", color.phrase());
                (Environment { color: Some(color.rgb().map(rounded)), ..empty }, phrase)
            }
            EnvironmentKind::Hdri => {
                let (file, phrase) = if spec.files.is_empty() {
                    let hdri =
                        draws.choice(&spec.panoramas.clone().unwrap_or_else(|| Choice::OneOf(Hdri::ALL.to_vec())));
                    (hdri.name(), hdri.phrase().to_owned())
                } else {
                    let file = draws.pick(&spec.files);
                    (file.path.clone(), file.phrase.clone())
                };
                let rotation = draws.between(0.0, 360.0);
                let strength = draws.number(&or(&spec.strength, 0.8, 1.2));
                let ground = objects::material(
                    &mut draws,
                    &Choice::OneOf(vec![
                        MaterialKind::Clay,
                        MaterialKind::Wood,
                        MaterialKind::Marble,
                        MaterialKind::Checker,
                    ]),
                    &Choice::OneOf(GROUNDS.to_vec()),
                    &Number::range(0.6, 0.9),
                );
                let ground = Material { scale: 0.5, ..ground.0 };
                let environment = Environment {
                    file: Some(file),
                    rotation_deg: Some(rotation),
                    strength: Some(strength),
                    ground: (self.group.family != Family::Layers).then_some(ground),
                    ..empty
                };
                (environment, phrase)
            }
        }
    }

    /// Two lamps that light a room from the camera's side, which is at `azimuth` degrees; none where a panorama does.
    fn lights(&self, environment: &Environment, azimuth: f64) -> Vec<Light> {
        let (spec, mut draws) = (&self.group.lights, self.draws("lights"));
        let wanted = if environment.kind == EnvironmentKind::Hdri { 0.0 } else { 2.0 };
        let count = draws.count(spec.count.as_ref().unwrap_or(&Number::Constant(wanted)));
        (0..count)
            .map(|number| {
                // The first at one side of the camera and the second at the other.
                let side = if number % 2 == 0 { 1.0 } else { -1.0 };
                let [right, back] = [side * draws.between(1.5, 3.5), draws.between(-3.5, -1.0)];
                let usual = turned(right, back, azimuth, draws.between(2.0, 4.0));
                let position = match &spec.position {
                    Some(place) => [0, 1, 2].map(|axis: usize| draws.number(&place[axis])),
                    None => usual,
                };
                Light {
                    kind: "area".to_owned(),
                    position: position.map(rounded),
                    temperature_k: draws.number(&or(&spec.temperature_k, 3200.0, 7500.0)),
                    intensity: rounded(
                        draws.number(&or(&spec.intensity, 0.6, 1.2)) / f64::from(1 + u32::from(number > 0)),
                    ),
                    size: draws.number(&or(&spec.size, 0.5, 2.0)),
                }
            })
            .collect()
    }

    fn camera(&self, person: Option<&Person>) -> Camera {
        use CameraMove::{Dolly, Following, Forward, Pan, Pedestal, Spin, Static, Tilt, Truck, Zoom};
        let (spec, mut draws) = (&self.group.camera, self.draws("camera"));
        let still =
            vec![(Static, 1.0), (Truck, 1.0), (Dolly, 1.0), (Pedestal, 1.0), (Tilt, 0.5), (Pan, 0.5), (Zoom, 1.0)];
        let moves = spec.moves.clone().unwrap_or_else(|| {
            let weights = match (self.group.family, person) {
                (Family::Human, _) | (_, Some(_)) => {
                    [still, vec![(Following, 4.0), (Forward, 3.0), (Spin, 1.0)]].concat()
                }
                (Family::Objects | Family::Layers, None) => [still, vec![(Spin, 3.0)]].concat(),
                _ => vec![(Static, 3.0), (Truck, 1.0), (Dolly, 1.0), (Pedestal, 1.0), (Spin, 1.0)],
            };
            Choice::Weighted(weights.into_iter().collect())
        });
        let focus = spec.focus.clone().unwrap_or_else(|| {
            Choice::Weighted([(Focus::Center, 6.0), (Focus::Upper, 1.0), (Focus::Lower, 1.0)].into_iter().collect())
        });
        Camera {
            movement: draws.choice(&moves),
            direction: if draws.chance(0.5) { 1 } else { -1 },
            extent: draws.number(&or(&spec.extent, 0.2, 0.6)),
            focus: draws.choice(&focus),
            azimuth_deg: draws.number(&or(&spec.azimuth_deg, 0.0, 360.0)),
            elevation_deg: draws.number(&or(&spec.elevation_deg, 4.0, 30.0)),
            focal_mm: draws.number(&or(&spec.focal_mm, 35.0, 70.0)),
            focal_share: draws.number(&or(&spec.focal_share, 0.5, 0.75)),
        }
    }

    fn physics(&self) -> Option<Physics> {
        let known: Vec<PhysicsKind> =
            PhysicsKind::ALL.iter().copied().filter(|kind| kind.family() == self.group.family).collect();
        if known.is_empty() {
            return None;
        }
        let (spec, mut draws) = (&self.group.physics, self.draws("physics"));
        Some(Physics {
            kind: draws.choice(&spec.kinds.clone().unwrap_or(Choice::OneOf(known))),
            gravity: draws.number(spec.gravity.as_ref().unwrap_or(&Number::Constant(9.81))),
            friction: draws.number(&or(&spec.friction, 0.3, 0.8)),
            bounce: draws.number(&or(&spec.bounce, 0.1, 0.6)),
            speed: draws.number(&or(&spec.speed, 1.0, 3.0)),
            stiffness: draws.number(&or(&spec.stiffness, 0.1, 0.8)),
        })
    }

    /// The defects of the scene's clips, one each.
    fn defects(&self, person: bool) -> Vec<Defect> {
        let Some(spec) = &self.group.defects else { return Vec::new() };
        let mut draws = self.draws("defects");
        if !draws.chance(spec.share) {
            return Vec::new();
        }
        let kinds = spec.kinds.clone().unwrap_or_else(|| Choice::OneOf(DefectKind::ALL.to_vec()));
        let possible: std::collections::BTreeMap<DefectKind, f64> = kinds
            .weights()
            .into_iter()
            .filter(|(kind, weight)| *weight > 0.0 && kind.applies(self.group.family, person))
            .collect();
        if possible.is_empty() {
            return Vec::new();
        }
        let chosen: Vec<DefectKind> = match spec.mode {
            DefectMode::Each => possible.into_keys().collect(),
            DefectMode::One => vec![draws.choice(&Choice::Weighted(possible))],
        };
        chosen
            .into_iter()
            .map(|kind| {
                // Of its own, so that another list of kinds changes no defect that stays.
                let mut draws = self.draws(&format!("defect {}", kind.phrase()));
                Defect { kind, strength: draws.number(&or(&spec.strength, 0.5, 1.0)), seed: draws.bits() >> 21 }
            })
            .collect()
    }
}

/// Colours of floors.
const GROUNDS: [Color; 4] = [Color::Beige, Color::Brown, Color::Gray, Color::White];

fn any_color() -> Choice<Color> {
    Choice::OneOf(Color::ALL.to_vec())
}

/// A place at `right` of the camera and `back` towards it (negative), for a camera at `azimuth` degrees around z; 0 looks
/// along y. The sine is not the system's, which differs in its last digit from machine to machine.
fn turned(right: f64, back: f64, azimuth: f64, up: f64) -> [f64; 3] {
    let (sine, cosine) = libm::sincos(azimuth.to_radians());
    [right * cosine - back * sine, right * sine + back * cosine, up]
}

/// A distribution that is given, or the usual range.
fn or(given: &Option<Number>, min: f64, max: f64) -> Number {
    given.clone().unwrap_or(Number::range(min, max))
}
