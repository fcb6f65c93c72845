//! The configuration of one scene: everything is drawn, nothing is left to chance.
//!
//! It is what Blender's side reads, and what is kept beside every clip. Metres, Z up, degrees, seconds, frames from 0,
//! colours sRGB from 0 to 1.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::elements::{
    CameraMove, DefectKind, EnvironmentKind, Family, Focus, MaterialKind, Modifier, MotionClip, ObjectMotion,
    PhysicsKind, Shape,
};
use super::spec::{Engine, TruthKind};

/// Version of the format.
pub const VERSION: u32 = 1;

/// One scene, and so one clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scene {
    /// Version of this format.
    pub version: u32,
    /// Hash of everything below: the clip's name.
    pub id: String,
    /// Hash of the scene without its defects: what the clean clip and the defective ones have in common.
    pub scene_id: String,
    /// Collection, the name in the YAML.
    pub collection: String,
    /// Group of the YAML.
    pub group: String,
    /// Family.
    pub family: Family,
    /// Number of the scene in its file, from 0.
    pub number: u64,
    /// Seed of what Blender varies by itself.
    pub seed: u64,
    /// How it is rendered.
    pub render: Render,
    /// What surrounds the subject.
    pub environment: Environment,
    /// The lamps.
    pub lights: Vec<Light>,
    /// The objects.
    pub objects: Vec<Object>,
    /// The person.
    pub person: Option<Person>,
    /// The camera.
    pub camera: Camera,
    /// What physics moves.
    pub physics: Option<Physics>,
    /// Deliberate faults; none in a clean clip.
    pub defects: Vec<Defect>,
    /// Ground truth that takes space.
    pub truth: Vec<TruthKind>,
    /// What each element is called.
    pub caption: CaptionParts,
}

/// How a scene is rendered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Render {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames.
    pub frames: u32,
    /// Frames a second.
    pub fps: u32,
    /// Blender's engine.
    pub engine: Engine,
    /// Samples a pixel.
    pub samples: u32,
    /// Whether noise is removed.
    pub denoise: bool,
    /// Bounces of light.
    pub bounces: u32,
}

/// What surrounds the subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Panorama, room or nothing.
    pub kind: EnvironmentKind,
    /// Name of the panorama, or the path of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Degrees that the panorama is turned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_deg: Option<f64>,
    /// Brightness of the panorama.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Floor in front of a panorama.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground: Option<Material>,
    /// Colour of a room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<[f64; 3]>,
}

/// A lamp, aimed at the subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Light {
    /// `area`, `point` or `sun`.
    pub kind: String,
    /// Position in metres.
    pub position: [f64; 3],
    /// Colour temperature in kelvin.
    pub temperature_k: f64,
    /// Brightness; 1 lights the subject well.
    pub intensity: f64,
    /// Size in metres.
    pub size: f64,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// Name in the ground truth.
    pub id: String,
    /// Shape.
    pub shape: Shape,
    /// Model of your own, for the shape `file`.
    pub file: Option<String>,
    /// Longest side in metres.
    pub size: f64,
    /// How far edges are rounded, as a share of the size.
    pub bevel: f64,
    /// What is done to the shape.
    pub modifier: Modifier,
    /// How much of it, 0 to 1.
    pub modifier_strength: f64,
    /// Place on the floor in metres, and how far above its resting place.
    pub position: [f64; 3],
    /// Rotation around x, y and z in degrees.
    pub rotation_deg: [f64; 3],
    /// Surface; none where a model brings its own.
    pub material: Option<Material>,
    /// How it moves where no physics does.
    pub motion: Motion,
    /// What captions call it.
    pub phrase: String,
}

/// A surface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Material {
    /// Kind.
    pub kind: MaterialKind,
    /// Colour.
    pub color: [f64; 3],
    /// Second colour, of patterns.
    pub color2: [f64; 3],
    /// Roughness, 0 to 1.
    pub roughness: f64,
    /// Size of the pattern, 1 is usual.
    pub scale: f64,
}

