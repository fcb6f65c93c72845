//! The boundary to libswscale: decoded pictures become RGB of the wanted size, in the place where they stay.

#![expect(unsafe_code, reason = "libswscale is a C library")]

use std::ffi::c_int;
use std::ptr;

use ffmpeg_next::ffi;
use ffmpeg_next::ffi::{AVColorRange, AVPixelFormat};

use super::VideoError;
use super::codec::{Frame, pixel_format};
use super::packet::out_of_memory;
use super::picture::{Layout, Orientation, Shape, Target};
use crate::stage::decode::config::{Fit, ScaleFilter};

/// Bytes behind the frames that the scaler may write over: its vector code works in whole registers, and so may go
/// past the end of a row by less than this. Rows are written from top to bottom and frames in order, so what it
/// spoils is always written afterwards.
pub(super) const SLACK: usize = 128;

/// What a scaler was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Input {
    width: c_int,
    height: c_int,
    format: c_int,
    matrix: c_int,
    range: c_int,
}

/// Scales the frames of one clip to one target.
#[derive(Debug)]
pub(super) struct Scaler {
    fit: Fit,
    filter: ScaleFilter,
    /// Width and height of the frames that leave.
    size: (u32, u32),
    context: *mut ffi::SwsContext,
    made_for: Option<(Input, Layout)>,
    cropped: Frame,
    /// The latest picture, turned before it was scaled.
    turned: Option<Frame>,
    /// The latest picture, where it is turned after it was scaled.
    unturned: Vec<u8>,
}

// The context is owned and used by one thread at a time.
unsafe impl Send for Scaler {}

impl Drop for Scaler {
    fn drop(&mut self) {
        unsafe { ffi::sws_freeContext(self.context) }
    }
}

impl Scaler {
    /// For frames of `size` (width, height).
    pub(super) fn new(target: &Target, size: (u32, u32)) -> Result<Self, VideoError> {
        Ok(Self {
            fit: target.fit,
            filter: target.filter,
            size,
            context: ptr::null_mut(),
            made_for: None,
            cropped: Frame::new()?,
            turned: None,
            unturned: Vec::new(),
        })
    }

    /// Writes a frame into the first width × height × 3 bytes of `target`, which has [`SLACK`] more.
    ///
    /// `shape` gives the turn and the shape of the pixels; the size is the frame's own.
    pub(super) fn scale(&mut self, frame: &Frame, shape: &Shape, target: &mut [u8]) -> Result<(), VideoError> {
        let mut shape = *shape;
        let mut turned = std::mem::take(&mut self.turned);
        let frame = match shape.orientation.is_identity() {
            false if turn(frame, shape.orientation, &mut turned)? => {
                shape = shape.turned();
                turned.as_ref().unwrap_or(frame)
            }
            _ => frame,
        };
        let raw = frame.raw();
        shape = Shape { width: raw.width.max(1) as u32, height: raw.height.max(1) as u32, ..shape };
        let (width, height) = self.size;
        let layout = shape.layout(self.fit, width, height);
        let (inner_width, inner_height) = shape.orientation.turn(layout.width, layout.height);
        let crop = layout.crop;
        self.cropped.refer(frame)?;
        unsafe {
            let cropped = &mut *self.cropped.as_ptr();
            cropped.crop_left = crop.left as usize;
            cropped.crop_right = crop.right as usize;
            cropped.crop_top = crop.top as usize;
            cropped.crop_bottom = crop.bottom as usize;
            let code = ffi::av_frame_apply_cropping(cropped, ffi::AV_FRAME_CROP_UNALIGNED as c_int);
            if code < 0 {
                return Err(VideoError::ffmpeg("crop a frame", code));
            }
        }
        let cropped = self.cropped.raw();
        let input = Input {
            width: cropped.width,
            height: cropped.height,
            format: cropped.format,
            // A file may say any number here, so they are read as numbers.
            matrix: unsafe { (&raw const cropped.colorspace).cast::<c_int>().read() },
            range: unsafe { (&raw const cropped.color_range).cast::<c_int>().read() },
        };
        if self.made_for != Some((input, layout)) {
            self.made_for = None;
            self.make(input, inner_width, inner_height)?;
            self.made_for = Some((input, layout));
        }

        let stride = width as usize * 3;
        assert!(target.len() >= stride * height as usize + SLACK, "the target has no slack");
        let offset = layout.y as usize * stride + layout.x as usize * 3;
        if shape.orientation.is_identity() {
            self.run(&mut target[offset..], stride, inner_height)?;
        } else {
            let (from_width, from_height) = (inner_width as usize, inner_height as usize);
            let mut unturned = std::mem::take(&mut self.unturned);
            unturned.resize(from_width * from_height * 3 + SLACK, 0);
            self.run(&mut unturned, from_width * 3, inner_height)?;
            shape.orientation.copy(&unturned, from_width, from_height, &mut target[offset..], stride);
            self.unturned = unturned;
        }
        if self.fit == Fit::Fit {
            blacken(&mut target[..stride * height as usize], stride, layout);
        }
        self.cropped.clear();
        self.turned = turned;
        Ok(())
    }

