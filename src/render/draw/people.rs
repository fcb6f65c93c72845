//! Draws of people.

use super::super::distribution::{Choice, Number, rounded};
use super::super::elements::{Color, MotionClip};
use super::super::scene::{Body, Bottom, Hair, Person, PersonMotion, Shoes, Top};
use super::objects::shade;
use super::{Drawing, any_color, or};

/// Colours of skin, sRGB.
const SKINS: [[f64; 3]; 6] = [
    [0.93, 0.78, 0.68],
    [0.88, 0.70, 0.58],
    [0.78, 0.58, 0.44],
    [0.64, 0.45, 0.33],
    [0.47, 0.32, 0.23],
    [0.34, 0.23, 0.17],
];

/// Colours of hair, sRGB.
const HAIRS: [(&str, [f64; 3]); 5] = [
    ("black", [0.07, 0.06, 0.06]),
    ("brown", [0.24, 0.15, 0.09]),
    ("fair", [0.72, 0.56, 0.34]),
    ("red", [0.48, 0.2, 0.09]),
    ("grey", [0.6, 0.6, 0.6]),
];

impl Drawing<'_> {
    pub(super) fn person(&self) -> Person {
        let (spec, mut draws) = (&self.group.person, self.draws("person"));
        let body = Body {
            gender: draws.number(&spec.gender.clone().unwrap_or(Number::OneOf(vec![0.0, 1.0]))),
            age: draws.number(&or(&spec.age, 0.42, 0.8)),
            muscle: draws.number(&or(&spec.muscle, 0.3, 0.75)),
            weight: draws.number(&or(&spec.weight, 0.3, 0.75)),
            height: draws.number(&or(&spec.height, 0.3, 0.75)),
            proportions: draws.between(0.4, 0.9),
        };
        let colors = spec.colors.clone().unwrap_or_else(any_color);
        let (top, bottom) = (draws.choice(&colors), draws.choice(&colors));
        let shoes = *draws.pick(&[Color::White, Color::Black, Color::Brown, Color::Red, Color::Gray]);
        let sleeve = if draws.chance(0.5) { "short" } else { "long" };
        let trousers = if draws.chance(0.7) { "trousers" } else { "shorts" };
        let hair = *draws.pick(&HAIRS);
        let style = match (body.gender >= 0.5, draws.unit()) {
            (true, style) if style < 0.85 => "short",
            (true, _) => "none",
            (false, style) if style < 0.65 => "long",
            (false, _) => "short",
        };
        Person {
            id: "person_0".to_owned(),
            skin: *draws.pick(&SKINS),
            top: Top { color: shade(&mut draws, top), sleeve: sleeve.to_owned() },
            bottom: Bottom { color: shade(&mut draws, bottom), kind: trousers.to_owned() },
            shoes: Shoes { color: shade(&mut draws, shoes) },
            hair: Hair { kind: style.to_owned(), color: hair.1 },
            motion: self.person_motion(),
            position: [0.0, 0.0],
            phrase: phrase(&body, style, hair.0, top, sleeve, bottom, trousers),
            body,
        }
    }

    fn person_motion(&self) -> PersonMotion {
        let (spec, mut draws) = (&self.group.person, self.draws("motion"));
        let twice = |clip: MotionClip| matches!(clip, MotionClip::Walk | MotionClip::Run);
        let motions = spec.motions.clone().unwrap_or_else(|| {
            let weights = MotionClip::ALL.iter().map(|clip| (*clip, if twice(*clip) { 2.0 } else { 1.0 }));
            Choice::Weighted(weights.collect())
        });
        PersonMotion {
            clip: draws.choice(&motions),
            start_s: rounded(draws.between(0.0, 0.4)),
            speed: draws.number(&or(&spec.speed, 0.9, 1.15)),
            heading_deg: draws.between(0.0, 360.0),
            mirror: draws.chance(0.5),
        }
    }
}

/// `a woman with long black hair in a red short-sleeved shirt and blue trousers`.
fn phrase(body: &Body, style: &str, hair: &str, top: Color, sleeve: &str, bottom: Color, trousers: &str) -> String {
    let noun = match (body.gender >= 0.5, body.age) {
        (true, age) if age < 0.35 => "a boy",
        (true, age) if age > 0.75 => "an old man",
        (true, _) => "a man",
        (false, age) if age < 0.35 => "a girl",
        (false, age) if age > 0.75 => "an old woman",
        (false, _) => "a woman",
    };
    let hair = if style == "none" { "a bald head".to_owned() } else { format!("{style} {hair} hair") };
    format!(
        "{noun} with {hair} in {} {sleeve}-sleeved shirt and {} {trousers}",
        super::super::caption::with_article(top.phrase()),
        bottom.phrase()
    )
}
