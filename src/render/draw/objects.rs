//! Draws of objects and their surfaces.

use super::super::distribution::{Choice, Draws, Number, rounded};
use super::super::elements::{Color, Family, MaterialKind, Modifier, ObjectMotion, PhysicsKind, Shape};
use super::super::scene::{Material, Motion, Object};
use super::{Drawing, any_color, or};

impl Drawing<'_> {
    pub(super) fn objects(&self, physics: Option<PhysicsKind>) -> Vec<Object> {
        let spec = &self.group.objects;
        let usual = match physics {
            None if self.group.family == Family::Layers => Number::Constant(1.0),
            None => Number::range(1.0, 3.0),
            Some(PhysicsKind::Fall) => Number::range(3.0, 5.0),
            Some(PhysicsKind::Collision) => Number::range(2.0, 4.0),
            Some(PhysicsKind::Stack) => Number::range(3.0, 5.0),
            Some(PhysicsKind::Ramp) => Number::range(1.0, 3.0),
            Some(PhysicsKind::ClothDrop) => Number::range(1.0, 2.0),
            Some(PhysicsKind::Flag | PhysicsKind::Curtain | PhysicsKind::Liquid | PhysicsKind::Smoke) => {
                Number::Constant(0.0)
            }
        };
        let count = self.draws("count").count(spec.count.as_ref().unwrap_or(&usual));
        let colors = spec.colors.clone().unwrap_or_else(any_color);
        (0..count).map(|number| self.object(number, physics, &colors)).collect()
    }

    fn object(&self, number: usize, physics: Option<PhysicsKind>, colors: &Choice<Color>) -> Object {
        let (spec, mut draws) = (&self.group.objects, self.draws(&format!("object {number}")));
        let shapes = spec.shapes.clone().unwrap_or_else(|| {
            let fits = |shape: &Shape| *shape != Shape::File && suits(*shape, physics);
            Choice::OneOf(Shape::ALL.iter().copied().filter(fits).collect())
        });
        let materials = spec.materials.clone().unwrap_or_else(|| Choice::OneOf(MaterialKind::ALL.to_vec()));
        let modifiers = spec.modifiers.clone().unwrap_or_else(|| match physics {
            // Simulated bodies keep the shapes that they are named after.
            Some(_) => Choice::Constant(Modifier::None),
            None => Choice::Weighted(
                Modifier::ALL
                    .iter()
                    .map(|modifier| (*modifier, if *modifier == Modifier::None { 5.0 } else { 1.0 }))
                    .collect(),
            ),
        });
        let motions = spec.motions.clone().unwrap_or_else(|| {
            Choice::Weighted(
                [
                    (ObjectMotion::Spin, 4.0),
                    (ObjectMotion::Orbit, 2.0),
                    (ObjectMotion::Bob, 1.0),
                    (ObjectMotion::Still, 1.0),
                ]
                .into_iter()
                .collect(),
            )
        });
        let shape = draws.choice(&shapes);
        let size = draws.number(&match physics {
            None => or(&spec.size, 0.4, 1.0),
            Some(_) => or(&spec.size, 0.25, 0.5),
        });
        let (material, material_phrase) = material(&mut draws, &materials, colors, &or(&spec.roughness, 0.1, 0.8));
        let modifier = draws.choice(&modifiers);
        let modifier_strength = draws.between(0.3, 0.8);
        let bevel = draws.number(&or(&spec.bevel, 0.0, 0.15));
        let (file, name) = match shape {
            Shape::File if !spec.files.is_empty() => {
                let file = draws.pick(&spec.files);
                (Some(file.path.clone()), file.phrase.clone())
            }
            other => (None, other.phrase().to_owned()),
        };
        let movement = match physics {
            Some(_) => ObjectMotion::Still,
            None => draws.choice(&motions),
        };
        let turns = draws.number(&or(&spec.turns, 0.3, 1.0));
        let turns = if draws.chance(0.5) { turns } else { -turns };
        // Whatever stands on legs or a foot would tumble through the air.
        let axis =
            if draws.chance(0.8) || matches!(shape, Shape::Table | Shape::Chair | Shape::Lamp) { "z" } else { "x" };
        let place = 0.35 * number as f64;
        let position = [draws.between(-place, place), draws.between(-place, place), 0.0];
        let rotation = [0.0, 0.0, draws.between(0.0, 360.0)];
        let words = match &file {
            Some(_) => name,
            None => [modifier.phrase(), &material_phrase, &name]
                .iter()
                .filter(|word| !word.is_empty())
                .copied()
                .collect::<Vec<_>>()
                .join(" "),
        };
        Object {
            id: format!("object_{number}"),
            shape,
            material: file.is_none().then_some(material),
            file,
            size,
            bevel,
            modifier,
            modifier_strength,
            position: position.map(rounded),
            rotation_deg: rotation,
            motion: Motion { kind: movement, turns: rounded(turns), axis: axis.to_owned() },
            phrase: words,
        }
    }
}

/// Whether a shape does what the physics is about: stacks need flat tops, ramps and falls solid bodies.
fn suits(shape: Shape, physics: Option<PhysicsKind>) -> bool {
    use Shape::{Capsule, Chair, Cone, Cube, Cylinder, Gear, Icosahedron, Pyramid, Rock, Sphere, Table, Torus};
    match physics {
        None => true,
        Some(PhysicsKind::Stack) => matches!(shape, Cube | Cylinder),
        Some(PhysicsKind::ClothDrop) => matches!(shape, Cube | Sphere | Cylinder | Cone | Torus | Table | Chair),
        Some(_) => {
            matches!(shape, Cube | Sphere | Cylinder | Cone | Torus | Capsule | Icosahedron | Gear | Pyramid | Rock)
        }
    }
}

/// A surface and what captions call it: `red metal`.
pub(super) fn material(
    draws: &mut Draws,
    kinds: &Choice<MaterialKind>,
    colors: &Choice<Color>,
    roughness: &Number,
) -> (Material, String) {
    let kind = draws.choice(kinds);
    let color = draws.choice(colors);
    // A pattern in one colour would be none.
    let color2 = draws.choice(&if colors.weights().len() > 1 { colors.clone() } else { any_color() });
    let material = Material {
        kind,
        color: shade(draws, color),
        color2: shade(draws, color2),
        roughness: draws.number(roughness),
        scale: draws.between(0.7, 2.0),
    };
    let two = matches!(kind, MaterialKind::Checker | MaterialKind::Stripes) && color != color2;
    let colors = if two { format!("{} and {}", color.phrase(), color2.phrase()) } else { color.phrase().to_owned() };
    (material, format!("{colors} {}", kind.phrase()))
}

/// A colour near the named one, still of that name.
pub(super) fn shade(draws: &mut Draws, color: Color) -> [f64; 3] {
    let brightness = draws.between(0.88, 1.08);
    color.rgb().map(|part| rounded((part * brightness).clamp(0.0, 1.0)))
}
