//! The YAML half of a map, parsed as leniently as by `map_server` and checked as strictly as a drive needs.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_norway::{Mapping, Value};

/// The largest YAML file that is read (in bytes). Real ones have a few hundred.
const MOST_BYTES: u64 = 64 << 10;
/// The maximum nesting depth of brackets. `map_server` files need one level.
const MOST_NESTING: usize = 32;
/// Meters per pixel.
const RESOLUTIONS: std::ops::RangeInclusive<f64> = 1e-4..=1e3;
/// The maximum distance of an origin from zero (in meters): up to here f64 resolves less than a micrometer.
const FARTHEST: f64 = 1e9;

/// The contents of the file. Other keys are ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    /// The image, relative to the YAML file.
    pub image: PathBuf,
    /// Meters per pixel.
    pub resolution: f64,
    /// The pose of the lower-left corner of the image in the world: x, y (in meters), yaw (in radians,
    /// counter-clockwise).
    pub origin: [f64; 3],
    pub negate: bool,
    pub occupied_thresh: f64,
    pub free_thresh: f64,
    pub mode: Mode,
}

/// How a pixel becomes an occupancy p. All modes use the same three classes and thresholds: a robot may not enter
/// partly occupied cells, so the shades of `scale` and `raw` between the thresholds count as unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// p = 1 − level/255 (level/255 if `negate`).
    #[default]
    Trinary,
    /// p as in `Trinary`.
    Scale,
    /// The level is p in percent, above 100 unknown; `negate` has no effect.
    Raw,
}

impl Meta {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is too large, or is not a valid `map_server` file.
    pub fn load(path: &Path) -> Result<Self> {
        let read = || -> Result<Vec<u8>> {
            let file = File::open(path)?;
            ensure!(!file.metadata()?.is_dir(), "it is a folder, not a YAML file");
            let mut bytes = Vec::new();
            file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
            ensure!(
                bytes.len() as u64 <= MOST_BYTES,
                "it is larger than {} KiB, too large for a map_server file; --map takes the YAML file, not the image",
                MOST_BYTES >> 10
            );
            Ok(bytes)
        };
        let bytes = read().with_context(|| format!("cannot read the map {}", path.display()))?;
        let parsed = decode(&bytes).and_then(|text| Self::parse(&text));
        parsed.with_context(|| format!("{} is not a map_server file", path.display()))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// If it is not YAML, or if a value is missing or out of its range.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(nesting(text) <= MOST_NESTING, "its brackets nest more than {MOST_NESTING} levels deep");
        // Only the first document counts, as in yaml-cpp.
        let document = serde_norway::Deserializer::from_str(text).next().context("it is empty")?;
        let Value::Mapping(map) = Value::deserialize(document)? else {
            bail!("it is not a list of `key: value` lines");
        };
        let threshold = |name: &str| {
            let value = number(get(&map, name)?, name)?;
            ensure!((0.0..=1.0).contains(&value), "{name} is {value}, but must be between 0 and 1");
            Ok(value)
        };
        let meta = Self {
            image: image(&map)?,
            resolution: number(get(&map, "resolution")?, "resolution")?,
            origin: origin(&map)?,
            negate: negate(get(&map, "negate")?)?,
            occupied_thresh: threshold("occupied_thresh")?,
            free_thresh: threshold("free_thresh")?,
            mode: mode(map.get("mode"))?,
        };
        let Self { resolution, free_thresh, occupied_thresh, .. } = meta;
        ensure!(
            RESOLUTIONS.contains(&resolution),
            "resolution is {resolution}, but must be between {} and {} (meters a pixel)",
            RESOLUTIONS.start(),
            RESOLUTIONS.end()
        );
        ensure!(
            free_thresh <= occupied_thresh,
            "free_thresh is {free_thresh}, above occupied_thresh, which is {occupied_thresh}"
        );
        Ok(meta)
    }
}

/// Decodes a file in any of the encodings that yaml-cpp recognizes by a byte order mark; without one, UTF-8.
fn decode(bytes: &[u8]) -> Result<String> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<_> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units).context("it is not valid UTF-16")
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => match std::str::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => bail!("it is not text in UTF-8; --map takes the YAML file, not the image"),
        },
    }
}

