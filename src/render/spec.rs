//! The YAML of `simdrop render`: distributions of scenes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::distribution::{Choice, Number};
use super::elements::{
    CameraMove, Color, DefectKind, EnvironmentKind, Family, Focus, Hdri, MaterialKind, Modifier, MotionClip,
    ObjectMotion, PhysicsKind, Shape,
};
use crate::storage::StorageSpec;

/// A file of scenes: what is drawn, how it is rendered, and where the clips go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScenesSpec {
    /// Name of the collection. Letters, digits, `-` and `_`.
    pub name: String,
    /// One line on what the scenes are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Seed of all draws: the same seed gives the same scenes on any machine.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub seed: u64,
    /// How every clip is rendered.
    #[serde(default)]
    pub render: RenderSettings,
    /// What is drawn; at least one group.
    #[schemars(length(min = 1))]
    pub scenes: Vec<SceneGroup>,
    /// Where the clips go.
    pub output: ScenesOutput,
    /// How the renderer is run; nothing here changes what comes out.
    #[serde(default)]
    pub run: RenderRun,
    /// How object stores are reached.
    #[serde(default)]
    pub storage: StorageSpec,
}

/// How clips are rendered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RenderSettings {
    /// Width in pixels; even, as H.264 wants it.
    #[schemars(range(min = 16, max = 4096))]
    pub width: u32,
    /// Height in pixels; even, as H.264 wants it.
    #[schemars(range(min = 16, max = 4096))]
    pub height: u32,
    /// Frames of a clip.
    #[schemars(range(min = 2, max = 2000))]
    pub frames: u32,
    /// Frames a second.
    #[schemars(range(min = 1, max = 240))]
    pub fps: u32,
    /// Blender's engine.
    pub engine: Engine,
    /// Samples a pixel of a clean render.
    #[schemars(range(min = 1, max = 16384))]
    pub samples: u32,
    /// Remove the noise that few samples leave (OpenImageDenoise).
    pub denoise: bool,
    /// Most bounces of a ray of light.
    #[schemars(range(min = 0, max = 64))]
    pub bounces: u32,
}

impl Default for RenderSettings {
    fn default() -> Self {
        Self {
            width: 256,
            height: 256,
            frames: 48,
            fps: 24,
            engine: Engine::Cycles,
            samples: 32,
            denoise: true,
            bounces: 4,
        }
    }
}

/// An engine of Blender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Path tracing.
    #[default]
    Cycles,
    /// Fast shading without light, for a look at the scenes.
    Workbench,
}

/// A group of scenes of one family. What is not given follows from the family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SceneGroup {
    /// What kind of scene.
    pub family: Family,
    /// Name of the group, stored in column `scene_group`. Default: the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Scenes to draw. With `defects.mode: each`, a scene becomes several clips.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub count: usize,
    /// The objects.
    #[serde(default)]
    pub objects: ObjectsSpec,
    /// The person, in families `human` and `layers`.
    #[serde(default)]
    pub person: PersonSpec,
    /// What surrounds them.
    #[serde(default)]
    pub environment: EnvironmentSpec,
    /// The lamps.
    #[serde(default)]
    pub lights: LightsSpec,
    /// The camera.
    #[serde(default)]
    pub camera: CameraSpec,
    /// What physics moves, in families `rigid`, `cloth` and `fluid`.
    #[serde(default)]
    pub physics: PhysicsSpec,
    /// Deliberate faults; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defects: Option<DefectsSpec>,
    /// Ground truth beside the JSON that is always written.
    #[serde(default)]
    pub truth: Vec<TruthKind>,
}

/// Ground truth that takes space: an array of the clip's frames, height and width each, in a `.npy` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TruthKind {
    /// `.depth.npy`, float16: metres along the camera's axis, infinite where nothing is.
    Depth,
    /// `.instances.npy`, uint8: number of the body that is seen, 0 for what surrounds the bodies.
    Instances,
    /// `.matte.npy`, uint8: how much of a pixel the subject covers, 0 to 255.
    Matte,
}

/// Which objects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectsSpec {
    /// How many. Default: 1 to 3, or what the physics needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<Number>,
    /// Their shapes. Default: all that the family can use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shapes: Option<Choice<Shape>>,
    /// Models of your own (`.glb`, `.gltf`, `.obj`), for the shape `file`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ModelFile>,
    /// Longest side in metres. Default: 0.4 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Number>,
    /// Their colours. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colors: Option<Choice<Color>>,
    /// Their materials. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub materials: Option<Choice<MaterialKind>>,
    /// How rough their surfaces are, 0 to 1. Default: 0.1 to 0.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roughness: Option<Number>,
    /// How far edges are rounded, 0 to 0.3. Default: 0 to 0.15.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bevel: Option<Number>,
    /// What is done to their shapes. Default: nothing in half of all cases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modifiers: Option<Choice<Modifier>>,
    /// How they move, in families `objects` and `layers`. Default: spin, orbit or bob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub motions: Option<Choice<ObjectMotion>>,
    /// Turns in the clip. Default: 0.3 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<Number>,
}

/// A model of your own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// The file.
    pub path: String,
    /// What captions call it: `wooden chair`.
    pub phrase: String,
}

/// Which people.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PersonSpec {
    /// What they do. Default: everything there is, walking and running twice as often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub motions: Option<Choice<MotionClip>>,
    /// How fast, 1 as recorded. Default: 0.9 to 1.15.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Number>,
    /// 0 a woman, 1 a man. Default: 0 or 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<Number>,
    /// 0.3 a child, 0.5 grown up, 1 old. Default: 0.42 to 0.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<Number>,
    /// Weight, 0 thin to 1 heavy. Default: 0.3 to 0.75.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Number>,
    /// Muscles, 0 to 1. Default: 0.3 to 0.75.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muscle: Option<Number>,
    /// Height, 0 short to 1 tall. Default: 0.3 to 0.75.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<Number>,
    /// Colours of the clothes. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colors: Option<Choice<Color>>,
    /// Share of scenes of family `layers` that show a person and not an object. Default: 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub share: Option<f64>,
}

