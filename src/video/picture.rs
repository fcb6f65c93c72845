//! Geometry: how a decoded picture comes into a target.

use serde::{Deserialize, Serialize};

use crate::stage::decode::config::{Fit, ScaleFilter};

/// How a stored picture is turned to be looked at: transposed first, then mirrored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orientation {
    /// Rows become columns.
    pub(super) transpose: bool,
    /// Left and right are swapped.
    pub(super) mirror_x: bool,
    /// Top and bottom are swapped.
    pub(super) mirror_y: bool,
}

impl Orientation {
    /// From the display matrix of a container; one that turns by anything but a quarter is not followed.
    pub(super) fn from_matrix(matrix: &[i32; 9]) -> Self {
        let [a, b, _, c, d, ..] = *matrix;
        if a != 0 && d != 0 && b == 0 && c == 0 {
            Self { transpose: false, mirror_x: a < 0, mirror_y: d < 0 }
        } else if b != 0 && c != 0 && a == 0 && d == 0 {
            Self { transpose: true, mirror_x: c < 0, mirror_y: b < 0 }
        } else {
            Self::default()
        }
    }

    /// Whether nothing is to be done.
    pub(super) fn is_identity(self) -> bool {
        self == Self::default()
    }

    /// Width and height after turning.
    pub(super) fn turn<T>(self, width: T, height: T) -> (T, T) {
        if self.transpose { (height, width) } else { (width, height) }
    }

    /// Where the pixel at (x, y) of a stored picture of this size is looked at.
    #[inline]
    pub(super) fn place(self, x: usize, y: usize, width: usize, height: usize) -> (usize, usize) {
        let (x, y) = self.turn(x, y);
        let (width, height) = self.turn(width, height);
        (if self.mirror_x { width - 1 - x } else { x }, if self.mirror_y { height - 1 - y } else { y })
    }

    /// Copies a stored RGB picture into `target`, turned; the target's rows are `stride` bytes apart.
    pub(super) fn copy(self, stored: &[u8], width: usize, height: usize, target: &mut [u8], stride: usize) {
        for (y, row) in stored.chunks_exact(width * 3).take(height).enumerate() {
            for (x, pixel) in row.chunks_exact(3).enumerate() {
                let (to_x, to_y) = self.place(x, y, width, height);
                let at = to_y * stride + to_x * 3;
                target[at..at + 3].copy_from_slice(pixel);
            }
        }
    }
}

/// Frames that are wanted in one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Width in pixels. Default: as in the clip, or in proportion to `height`.
    pub width: Option<u32>,
    /// Height in pixels. Default: as in the clip, or in proportion to `width`.
    pub height: Option<u32>,
    /// How a picture of another shape is brought to this size.
    pub fit: Fit,
    /// Interpolation.
    pub filter: ScaleFilter,
}

/// A stored picture: its size, how it is turned, and the shape of its pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shape {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) orientation: Orientation,
    /// Width of a pixel over its height.
    pub(super) pixel_aspect: f64,
}

impl Shape {
    /// Width and height in pixels, as it is looked at.
    pub(super) fn upright(&self) -> (u32, u32) {
        self.orientation.turn(self.width, self.height)
    }

    /// The same picture, stored as it is looked at.
    pub(super) fn turned(&self) -> Self {
        let (width, height) = self.upright();
        let pixel_aspect = if self.orientation.transpose { 1.0 / self.pixel_aspect } else { self.pixel_aspect };
        Self { width, height, orientation: Orientation::default(), pixel_aspect }
    }

    /// Width over height, as it is looked at.
    fn aspect(&self) -> f64 {
        let (width, height) = self.orientation.turn(f64::from(self.width) * self.pixel_aspect, f64::from(self.height));
        width / height
    }

    /// Width and height of a target's frames.
    pub(super) fn size(&self, target: &Target) -> (u32, u32) {
        let side = |length: f64| (length.round() as u32).clamp(1, 1 << 16);
        match (target.width, target.height) {
            (Some(width), Some(height)) => (width, height),
            (Some(width), None) => (width, side(f64::from(width) / self.aspect())),
            (None, Some(height)) => (side(f64::from(height) * self.aspect()), height),
            (None, None) => self.upright(),
        }
    }

