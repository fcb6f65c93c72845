//! What scenes are made of: the words that stand in YAML and in configurations, and how each reads in a caption.
//!
//! The same element reads the same in every scene, so N objects, M actions and K cameras need N + M + K descriptions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Words of one kind, with what captions call them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $phrase:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word as it is written.
            pub fn name(self) -> String {
                serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
            }

            /// What a caption calls it.
            pub fn phrase(self) -> &'static str {
                match self {
                    $(Self::$variant => $phrase,)+
                }
            }
        }
    };
}

words! {
    /// What kind of scene it is; settings that are not given follow from it.
    Family {
        /// Objects that spin, orbit or rest.
        Objects = "objects",
        /// A person in motion.
        Human = "a person",
        /// A subject alone, on a plain colour or on nothing, with its matte.
        Layers = "a subject alone",
        /// Rigid bodies that fall, collide, stand stacked or roll down a ramp.
        Rigid = "rigid bodies",
        /// Cloth that falls over things, flies as a flag or hangs as a curtain.
        Cloth = "cloth",
        /// A liquid that is poured, or smoke.
        Fluid = "a fluid",
    }
}

words! {
    /// Shape of an object.
    Shape {
        /// A cube.
        Cube = "cube",
        /// A ball.
        Sphere = "sphere",
        /// A cylinder.
        Cylinder = "cylinder",
        /// A cone.
        Cone = "cone",
        /// A ring.
        Torus = "torus",
        /// A capsule.
        Capsule = "capsule",
        /// A pyramid.
        Pyramid = "pyramid",
        /// A body of twenty faces.
        Icosahedron = "icosahedron",
        /// A gear wheel.
        Gear = "gear wheel",
        /// A star.
        Star = "star",
        /// A coil spring.
        Spring = "coil spring",
        /// A vase.
        Vase = "vase",
        /// A bowl.
        Bowl = "bowl",
        /// A rock.
        Rock = "rock",
        /// A knotted tube.
        Knot = "knot",
        /// A chair.
        Chair = "chair",
        /// A table.
        Table = "table",
        /// A lamp.
        Lamp = "lamp",
        /// A model of your own, see `files`.
        File = "model",
    }
}

words! {
    /// How a surface looks.
    MaterialKind {
        /// Plastic.
        Plastic = "plastic",
        /// Metal.
        Metal = "metal",
        /// Glass.
        Glass = "glass",
        /// Wood.
        Wood = "wooden",
        /// Fabric.
        Fabric = "fabric",
        /// Marble.
        Marble = "marble",
        /// A chequered pattern of two colours.
        Checker = "chequered",
        /// Stripes of two colours.
        Stripes = "striped",
        /// Car paint.
        CarPaint = "glossy painted",
        /// Clay.
        Clay = "clay",
    }
}

words! {
    /// What is done to the shape of an object.
    Modifier {
        /// Nothing.
        None = "",
        /// It is twisted.
        Twist = "twisted",
        /// It is tapered.
        Taper = "tapered",
        /// It is bent.
        Bend = "bent",
        /// Its surface waves.
        Wave = "wavy",
        /// Its edges are rounded off.
        Subdivide = "rounded",
    }
}

words! {
    /// How an object moves where no physics does.
    ObjectMotion {
        /// Not at all.
        Still = "standing still",
        /// It turns around its own axis.
        Spin = "spinning",
        /// It goes around the middle of the scene.
        Orbit = "moving in a circle",
        /// It goes up and down.
        Bob = "bobbing up and down",
    }
}

words! {
    /// Motion capture of people.
    MotionClip {
        /// Walking.
        Walk = "walking",
        /// Running.
        Run = "running",
        /// Jumping.
        Jump = "jumping forward",
        /// Dancing.
        DanceA = "dancing with swinging arms",
        /// Dancing on the spot.
        DanceB = "dancing on the spot",
        /// A cartwheel.
        Cartwheel = "doing a cartwheel",
        /// A backflip.
        Backflip = "doing a backflip",
        /// A kick.
        Kick = "kicking",
        /// A spinning kick.
        Spinkick = "doing a spinning kick",
        /// A punch.
        Punch = "punching",
        /// A roll over the floor.
        Roll = "rolling over the floor",
        /// A spin.
        Spin = "spinning around",
        /// Crawling.
        Crawl = "crawling on the floor",
        /// Getting up from the face.
        GetupFacedown = "getting up from lying face down",
        /// Getting up from the back.
        GetupFaceup = "getting up from lying on the back",
    }
}

words! {
    /// What surrounds the subject.
    EnvironmentKind {
        /// A photographed panorama that lights the scene.
        Hdri = "outdoors",
        /// A room of one colour, lit by two lamps.
        Room = "in a plain room",
        /// Nothing: frames have an alpha channel.
        Empty = "on a transparent background",
    }
}

words! {
    /// Panoramas that come with `make blender` (Poly Haven, CC0).
    Hdri {
        /// A flat.
        Apartment = "in an apartment",
        /// Under a bridge.
        Bridge = "under a bridge",
        /// A street.
        City = "in a city street",
        /// Dawn over open land.
        Dawn = "outdoors at dawn",
        /// An esplanade.
        Esplanade = "on an esplanade",
        /// A forest.
        Forest = "in a forest",
        /// A hall.
        Hall = "in a large hall",
        /// A laboratory.
        Lab = "in a laboratory",
        /// A lobby.
        Lobby = "in a lobby",
        /// A street at night.
        Night = "in a street at night",
        /// A park.
        Park = "in a park",
        /// An open sky.
        Sky = "under an open sky",
        /// A photo studio.
        Studio = "in a photo studio",
        /// Sunrise.
        Sunrise = "outdoors at sunrise",
        /// Sunset.
        Sunset = "outdoors at sunset",
        /// Venice.
        Venice = "in Venice at sunset",
        /// A warehouse.
        Warehouse = "in a warehouse",
        /// A workshop.
        Workshop = "in a workshop",
    }
}