/// An upper bound on the nesting depth; quotes and comments are not parsed. The parser takes quadratic time in the
/// depth, so this runs first.
fn nesting(text: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    let dashes = |line: &str| line.split_whitespace().filter(|word| matches!(*word, "-" | "?" | ":")).count();
    most.max(text.lines().map(dashes).max().unwrap_or(0))
}

fn get<'a>(map: &'a Mapping, name: &str) -> Result<&'a Value> {
    map.get(name).with_context(|| format!("{name} is missing"))
}

/// Formats a value roughly as the user wrote it, for a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "empty".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => format!("{:?}", value.chars().take(60).collect::<String>()),
        Value::Sequence(values) => format!("a list of {}", values.len()),
        Value::Mapping(_) | Value::Tagged(_) => "a structure".into(),
    }
}

/// Parses a finite number. Like yaml-cpp, it does not distinguish `"0.05"` from `0.05`.
fn number(value: &Value, name: &str) -> Result<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| anyhow!("{name} is {}, but must be a number", shown(value)))?;
    ensure!(number.is_finite(), "{name} is {number}, but must be finite");
    Ok(number)
}

fn image(map: &Mapping) -> Result<PathBuf> {
    match get(map, "image")? {
        Value::String(name) if !name.is_empty() => Ok(PathBuf::from(name)),
        other => bail!("image is {}, but must be the name of a file (in quotes, if it is a number)", shown(other)),
    }
}

fn origin(map: &Mapping) -> Result<[f64; 3]> {
    let value = get(map, "origin")?;
    let Value::Sequence(values) = value else { bail!("origin is {}, but must be [x, y, yaw]", shown(value)) };
    let numbers: Vec<_> = values.iter().map(|value| number(value, "origin")).collect::<Result<_>>()?;
    let [x, y, yaw] = numbers[..] else {
        bail!("origin has {} numbers, but must have three: x, y, yaw", numbers.len());
    };
    for (axis, value) in [("x", x), ("y", y)] {
        ensure!(value.abs() <= FARTHEST, "origin's {axis} is {value}, but must be within {FARTHEST:e} m of zero");
    }
    Ok([x, y, yaw % std::f64::consts::TAU])
}

/// Parses a number, or one of the words of YAML 1.1, which yaml-cpp reads in lower case, in capitals and capitalized.
fn negate(value: &Value) -> Result<bool> {
    let word = match value {
        Value::Bool(yes) => return Ok(*yes),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_ascii_lowercase(),
        _ => String::new(),
    };
    match word.as_str() {
        "1" | "y" | "yes" | "true" | "on" => Ok(true),
        "0" | "n" | "no" | "false" | "off" => Ok(false),
        _ => bail!("negate is {}, but must be 0 or 1", shown(value)),
    }
}