    /// Sets a context up exactly as FFmpeg's `scale` filter does, so that the pixels are the same.
    fn make(&mut self, input: Input, width: u32, height: u32) -> Result<(), VideoError> {
        let flags = match self.filter {
            ScaleFilter::Area => ffi::SWS_AREA,
            ScaleFilter::Bilinear => ffi::SWS_BILINEAR,
            ScaleFilter::Bicubic => ffi::SWS_BICUBIC,
            ScaleFilter::Lanczos => ffi::SWS_LANCZOS,
            ScaleFilter::Point => ffi::SWS_POINT,
        };
        unsafe {
            ffi::sws_freeContext(self.context);
            self.context = ffi::sws_alloc_context();
            if self.context.is_null() {
                return Err(out_of_memory());
            }
            let set = |name: &std::ffi::CStr, value: i64| {
                ffi::av_opt_set_int(self.context.cast(), name.as_ptr(), value, 0);
            };
            set(c"sws_flags", i64::from(flags));
            set(c"srcw", i64::from(input.width));
            set(c"srch", i64::from(input.height));
            set(c"src_format", i64::from(input.format));
            set(c"dstw", i64::from(width));
            set(c"dsth", i64::from(height));
            set(c"dst_format", i64::from(AVPixelFormat::AV_PIX_FMT_RGB24 as c_int));
            if input.format == AVPixelFormat::AV_PIX_FMT_YUV420P as c_int {
                set(c"src_v_chr_pos", 128);
            }
            let code = ffi::sws_init_context(self.context, ptr::null_mut(), ptr::null_mut());
            if code < 0 {
                let name = pixel_format(input.format).map_or("unknown", |_| "of this pixel format");
                return Err(VideoError::Ffmpeg {
                    action: "set the scaler up",
                    message: format!("pictures {name} ({}) cannot become RGB", input.format),
                });
            }
            let (mut inverse, mut table) = (ptr::null_mut(), ptr::null_mut());
            let (mut source_range, mut target_range) = (0, 0);
            let (mut brightness, mut contrast, mut saturation) = (0, 0, 0);
            let code = ffi::sws_getColorspaceDetails(
                self.context,
                &mut inverse,
                &mut source_range,
                &mut table,
                &mut target_range,
                &mut brightness,
                &mut contrast,
                &mut saturation,
            );
            if code < 0 {
                // Formats without a matrix, such as RGB, have nothing to set.
                return Ok(());
            }
            let matrix = ffi::sws_getCoefficients(input.matrix);
            if input.range != AVColorRange::AVCOL_RANGE_UNSPECIFIED as c_int {
                source_range = c_int::from(input.range == AVColorRange::AVCOL_RANGE_JPEG as c_int);
            }
            ffi::sws_setColorspaceDetails(
                self.context,
                matrix,
                source_range,
                matrix,
                target_range,
                brightness,
                contrast,
                saturation,
            );
        }
        Ok(())
    }

    fn run(&mut self, target: &mut [u8], stride: usize, height: u32) -> Result<(), VideoError> {
        let source = self.cropped.raw();
        let targets = [target.as_mut_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut()];
        let strides = [stride as c_int, 0, 0, 0];
        let code = unsafe {
            ffi::sws_scale(
                self.context,
                source.data.as_ptr().cast(),
                source.linesize.as_ptr(),
                0,
                source.height,
                targets.as_ptr(),
                strides.as_ptr(),
            )
        };
        if code < 0 {
            return Err(VideoError::ffmpeg("scale a frame", code));
        }
        if code != height as c_int {
            return Err(VideoError::Ffmpeg {
                action: "scale a frame",
                message: format!("{code} rows of {height} were written"),
            });
        }
        Ok(())
    }
}

