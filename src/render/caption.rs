//! Captions that are put together from the phrases of a scene's elements.
//!
//! `rendered, a red metal cube spinning in a forest, the camera dollies in`: each part says one thing and can be left
//! out, as the captions of a reference model leave out the aspect that is wanted of the other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::elements::{CameraMove, ObjectMotion, PhysicsKind};
use super::scene::{Camera, CaptionParts, Object, Person, Physics};

/// A part of a caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaptionPart {
    /// The subject.
    Object,
    /// What it does.
    Action,
    /// Where it is.
    Background,
    /// What the camera does.
    Camera,
    /// The special tags, such as `rendered`.
    Tags,
}

/// The caption of these parts without those left out; empty where nothing is left.
pub fn compose(parts: &CaptionParts, leave_out: &[CaptionPart]) -> String {
    let CaptionParts { object, action, background, camera, tags } = parts;
    let wanted =
        |part: CaptionPart, text: &str| if leave_out.contains(&part) { String::new() } else { text.to_owned() };
    let join = |texts: &[String], between: &str| {
        texts.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join(between)
    };
    let sentence = join(
        &[
            wanted(CaptionPart::Object, object),
            wanted(CaptionPart::Action, action),
            wanted(CaptionPart::Background, background),
        ],
        " ",
    );
    join(&[wanted(CaptionPart::Tags, &tags.join(", ")), sentence, wanted(CaptionPart::Camera, camera)], ", ")
}

/// What captions call the subject.
pub(super) fn subject(person: Option<&Person>, objects: &[Object], physics: Option<&Physics>) -> String {
    if let Some(person) = person {
        return person.phrase.clone();
    }
    let phrases: Vec<String> = objects.iter().map(|object| with_article(&object.phrase)).collect();
    match (physics.map(|physics| physics.kind), phrases.is_empty()) {
        (Some(PhysicsKind::Flag), _) => "a flag on a pole".to_owned(),
        (Some(PhysicsKind::Curtain), _) => "a curtain".to_owned(),
        (Some(PhysicsKind::Liquid), true) => "a liquid".to_owned(),
        (Some(PhysicsKind::Smoke), true) => "smoke".to_owned(),
        _ => listed(&phrases),
    }
}

/// What captions say that happens.
pub(super) fn action(person: Option<&Person>, objects: &[Object], physics: Option<&Physics>) -> String {
    if let Some(person) = person {
        return person.motion.clip.phrase().to_owned();
    }
    if let Some(physics) = physics {
        return match physics.kind {
            PhysicsKind::Fall | PhysicsKind::Collision | PhysicsKind::Stack | PhysicsKind::Ramp => {
                physics.kind.phrase()
            }
            PhysicsKind::ClothDrop => "with a cloth falling over it",
            PhysicsKind::Flag => "waving in the wind",
            PhysicsKind::Curtain => "swaying",
            PhysicsKind::Liquid => "being poured",
            PhysicsKind::Smoke => "rising",
        }
        .to_owned();
    }
    let motions: Vec<ObjectMotion> = objects.iter().map(|object| object.motion.kind).collect();
    match motions.as_slice() {
        [] => String::new(),
        [first, rest @ ..] if rest.iter().all(|motion| motion == first) => first.phrase().to_owned(),
        several => {
            let each: Vec<String> = several.iter().map(|motion| motion.phrase().to_owned()).collect();
            format!("that are {}", listed(&each))
        }
    }
}

/// What captions say of the camera.
pub(super) fn camera(camera: &Camera) -> String {
    let forward = camera.direction > 0;
    let way = match (camera.movement, forward) {
        (CameraMove::Truck, true) => "the camera trucks to the right",
        (CameraMove::Truck, false) => "the camera trucks to the left",
        (CameraMove::Dolly, true) => "the camera dollies in",
        (CameraMove::Dolly, false) => "the camera dollies out",
        (CameraMove::Pedestal, true) => "the camera moves up",
        (CameraMove::Pedestal, false) => "the camera moves down",
        (CameraMove::Tilt, true) => "the camera tilts up",
        (CameraMove::Tilt, false) => "the camera tilts down",
        (CameraMove::Pan, true) => "the camera pans to the right",
        (CameraMove::Pan, false) => "the camera pans to the left",
        (CameraMove::Zoom, true) => "the camera zooms in",
        (CameraMove::Zoom, false) => "the camera zooms out",
        (other, _) => other.phrase(),
    };
    way.to_owned()
}

/// `a cube`, `an orange cube`.
pub(super) fn with_article(phrase: &str) -> String {
    let vowel = phrase.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {phrase}", if vowel { "an" } else { "a" })
}

fn listed(phrases: &[String]) -> String {
    match phrases {
        [] => String::new(),
        [only] => only.clone(),
        [several @ .., last] => format!("{} and {last}", several.join(", ")),
    }
}