/// What surrounds the subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnvironmentSpec {
    /// Panorama, room or nothing. Default: panorama or room; in family `layers` room or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Choice<EnvironmentKind>>,
    /// The panoramas. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panoramas: Option<Choice<Hdri>>,
    /// Panoramas of your own (`.exr`, `.hdr`); they take the place of ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ModelFile>,
    /// Colours of a room. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colors: Option<Choice<Color>>,
    /// Brightness of a panorama, 1 as photographed. Default: 0.8 to 1.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<Number>,
}

/// The lamps of a room; a panorama lights by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LightsSpec {
    /// How many. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<Number>,
    /// Place in metres: x, y and z, each a number or a distribution; all lamps aim at the subject in the middle. Default: to
    /// both sides in front of it, 2 to 4 m up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<[Number; 3]>,
    /// Colour temperature in kelvin. Default: 3200 to 7500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_k: Option<Number>,
    /// Brightness, 1 lights the subject well. Default: 0.6 to 1.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensity: Option<Number>,
    /// Size in metres; a large lamp makes soft shadows. Default: 0.5 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Number>,
}

/// The camera: one movement a clip.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CameraSpec {
    /// How it moves. Default: any; people are followed or met from ahead in most scenes, which the paper found to matter
    /// most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moves: Option<Choice<CameraMove>>,
    /// How far, 0 to 1: of the subject's size, of 30° of a tilt or pan, of a full turn of a spin. Default: 0.2 to 0.6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extent: Option<Number>,
    /// What it holds. Default: the whole subject in most scenes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub focus: Option<Choice<Focus>>,
    /// Where it starts, degrees around the subject. Default: 0 to 360.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azimuth_deg: Option<Number>,
    /// Where it starts, degrees above the horizon. Default: 4 to 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elevation_deg: Option<Number>,
    /// Focal length in millimetres on a sensor of 36 mm. Default: 35 to 70.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub focal_mm: Option<Number>,
    /// Share of the picture's shorter side that the subject fills at the start. Default: 0.5 to 0.75.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub focal_share: Option<Number>,
}

/// What physics moves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PhysicsSpec {
    /// What happens. Default: everything that the family knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Choice<PhysicsKind>>,
    /// Gravity in m/s². Default: 9.81.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gravity: Option<Number>,
    /// Friction, 0 to 1. Default: 0.3 to 0.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub friction: Option<Number>,
    /// How much bodies bounce, 0 to 1. Default: 0.1 to 0.6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounce: Option<Number>,
    /// Speed of what is thrown, poured or blown, in m/s. Default: 1 to 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Number>,
    /// Stiffness of cloth, 0 to 1. Default: 0.1 to 0.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stiffness: Option<Number>,
}

/// Deliberate faults, always labelled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefectsSpec {
    /// Which ones. Those that a family cannot show are left out there. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Choice<DefectKind>>,
    /// How strong, 0 to 1. Default: 0.5 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<Number>,
    /// Which clips have one.
    #[serde(default)]
    pub mode: DefectMode,
    /// Share of the scenes that have any.
    #[serde(default = "all")]
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
}

fn all() -> f64 {
    1.0
}

/// Which clips have a defect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefectMode {
    /// Every scene becomes a clean clip and one with each kind, so that they can be compared.
    #[default]
    Each,
    /// Every scene becomes one clip with one kind.
    One,
}

/// Where clips and their ground truth go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScenesOutput {
    /// Folder. Clips are named by the hash of their configuration.
    pub path: String,
    /// What a clip is written as.
    #[serde(default)]
    pub format: ClipFormat,
    /// Quality of H.264: 0 loses nothing, 18 loses nothing that one sees, 51 is the worst.
    #[serde(default = "default_crf")]
    #[schemars(range(min = 0, max = 51))]
    pub crf: u8,
    /// Licence of the clips, stored with each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

fn default_crf() -> u8 {
    16
}

/// What a clip is written as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClipFormat {
    /// `<id>.mp4`, H.264 4:2:0.
    #[default]
    Mp4,
    /// `<id>/000000.png` and so on, RGB or RGBA, and an mp4 as well.
    Png,
}

/// How the renderer is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RenderRun {
    /// Blender to use: its executable, or a Python that has `bpy`. Default: what `make blender` installed, else `blender`
    /// on the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blender: Option<String>,
    /// Blender processes at once. Default: as many as there are cores and memory for, a core and 2 GiB each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<usize>,
    /// Seconds that a scene may take before its worker is replaced.
    #[schemars(range(min = 1, max = 864_000))]
    pub timeout_s: f64,
    /// Scenes after which a worker is replaced, since Blender's memory grows from scene to scene.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub recycle_after: usize,
    /// Memory at which a worker is replaced.
    #[serde(with = "crate::spec::bytes")]
    #[schemars(schema_with = "crate::spec::bytes::schema")]
    pub worker_memory: bytesize::ByteSize,
    /// The run ends when more scenes than this have failed. Default: no limit; failed scenes are recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<u64>,
}

impl Default for RenderRun {
    fn default() -> Self {
        Self {
            blender: None,
            workers: None,
            timeout_s: 900.0,
            recycle_after: 50,
            worker_memory: bytesize::ByteSize::gib(4),
            max_failures: None,
        }
    }
}