    /// How the stored picture is laid into a frame of `width` × `height`.
    pub(super) fn layout(&self, fit: Fit, width: u32, height: u32) -> Layout {
        let whole = Layout { crop: Crop::default(), x: 0, y: 0, width, height };
        let (have, want) = (self.aspect(), f64::from(width) / f64::from(height));
        let part = |length: u32, share: f64| ((f64::from(length) * share).round() as u32).clamp(1, length);
        match fit {
            Fit::Stretch => whole,
            Fit::Fit if have > want => {
                let inner = part(height, want / have);
                Layout { y: (height - inner) / 2, height: inner, ..whole }
            }
            Fit::Fit => {
                let inner = part(width, have / want);
                Layout { x: (width - inner) / 2, width: inner, ..whole }
            }
            Fit::Fill => {
                // What is too wide as it is looked at may be too high as it is stored.
                let along_x = (have > want) != self.orientation.transpose;
                let share = if have > want { want / have } else { have / want };
                let crop = if along_x {
                    let [left, right] = margins(self.width, part(self.width, share));
                    Crop { left, right, ..Crop::default() }
                } else {
                    let [top, bottom] = margins(self.height, part(self.height, share));
                    Crop { top, bottom, ..Crop::default() }
                };
                Layout { crop, ..whole }
            }
        }
    }
}

/// What is left out at both ends; the first is even, for the sake of subsampled colour.
fn margins(length: u32, keep: u32) -> [u32; 2] {
    let before = ((length - keep) / 2) & !1;
    [before, length - keep - before]
}

/// Pixels of the stored picture that are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Crop {
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) top: u32,
    pub(super) bottom: u32,
}

/// How a stored picture is laid into a frame: what is left out of it, and where the rest goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) crop: Crop,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: i32 = 1 << 16;

    fn shape(width: u32, height: u32) -> Shape {
        Shape { width, height, orientation: Orientation::default(), pixel_aspect: 1.0 }
    }

    fn target(width: Option<u32>, height: Option<u32>) -> Target {
        Target { width, height, fit: Fit::Stretch, filter: ScaleFilter::Area }
    }

    #[test]
    fn a_quarter_turn_moves_the_corner() {
        // What a phone writes for a picture that has to be turned clockwise.
        let turn = Orientation::from_matrix(&[0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30]);
        assert_eq!(turn, Orientation { transpose: true, mirror_x: true, mirror_y: false });
        let mut target = vec![0; 2 * 3];
        turn.copy(&[1, 1, 1, 2, 2, 2], 2, 1, &mut target, 3);
        assert_eq!(target, [1, 1, 1, 2, 2, 2]);
        let mut target = vec![0; 2 * 3];
        turn.copy(&[1, 1, 1, 2, 2, 2], 1, 2, &mut target, 6);
        assert_eq!(target, [2, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn half_turn_and_mirror() {
        let half = Orientation::from_matrix(&[-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30]);
        assert_eq!(half, Orientation { transpose: false, mirror_x: true, mirror_y: true });
        assert!(Orientation::from_matrix(&[ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30]).is_identity());
        assert!(Orientation::from_matrix(&[46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30]).is_identity());
    }

    #[test]
    fn sizes_follow_the_shape_that_is_looked_at() {
        assert_eq!(shape(1920, 1080).size(&target(Some(256), None)), (256, 144));
        assert_eq!(shape(1920, 1080).size(&target(None, Some(54))), (96, 54));
        let anamorphic = Shape { pixel_aspect: 2.0, ..shape(100, 100) };
        assert_eq!(anamorphic.size(&target(None, Some(50))), (100, 50));
        let turned = Orientation { transpose: true, ..Orientation::default() };
        assert_eq!(Shape { orientation: turned, ..shape(1920, 1080) }.size(&target(None, None)), (1080, 1920));
    }

    #[test]
    fn fit_centres_and_fill_cuts() {
        let wide = shape(200, 100);
        let fit = wide.layout(Fit::Fit, 100, 100);
        assert_eq!((fit.x, fit.y, fit.width, fit.height), (0, 25, 100, 50));
        let fill = wide.layout(Fit::Fill, 100, 100);
        assert_eq!(fill.crop, Crop { left: 50, right: 50, top: 0, bottom: 0 });
        let turned = Shape { orientation: Orientation { transpose: true, ..Orientation::default() }, ..wide };
        assert_eq!(turned.layout(Fit::Fill, 100, 100).crop, fill.crop);
        assert_eq!(turned.layout(Fit::Fit, 100, 100).width, 50);
    }
}
