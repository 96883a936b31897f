//! The image half of a map: a PGM, PNG or BMP file, checked before its pixels are decoded.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

/// The most pixels of an image: a map of so many cells takes about a gigabyte.
const MOST_PIXELS: u64 = 100_000_000;
/// The most pixels along a side.
const MOST_SIDE: u32 = 1 << 15;
/// The most bytes that an image may take once decoded.
const MOST_BYTES: u64 = 512 << 20;
/// A deflated byte expands to at most 1032 bytes.
const BEST_COMPRESSION: u64 = 1100;

/// Reads an image.
///
/// # Errors
///
/// If the file cannot be read, is not an image of a known format, is cut short, or is too large. Nothing is allocated
/// for pixels that the file cannot hold or that are too many.
pub fn read(path: &Path) -> Result<DynamicImage> {
    decode(path).with_context(|| format!("cannot read the map's image {}", path.display()))
}

fn decode(path: &Path) -> Result<DynamicImage> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    ensure!(!about.is_dir(), "it is a folder, not an image");
    ensure!(about.is_file(), "it is a pipe or a device; an image must be a file, whose length is known");
    let mut head = Vec::new();
    file.by_ref().take(64).read_to_end(&mut head)?;
    file.rewind()?;
    ensure!(!head.is_empty(), "it is empty");
    ensure!(
        !head.starts_with(b"version https://git-lfs.github.com/spec/"),
        "it is a Git LFS pointer, which stands for the image that `git lfs pull` gets"
    );
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format()?;
    let format = reader.format();
    let name = match format {
        Some(ImageFormat::Pnm) => "PGM",
        Some(ImageFormat::Png) => "PNG",
        Some(ImageFormat::Bmp) => "BMP",
        _ => bail!("it is neither PGM, PNG nor BMP, the formats that map_server writes"),
    };
    let mut limits = Limits::default();
    limits.max_alloc = Some(2 * MOST_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| explain(&error, name))?;
    let ((width, height), bytes) = (decoder.dimensions(), decoder.total_bytes());
    ensure!(width > 0 && height > 0, "it has {width} × {height} pixels");
    let pixels = u64::from(width) * u64::from(height);
    ensure!(
        pixels <= MOST_PIXELS && width.max(height) <= MOST_SIDE,
        "it has {width} × {height} pixels, but may have at most {} million, and {MOST_SIDE} along a side: crop the map, or \
         save it with a coarser resolution",
        MOST_PIXELS / 1_000_000
    );
    ensure!(
        bytes <= MOST_BYTES,
        "its {width} × {height} pixels take {} MiB, but may take at most {}: save it in 8-bit gray",
        bytes >> 20,
        MOST_BYTES >> 20
    );
    let samples = pixels * u64::from(decoder.color_type().channel_count());
    let least = match (format, head.get(..2)) {
        // Bits, digits, numbers with a blank after each but the last, or bytes.
        (Some(ImageFormat::Pnm), Some(b"P4")) => pixels / 8,
        (Some(ImageFormat::Pnm), Some(b"P1")) => pixels,
        (Some(ImageFormat::Pnm), Some(b"P2" | b"P3")) => 2 * samples - 1,
        (Some(ImageFormat::Pnm), _) => bytes,
        (Some(ImageFormat::Png), _) => bytes / 8 / BEST_COMPRESSION,
        _ => 0,
    };
    ensure!(
        about.len() >= least,
        "it is cut short: it says that it has {width} × {height} pixels, but has only {} bytes",
        about.len()
    );
    DynamicImage::from_decoder(decoder).map_err(|error| explain(&error, name))
}