/// How an object moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Motion {
    /// Kind.
    pub kind: ObjectMotion,
    /// Turns in the clip.
    pub turns: f64,
    /// Axis of a spin: `x`, `y` or `z`.
    pub axis: String,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Person {
    /// Name in the ground truth.
    pub id: String,
    /// Shape of the body.
    pub body: Body,
    /// Colour of the skin.
    pub skin: [f64; 3],
    /// Shirt.
    pub top: Top,
    /// Trousers.
    pub bottom: Bottom,
    /// Shoes.
    pub shoes: Shoes,
    /// Hair.
    pub hair: Hair,
    /// What the person does.
    pub motion: PersonMotion,
    /// Place on the floor in metres at the start.
    pub position: [f64; 2],
    /// What captions call the person.
    pub phrase: String,
}

/// Shape of a body, each from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Body {
    /// 0 a woman, 1 a man.
    pub gender: f64,
    /// 0.5 grown up, 1 old.
    pub age: f64,
    /// Muscles.
    pub muscle: f64,
    /// Weight.
    pub weight: f64,
    /// Height.
    pub height: f64,
    /// How close to the ideal of proportions.
    pub proportions: f64,
}

/// A shirt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Top {
    /// Colour.
    pub color: [f64; 3],
    /// `short` or `long`.
    pub sleeve: String,
}

/// What is worn below.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bottom {
    /// Colour.
    pub color: [f64; 3],
    /// `trousers` or `shorts`.
    pub kind: String,
}

/// Shoes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shoes {
    /// Colour.
    pub color: [f64; 3],
}

/// Hair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hair {
    /// `short`, `long` or `none`.
    pub kind: String,
    /// Colour.
    pub color: [f64; 3],
}

/// What a person does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PersonMotion {
    /// Motion capture.
    pub clip: MotionClip,
    /// Seconds into it at which the clip starts.
    pub start_s: f64,
    /// How fast, 1 as recorded.
    pub speed: f64,
    /// Degrees that the direction is turned.
    pub heading_deg: f64,
    /// Left and right exchanged.
    pub mirror: bool,
}

/// The camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Camera {
    /// Movement; keyed `move`.
    #[serde(rename = "move")]
    pub movement: CameraMove,
    /// 1 or -1: left or right, in or out, up or down.
    pub direction: i32,
    /// How far, 0 to 1.
    pub extent: f64,
    /// What it holds.
    pub focus: Focus,
    /// Where it starts around the subject.
    pub azimuth_deg: f64,
    /// Where it starts above the horizon.
    pub elevation_deg: f64,
    /// Focal length on a sensor of 36 mm.
    pub focal_mm: f64,
    /// Share of the picture's shorter side that the subject fills at the start.
    pub focal_share: f64,
}

/// What physics moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Physics {
    /// What happens.
    pub kind: PhysicsKind,
    /// Gravity in m/s².
    pub gravity: f64,
    /// Friction, 0 to 1.
    pub friction: f64,
    /// How much bodies bounce, 0 to 1.
    pub bounce: f64,
    /// Speed in m/s.
    pub speed: f64,
    /// Stiffness of cloth, 0 to 1.
    pub stiffness: f64,
}

/// A deliberate fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Defect {
    /// Kind.
    pub kind: DefectKind,
    /// How strong, 0 to 1.
    pub strength: f64,
    /// Seed of where and when.
    pub seed: u64,
}

/// What each element of a scene is called; see [`super::caption`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaptionParts {
    /// The subject: `a red metal cube and a blue rubber ball`.
    pub object: String,
    /// What it does: `spinning`.
    pub action: String,
    /// Where: `in a forest`.
    pub background: String,
    /// The camera: `the camera dollies in`.
    pub camera: String,
    /// Special tags: `rendered`.
    pub tags: Vec<String>,
}

impl Scene {
    /// The scene with its ids: hashes of what it says.
    pub fn identified(mut self) -> Self {
        let defects = std::mem::take(&mut self.defects);
        self.scene_id = self.hash();
        self.defects = defects;
        self.id = self.hash();
        self
    }

    /// Hash of the configuration but for its ids.
    fn hash(&self) -> String {
        let plain = Self { id: String::new(), scene_id: String::new(), ..self.clone() };
        let json = serde_json::to_vec(&plain).unwrap_or_default();
        blake3::hash(&json).to_hex()[..32].to_owned()
    }

    /// The kinds of its defects, joined; none of a clean clip.
    pub fn defect(&self) -> Option<String> {
        (!self.defects.is_empty())
            .then(|| self.defects.iter().map(|defect| defect.kind.name()).collect::<Vec<_>>().join("+"))
    }
}