words! {
    /// How the camera moves.
    CameraMove {
        /// Not at all.
        Static = "the camera stands still",
        /// Sideways.
        Truck = "the camera trucks sideways",
        /// Towards the subject or away from it.
        Dolly = "the camera dollies",
        /// Up or down.
        Pedestal = "the camera moves vertically",
        /// It tilts up or down.
        Tilt = "the camera tilts",
        /// It pans left or right.
        Pan = "the camera pans",
        /// Around the subject.
        Spin = "the camera spins around the subject",
        /// Along with a moving subject.
        Following = "the camera follows the subject",
        /// Ahead of a moving subject, looking back at it.
        Forward = "the camera moves ahead of the subject and faces it",
        /// The focal length changes.
        Zoom = "the camera zooms",
    }
}

words! {
    /// Which part of the subject the camera holds.
    Focus {
        /// The lower part.
        Lower = "the lower part of the subject",
        /// The middle.
        Center = "the whole subject",
        /// The upper part.
        Upper = "the upper part of the subject",
    }
}

words! {
    /// What physics moves.
    PhysicsKind {
        /// Objects fall and come to rest.
        Fall = "falling to the floor",
        /// Objects fly into each other.
        Collision = "colliding with each other",
        /// A stack of objects is hit, or gives way.
        Stack = "standing stacked and toppling",
        /// Objects slide and roll down a ramp.
        Ramp = "sliding down a ramp",
        /// A cloth falls over the objects.
        ClothDrop = "a cloth falls over it",
        /// A flag in the wind.
        Flag = "a flag waves in the wind",
        /// A curtain that sways.
        Curtain = "a curtain sways",
        /// A liquid is poured.
        Liquid = "a liquid is poured",
        /// Smoke rises.
        Smoke = "smoke rises",
    }
}

impl PhysicsKind {
    /// The family that it belongs to.
    pub fn family(self) -> Family {
        match self {
            Self::Fall | Self::Collision | Self::Stack | Self::Ramp => Family::Rigid,
            Self::ClothDrop | Self::Flag | Self::Curtain => Family::Cloth,
            Self::Liquid | Self::Smoke => Family::Fluid,
        }
    }
}

words! {
    /// A deliberate fault of the render, always labelled.
    DefectKind {
        /// Too few samples, not denoised.
        Noise = "noise",
        /// The light jumps from frame to frame.
        Flicker = "flicker",
        /// A material jumps from frame to frame.
        MaterialFlicker = "flickering material",
        /// The person or an object vanishes for some frames.
        Popping = "popping",
        /// For some frames a part of the person is gone, or an object has few faces.
        DetailPopping = "popping detail",
        /// Frames are repeated.
        Stutter = "stutter",
        /// Frames are left out.
        DroppedFrames = "dropped frames",
        /// The subject jumps to another place.
        Teleport = "teleport",
        /// Bodies go through each other or through the floor.
        Interpenetration = "interpenetration",
        /// A limb or a part is gone.
        MissingLimb = "missing limb",
        /// Few faces, flat shading.
        LowPoly = "low-poly",
        /// Gravity is scaled or tilted.
        WrongGravity = "wrong gravity",
    }
}

impl DefectKind {
    /// Whether it shows in scenes of this family, with a person or without.
    pub fn applies(self, family: Family, person: bool) -> bool {
        match self {
            Self::WrongGravity => !person && family != Family::Fluid,
            Self::MissingLimb
            | Self::Teleport
            | Self::Popping
            | Self::DetailPopping
            | Self::LowPoly
            | Self::Interpenetration => !matches!(family, Family::Cloth | Family::Fluid),
            _ => true,
        }
    }
}

words! {
    /// A named colour.
    Color {
        /// #c8322d.
        Red = "red",
        /// #e58a2f.
        Orange = "orange",
        /// #e8c93a.
        Yellow = "yellow",
        /// #4c9a4a.
        Green = "green",
        /// #2f8f8f.
        Teal = "teal",
        /// #3366b8.
        Blue = "blue",
        /// #7a4fa3.
        Purple = "purple",
        /// #d97aa6.
        Pink = "pink",
        /// #7b4a2d.
        Brown = "brown",
        /// #d8c7a3.
        Beige = "beige",
        /// #f0f0ec.
        White = "white",
        /// #9a9a9a.
        Gray = "gray",
        /// #2a2a2c.
        Black = "black",
    }
}

impl Color {
    /// sRGB, 0 to 1.
    pub fn rgb(self) -> [f64; 3] {
        let bytes: [u8; 3] = match self {
            Self::Red => [0xc8, 0x32, 0x2d],
            Self::Orange => [0xe5, 0x8a, 0x2f],
            Self::Yellow => [0xe8, 0xc9, 0x3a],
            Self::Green => [0x4c, 0x9a, 0x4a],
            Self::Teal => [0x2f, 0x8f, 0x8f],
            Self::Blue => [0x33, 0x66, 0xb8],
            Self::Purple => [0x7a, 0x4f, 0xa3],
            Self::Pink => [0xd9, 0x7a, 0xa6],
            Self::Brown => [0x7b, 0x4a, 0x2d],
            Self::Beige => [0xd8, 0xc7, 0xa3],
            Self::White => [0xf0, 0xf0, 0xec],
            Self::Gray => [0x9a, 0x9a, 0x9a],
            Self::Black => [0x2a, 0x2a, 0x2c],
        };
        bytes.map(|byte| f64::from(byte) / 255.0)
    }
}