/// Formats an error of a decoder as one line.
fn explain(error: &ImageError, name: &str) -> anyhow::Error {
    let text = error.to_string().replace('\n', " ");
    let short = matches!(error, ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof)
        || ["end of file", "UnexpectedEof", "failed to fill", "EOF", "truncated"]
            .iter()
            .any(|hint| text.contains(hint));
    match short {
        true => anyhow!("it is cut short: its {name} data end before its last pixel"),
        false => anyhow!("it is not a valid {name} file: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    impl Folder {
        /// Returns the error for a file with these bytes.
        fn says(&self, name: &str, bytes: &[u8]) -> String {
            let path = self.path(name);
            std::fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", read(&path).unwrap_err());
            assert!(error.contains(name) && !error.contains('\n'), "{error}");
            error
        }
    }

    /// Returns the chunks of a PNG that declares this size, with this much deflated data.
    fn png(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
        let crc = |bytes: &[u8]| {
            !bytes.iter().fold(!0_u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
            })
        };
        let chunk = |kind: &[u8], data: &[u8]| {
            let body = [kind, data].concat();
            [&(data.len() as u32).to_be_bytes(), body.as_slice(), &crc(&body).to_be_bytes()].concat()
        };
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
        [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", data), chunk(b"IEND", &[])].concat()
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_in_one_line() {
        let folder = Folder::new();
        let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(folder.says("lfs.pgm", lfs).contains("Git LFS pointer"));
        assert!(folder.says("empty.png", b"").contains("empty"));
        assert!(folder.says("text.pgm", b"once upon a time").contains("neither PGM, PNG nor BMP"));
        assert!(folder.says("photo.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF").contains("neither PGM, PNG nor BMP"));
        let error = format!("{:#}", read(&folder.path("")).unwrap_err());
        assert!(error.contains("folder"), "{error}");
        let error = format!("{:#}", read(&folder.path("lost.png")).unwrap_err());
        assert!(error.contains("lost.png"), "{error}");
        if cfg!(unix) {
            let error = format!("{:#}", read(Path::new("/dev/zero")).unwrap_err());
            assert!(error.contains("/dev/zero: it is a pipe or a device"), "{error}");
        }
    }

    #[test]
    fn files_cut_short_are_recognized() {
        let folder = Folder::new();
        let image = image::GrayImage::from_fn(60, 40, |x, y| image::Luma([(x * y % 251) as u8]));
        for name in ["whole.png", "whole.pgm", "whole.bmp"] {
            let path = folder.path(name);
            image.save(&path).unwrap();
            assert_eq!(read(&path).unwrap().to_luma8(), image);
            let bytes = std::fs::read(&path).unwrap();
            for part in [2, 3] {
                let error = folder.says(&name.replace("whole", "part"), &bytes[..bytes.len() * part / 4]);
                assert!(error.contains("cut short"), "{name}, {part}/4: {error}");
            }
            // A file truncated anywhere gives an error of one line, not a panic.
            for end in (1..bytes.len()).step_by(37) {
                folder.says(&name.replace("whole", "part"), &bytes[..end]);
            }
        }
    }

    #[test]
    fn images_that_are_too_large_are_refused_before_anything_is_allocated() {
        let folder = Folder::new();
        let clock = std::time::Instant::now();
        assert!(folder.says("bomb.png", &png(20_000, 20_000, &[0; 400_000])).contains("20000 × 20000"));
        assert!(folder.says("huge.png", &png(1 << 30, 1 << 30, &[])).contains("1073741824 × 1073741824"));
        assert!(folder.says("long.png", &png(60_000, 3, &[])).contains("along a side"));
        assert!(folder.says("nothing.png", &png(9_000, 9_000, &[])).contains("cut short"));
        assert!(folder.says("nothing.pgm", b"P5 9000 9000 255\n....").contains("cut short"));
        assert!(folder.says("huge.pgm", b"P5 90000 90000 255\n....").contains("90000 × 90000"));
        assert!(folder.says("wide.pgm", b"P6 9900 9900 65535\n....").contains("MiB"));
        folder.says("flat.pgm", b"P5 0 7 255\n....");
        assert!(clock.elapsed().as_secs() < 5);
    }
}
