//! Animated PNGs: browsers play them like GIFs, and colors need no palette.

use std::path::Path;

use anyhow::{Context, Result};
use image::RgbImage;
use png::{BlendOp, ColorType, Compression, Encoder, Filter};

/// The size limit of a file (in bytes).
const MAX_BYTES: usize = 2_000_000;
/// How long the last frame is shown (in milliseconds).
const HOLD: u16 = 2000;

/// Writes frames of equal size, each shown for `delay` milliseconds and the last one for longer, as a PNG that loops.
/// If the file would be too large, every other frame is left out, and the others are shown for twice as long, until it
/// fits.
pub fn write(path: &Path, frames: &[RgbImage], delay: u16) -> Result<()> {
    let png = encode_within(frames, delay, MAX_BYTES)?;
    std::fs::write(path, png).with_context(|| format!("cannot write {}", path.display()))
}

fn encode_within(frames: &[RgbImage], delay: u16, max_bytes: usize) -> Result<Vec<u8>> {
    let mut stride = 1;
    loop {
        // Counted from the end, so that the last frame is kept.
        let mut kept: Vec<_> = frames.iter().rev().step_by(stride).collect();
        kept.reverse();
        let png = encode(&kept, delay.saturating_mul(stride as u16))?;
        if png.len() <= max_bytes || kept.len() == 1 {
            return Ok(png);
        }
        stride *= 2;
    }
}

fn encode(frames: &[&RgbImage], delay: u16) -> Result<Vec<u8>> {
    let (width, height) = frames.first().context("an animation needs a frame")?.dimensions();
    let mut png = Vec::new();
    let mut encoder = Encoder::new(&mut png, width, height);
    encoder.set_color(ColorType::Rgba);
    encoder.set_compression(Compression::High);
    encoder.set_filter(Filter::NoFilter);
    encoder.set_animated(frames.len() as u32, 0)?;
    encoder.set_blend_op(BlendOp::Over)?;
    let mut writer = encoder.write_header()?;
    for (index, frame) in frames.iter().enumerate() {
        let change = Change::new(index.checked_sub(1).map(|before| frames[before]), frame);
        // A size is valid only together with the position that is set.
        writer.reset_frame_position()?;
        writer.set_frame_dimension(change.size[0], change.size[1])?;
        writer.set_frame_position(change.low[0], change.low[1])?;
        writer.set_frame_delay(if index + 1 < frames.len() { delay } else { HOLD }, 1000)?;
        writer.write_image_data(&change.rgba)?;
    }
    writer.finish()?;
    Ok(png)
}

/// The pixels that change from one frame to the next: the smallest rectangle that contains them, by its upper left
/// corner and size, and its colors, transparent where nothing changes.
struct Change {
    low: [u32; 2],
    size: [u32; 2],
    rgba: Vec<u8>,
}

impl Change {
    /// All pixels change if there is no frame before.
    fn new(before: Option<&RgbImage>, now: &RgbImage) -> Self {
        let is_new = |x, y| before.is_none_or(|before| before.get_pixel(x, y) != now.get_pixel(x, y));
        let (mut low, mut high) = ([u32::MAX; 2], [0; 2]);
        for (x, y, _) in now.enumerate_pixels().filter(|&(x, y, _)| is_new(x, y)) {
            low = [low[0].min(x), low[1].min(y)];
            high = [high[0].max(x + 1), high[1].max(y + 1)];
        }
        if high == [0; 2] {
            // A frame has at least one pixel.
            (low, high) = ([0; 2], [1; 2]);
        }
        let pixels = (low[1]..high[1]).flat_map(|y| (low[0]..high[0]).map(move |x| (x, y)));
        let rgba = pixels.flat_map(|(x, y)| match now.get_pixel(x, y).0 {
            [red, green, blue] if is_new(x, y) => [red, green, blue, 255],
            _ => [0; 4],
        });
        Self { low, size: [high[0] - low[0], high[1] - low[1]], rgba: rgba.collect() }
    }
}

#[cfg(test)]
pub mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use image::codecs::png::PngDecoder;
    use image::{AnimationDecoder, DynamicImage, Frame, Rgb};

    use super::*;

    /// Decodes an animation: its frames, and how long each is shown.
    pub fn decode(png: &[u8]) -> Vec<(RgbImage, Duration)> {
        let decoder = PngDecoder::new(Cursor::new(png)).unwrap();
        assert!(decoder.is_apng().unwrap());
        let frames = decoder.apng().unwrap().into_frames().collect_frames().unwrap();
        let rgb = |frame: Frame| DynamicImage::ImageRgba8(frame.into_buffer()).into_rgb8();
        let shown = frames.into_iter().map(|frame| {
            let delay = frame.delay().into();
            (rgb(frame), delay)
        });
        shown.collect()
    }

    /// Frames of noise, half of whose pixels change from each to the next.
    fn noise(count: usize) -> Vec<RgbImage> {
        let color = |x: u32, y: u32, frame: u32| {
            let hash = (x * 7919 + y * 104_729 + (frame + (x + y) % 2) / 2 * 15_485_863).wrapping_mul(0x9e37_79b9);
            Rgb([16, 8, 0].map(|shift| (hash >> shift) as u8))
        };
        (0..count as u32).map(|frame| RgbImage::from_fn(40, 30, |x, y| color(x, y, frame))).collect()
    }

    #[test]
    fn frames_are_kept_to_the_bit() {
        let mut frames = noise(5);
        // A frame without a change, and one with a single new pixel.
        frames.push(frames[4].clone());
        frames.push(frames[4].clone());
        frames[6].put_pixel(39, 29, Rgb([1, 2, 3]));
        let png = encode_within(&frames, 70, usize::MAX).unwrap();
        let decoded = decode(&png);
        assert!(decoded.iter().map(|(frame, _)| frame).eq(&frames));
        let (last, others) = decoded.split_last().unwrap();
        assert!(others.iter().all(|(_, delay)| delay.as_millis() == 70) && last.1.as_millis() == u128::from(HOLD));
        // Zero plays are endless ones.
        let reader = png::Decoder::new(Cursor::new(png)).read_info().unwrap();
        assert_eq!(reader.info().animation_control.unwrap().num_plays, 0);
    }

    #[test]
    fn a_file_that_would_be_too_large_has_fewer_frames() {
        let frames = noise(10);
        let whole = encode_within(&frames, 50, usize::MAX).unwrap();
        let (limit, one) = (whole.len() / 2, encode_within(&frames[9..], 50, 0).unwrap());
        let fewer = encode_within(&frames, 50, limit).unwrap();
        assert!(fewer.len() <= limit && fewer.len() > one.len());
        let decoded = decode(&fewer);
        assert!(decoded.len() < 6 && decoded[decoded.len() - 1].0 == frames[9]);
        assert!(decoded[0].1.as_millis() >= 100);
        // The last frame is kept, whatever the limit.
        assert_eq!(decode(&encode_within(&frames, 50, 0).unwrap()).len(), 1);
    }
}