/// Turns a picture at its full size, as FFmpeg does before it scales; false for pixel formats whose planes do not turn
/// one by one.
fn turn(frame: &Frame, orientation: Orientation, turned: &mut Option<Frame>) -> Result<bool, VideoError> {
    let raw = frame.raw();
    let Some(format) = pixel_format(raw.format) else { return Ok(false) };
    let flags = (ffi::AV_PIX_FMT_FLAG_PAL | ffi::AV_PIX_FMT_FLAG_BITSTREAM | ffi::AV_PIX_FMT_FLAG_HWACCEL) as u64;
    if format.flags & flags != 0 || (orientation.transpose && format.log2_chroma_w != format.log2_chroma_h) {
        return Ok(false);
    }
    let mut planes = [None; 4];
    for component in &format.comp[..usize::from(format.nb_components)] {
        let plane = component.plane as usize;
        // Packed formats that share colour between pixels have no step of one pixel for every component.
        if planes[plane].is_some_and(|step| step != component.step) {
            return Ok(false);
        }
        planes[plane] = Some(component.step);
    }
    let (width, height) = orientation.turn(raw.width, raw.height);
    let fits = turned.as_ref().is_some_and(|frame| {
        let have = frame.raw();
        (have.width, have.height, have.format) == (width, height, raw.format)
    });
    let target = match turned {
        Some(target) if fits => target,
        _ => turned.insert(Frame::with_buffer(width, height, raw.format)?),
    };
    target.copy_properties(frame);
    for (plane, step) in planes.iter().enumerate().filter_map(|(plane, step)| step.map(|step| (plane, step as usize))) {
        let chroma = plane == 1 || plane == 2;
        let (shift_x, shift_y) = if chroma { (format.log2_chroma_w, format.log2_chroma_h) } else { (0, 0) };
        let (columns, rows) = (ceil_shift(raw.width, shift_x), ceil_shift(raw.height, shift_y));
        let source = unsafe { Plane::new(raw, plane, columns * step, rows)? };
        let (to_columns, to_rows) = orientation.turn(columns, rows);
        let target = unsafe { Plane::new(target.raw(), plane, to_columns * step, to_rows)? };
        match step {
            1 => turn_plane::<1>(source, target, orientation),
            2 => turn_plane::<2>(source, target, orientation),
            3 => turn_plane::<3>(source, target, orientation),
            4 => turn_plane::<4>(source, target, orientation),
            6 => turn_plane::<6>(source, target, orientation),
            8 => turn_plane::<8>(source, target, orientation),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn ceil_shift(length: c_int, shift: u8) -> usize {
    -(-length >> shift) as usize
}

/// One plane of a frame: rows of `length` bytes that are `stride` bytes apart.
#[derive(Clone, Copy)]
struct Plane {
    data: *mut u8,
    stride: isize,
    length: usize,
    rows: usize,
}

impl Plane {
    /// Safety: the frame has to have this plane with at least these rows.
    unsafe fn new(frame: &ffi::AVFrame, plane: usize, length: usize, rows: usize) -> Result<Self, VideoError> {
        let (data, stride) = (frame.data[plane], frame.linesize[plane] as isize);
        if data.is_null() || stride.unsigned_abs() < length {
            return Err(VideoError::Ffmpeg { action: "turn a frame", message: "a plane is missing".to_owned() });
        }
        Ok(Self { data, stride, length, rows })
    }

    fn row(&self, row: usize) -> *mut u8 {
        debug_assert!(row < self.rows);
        unsafe { self.data.offset(row as isize * self.stride) }
    }
}

/// Copies a plane of pixels of `STEP` bytes, turned. `to` is as large as `from` is when turned.
fn turn_plane<const STEP: usize>(from: Plane, to: Plane, orientation: Orientation) {
    /// Pixels of a square that fits the cache in both directions.
    const TILE: usize = 32;
    let (columns, rows) = (from.length / STEP, from.rows);
    for (top, left) in (0..rows).step_by(TILE).flat_map(|y| (0..columns).step_by(TILE).map(move |x| (y, x))) {
        for y in top..(top + TILE).min(rows) {
            let row = from.row(y);
            for x in left..(left + TILE).min(columns) {
                let (to_x, to_y) = orientation.place(x, y, columns, rows);
                // Both lie within their planes: `place` maps the one size onto the other.
                unsafe {
                    let pixel = row.add(x * STEP).cast::<[u8; STEP]>().read();
                    to.row(to_y).add(to_x * STEP).cast::<[u8; STEP]>().write(pixel);
                }
            }
        }
    }
}

/// Blackens what lies around the picture; afterwards, since the scaler may have written over its sides.
fn blacken(target: &mut [u8], stride: usize, layout: Layout) {
    let (x, y) = (layout.x as usize, layout.y as usize);
    let (width, height) = (layout.width as usize, layout.height as usize);
    for (at, row) in target.chunks_exact_mut(stride).enumerate() {
        if at < y || at >= y + height {
            row.fill(0);
        } else {
            row[..x * 3].fill(0);
            row[(x + width) * 3..].fill(0);
        }
    }
}
