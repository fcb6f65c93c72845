//! Ground truth of a clip: what Blender's side writes, and what lies beside the clip.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::scene::Scene;

/// Ground truth of one clip, frame by frame as it is shown: with repeated frames, jumps and all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Truth {
    /// Version of this format.
    pub version: u32,
    /// Frame of the scene that each frame of the clip shows; not 0, 1, 2 … where frames are repeated or left out.
    pub frame_of: Vec<u32>,
    /// The camera.
    pub camera: CameraTruth,
    /// Bodies by their number in `.instances.npy`.
    #[serde(default)]
    pub instances: BTreeMap<String, String>,
    /// Objects by name.
    #[serde(default)]
    pub objects: BTreeMap<String, ObjectTruth>,
    /// People by name.
    #[serde(default)]
    pub people: BTreeMap<String, PersonTruth>,
    /// Bodies that touch, where physics runs, and feet that touch the floor.
    #[serde(default)]
    pub contacts: Vec<Contact>,
    /// Frames of the clip that show each defect.
    #[serde(default)]
    pub defect_frames: BTreeMap<String, Vec<u32>>,
    /// Version of Blender.
    pub blender: String,
}

/// A pinhole camera without distortion, frame by frame. Axes as in OpenCV: x right, y down, z forward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CameraTruth {
    /// 3×3 matrices, row by row, in pixels; the centre of the first pixel is at (0.5, 0.5).
    pub intrinsics: Vec<Vec<f64>>,
    /// 4×4 matrices, row by row: from the world (metres, Z up) to the camera.
    pub world_to_camera: Vec<Vec<f64>>,
}

/// An object, frame by frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectTruth {
    /// 4×4 matrices, row by row: from the object to the world.
    pub pose: Vec<Vec<f64>>,
    /// Its box in metres.
    #[serde(default)]
    pub size: Vec<f64>,
    /// Whether it is there.
    #[serde(default)]
    pub visible: Vec<bool>,
}

/// A person, frame by frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PersonTruth {
    /// COCO's 17 keypoints: x, y in pixels and v (2 seen, 1 hidden, 0 outside the picture).
    pub keypoints: Vec<Vec<f64>>,
    /// The same in the world: x, y, z in metres.
    pub keypoints_3d: Vec<Vec<f64>>,
    /// x, y, width and height in pixels.
    #[serde(default)]
    pub bounding_box: Vec<Vec<f64>>,
}

/// Two bodies that touch in a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contact {
    /// Frame of the clip.
    pub frame: u32,
    /// One of them.
    pub a: String,
    /// The other, or `floor`.
    pub b: String,
    /// Where, in metres.
    pub point: Vec<f64>,
}

/// COCO's names of keypoints.
const KEYPOINTS: [&str; 17] = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
];

/// COCO's bones, keypoints counted from 1.
const SKELETON: [[u32; 2]; 19] = [
    [16, 14],
    [14, 12],
    [17, 15],
    [15, 13],
    [12, 13],
    [6, 12],
    [7, 13],
    [6, 7],
    [6, 8],
    [7, 9],
    [8, 10],
    [9, 11],
    [2, 3],
    [1, 2],
    [1, 3],
    [2, 4],
    [3, 5],
    [4, 6],
    [5, 7],
];

impl Truth {
    /// What is wrong with it, for a clip of so many frames.
    pub fn problem(&self, frames: usize) -> Option<String> {
        let mut lengths = vec![
            ("frame_of", self.frame_of.len()),
            ("camera.intrinsics", self.camera.intrinsics.len()),
            ("camera.world_to_camera", self.camera.world_to_camera.len()),
        ];
        lengths.extend(self.objects.values().map(|object| ("pose", object.pose.len())));
        lengths.extend(self.people.values().map(|person| ("keypoints", person.keypoints.len())));
        let wrong = lengths.into_iter().find(|(_, length)| *length != frames)?;
        Some(format!("the ground truth has {} of {} for {frames} frames", wrong.1, wrong.0))
    }

    /// The keypoints of people in COCO's format; none where there are no people.
    pub fn coco(&self, scene: &Scene) -> Option<Value> {
        if self.people.is_empty() {
            return None;
        }
        let images: Vec<Value> = (0..self.frame_of.len())
            .map(|frame| {
                let name = format!("{}/{frame:06}.png", scene.id);
                json!({"id": frame, "file_name": name, "width": scene.render.width, "height": scene.render.height})
            })
            .collect();
        let mut annotations = Vec::new();
        for person in self.people.values() {
            for (frame, keypoints) in person.keypoints.iter().enumerate() {
                let seen = keypoints.chunks(3).filter(|point| point.get(2).is_some_and(|v| *v > 0.0)).count();
                let bounds = person.bounding_box.get(frame).cloned().unwrap_or_default();
                let area = bounds.get(2).zip(bounds.get(3)).map(|(width, height)| width * height);
                annotations.push(json!({
                    "id": annotations.len() + 1, "image_id": frame, "category_id": 1, "iscrowd": 0,
                    "keypoints": keypoints, "num_keypoints": seen, "bbox": bounds, "area": area,
                }));
            }
        }
        let category = json!({
            "id": 1, "name": "person", "supercategory": "person", "keypoints": KEYPOINTS, "skeleton": SKELETON,
        });
        Some(json!({"images": images, "annotations": annotations, "categories": [category]}))
    }
}