fn mode(value: Option<&Value>) -> Result<Mode> {
    match value {
        None => Ok(Mode::Trinary),
        Some(Value::String(name)) if name == "trinary" => Ok(Mode::Trinary),
        Some(Value::String(name)) if name == "scale" => Ok(Mode::Scale),
        Some(Value::String(name)) if name == "raw" => Ok(Mode::Raw),
        Some(other) => bail!("mode is {}, but must be trinary, scale or raw", shown(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str =
        "image: m.png\nresolution: 0.1\norigin: [1.0, 2.0, 0.0]\nnegate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.2\n";

    #[test]
    fn the_same_file_in_every_spelling() {
        let plain = Meta::parse(FULL).unwrap();
        assert_eq!((plain.resolution, plain.origin, plain.negate), (0.1, [1.0, 2.0, 0.0], false));
        for (from, to) in [
            ("resolution: 0.1", "resolution: \"0.100000\""),
            ("resolution: 0.1", "resolution: 1e-1"),
            ("[1.0, 2.0, 0.0]", "['1', \"2\", 0]"),
            ("[1.0, 2.0, 0.0]", "\n- 1\n- 2\n- 0"),
            ("negate: 0", "negate: no"),
            ("negate: 0", "negate: \"0\""),
            ("negate: 0", "negate: Off"),
            ("image:", "# a comment [[\n---\nimage:"),
            ("free_thresh: 0.2\n", "free_thresh: 0.2\nmode: trinary\nother: [a, {b: c}]\n...\n---\n]second"),
        ] {
            assert!(FULL.contains(from));
            assert_eq!(Meta::parse(&FULL.replace(from, to)).unwrap(), plain, "{to}");
        }
        for yes in ["1", "yes", "YES", "True", "on", "y", "\"1\""] {
            assert!(Meta::parse(&FULL.replace("negate: 0", &format!("negate: {yes}"))).unwrap().negate, "{yes}");
        }
        let utf16 = |unit: fn(u16) -> [u8; 2], mark: [u8; 2]| {
            [mark.to_vec(), FULL.encode_utf16().flat_map(unit).collect()].concat()
        };
        let marked = [b"\xef\xbb\xbf".as_slice(), FULL.as_bytes()].concat();
        for bytes in [marked, utf16(u16::to_le_bytes, [0xff, 0xfe]), utf16(u16::to_be_bytes, [0xfe, 0xff])] {
            assert_eq!(Meta::parse(&decode(&bytes).unwrap()).unwrap(), plain);
        }
    }

    #[test]
    fn malformed_files_are_refused_by_name() {
        for (from, to, what) in [
            ("resolution: 0.1", "resolution: 0", "resolution is 0"),
            ("resolution: 0.1", "resolution: -0.05", "resolution is -0.05"),
            ("resolution: 0.1", "resolution: .nan", "resolution is NaN"),
            ("resolution: 0.1", "resolution: 1e-300", "resolution is"),
            ("resolution: 0.1", "resolution: 1e300", "resolution is"),
            ("resolution: 0.1", "resolution: fine", "resolution is \"fine\""),
            ("resolution: 0.1", "resolution:", "resolution is empty"),
            ("resolution: 0.1\n", "", "resolution is missing"),
            ("[1.0, 2.0, 0.0]", "[1.0, 2.0]", "origin has 2 numbers"),
            ("[1.0, 2.0, 0.0]", "[1.0, 2.0, 0.0, 0.0]", "origin has 4 numbers"),
            ("[1.0, 2.0, 0.0]", "12", "origin is 12"),
            ("[1.0, 2.0, 0.0]", "[.inf, 2.0, 0.0]", "origin is inf"),
            ("[1.0, 2.0, 0.0]", "[1e300, 2.0, 0.0]", "origin's x"),
            ("negate: 0", "negate: 2", "negate is 2"),
            ("negate: 0", "negate: perhaps", "negate is \"perhaps\""),
            ("occupied_thresh: 0.65", "occupied_thresh: 65", "occupied_thresh is 65"),
            ("free_thresh: 0.2", "free_thresh: 0.7", "free_thresh is 0.7"),
            ("free_thresh: 0.2", "free_thresh: 0.2\nmode: quaternary", "mode is \"quaternary\""),
            ("image: m.png", "image: [m.png", "line"),
            ("image: m.png", "image: 12", "image is 12"),
            ("image: m.png", "image: \"\"", "image is \"\""),
        ] {
            assert!(FULL.contains(from));
            let error = format!("{:#}", Meta::parse(&FULL.replace(from, to)).unwrap_err());
            assert!(error.contains(what) && !error.contains('\n'), "{to}: {error}");
        }
        for text in ["", "- 1\n- 2\n", "just words"] {
            assert!(Meta::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hostile_files_are_refused_at_once() {
        let clock = std::time::Instant::now();
        let laughs: String = (1..40).map(|i| format!("a{i}: &a{i} [*a{0},*a{0},*a{0}]\n", i - 1)).collect();
        for text in [
            "[".repeat(60_000),
            "{a: ".repeat(15_000),
            "- ".repeat(30_000),
            "? ".repeat(30_000),
            format!("a0: &a0 [x]\n{laughs}{FULL}"),
        ] {
            assert!(Meta::parse(&text).is_err(), "{}", &text[..20]);
        }
        // Only the first byte order mark is one; the parser treats the others as text.
        let marks = decode(&b"\xef\xbb\xbf".repeat(20_000)).unwrap();
        assert!(marks.chars().count() == 19_999 && Meta::parse(&marks).is_err());
        assert!(clock.elapsed().as_secs() < 10);
        assert!(Meta::load(Path::new("/dev/zero")).is_err());
        let folder = format!("{:#}", Meta::load(&std::env::temp_dir()).unwrap_err());
        assert!(folder.contains("folder"), "{folder}");
    }
}
