//! A circuit: its center line and widths, read from a CSV, and how much room a point has.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::curve::{Curve, Place, distance};

/// The distance between samples of a curve (in meters).
const SPACING: f64 = 0.5;
/// The least number of points of a file.
const FEWEST: usize = 8;
/// How far along a line the place of a point is searched for (in meters): farther than a car gets between two searches.
pub const REACH: f64 = 15.0;

/// The circuit that comes with the example, drawn for it: a hairpin, a chicane, a fast sweep.
const OWN: &str = include_str!("circuit.csv");

/// A circuit. Arc lengths are those of the center line, from its first point.
#[derive(Debug)]
pub struct Track {
    pub name: String,
    pub center: Curve,
    /// The distances from the center line to the left and right edge at each of its samples (in meters).
    widths: Vec<[f64; 2]>,
}

impl Track {
    /// Reads the circuit in a file, or the one that comes with the example.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Self::parse("the example's own circuit", OWN) };
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        read(path).and_then(|text| Self::parse(&name, &text)).with_context(|| format!("the track {}", path.display()))
    }

    /// Parses a circuit: on each line a point of the center line, and the distances to the right and left edge.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let rows = rows(text, ["x_m", "y_m", "w_tr_right_m", "w_tr_left_m"])?;
        for (line, [.., right, left]) in &rows {
            ensure!(*right > 0.0 && *left > 0.0, "line {line} has a width that is not above 0 m: {right}, {left}");
        }
        let points: Vec<[f64; 2]> = rows.iter().map(|(_, [x, y, ..])| [*x, *y]).collect();
        let center = Curve::through(&points, SPACING);
        // The widths between two points of the file are interpolated.
        let count = points.len();
        let mut at: Vec<f64> = Vec::with_capacity(count + 1);
        for point in &points {
            let near = at.last().copied().unwrap_or(0.0);
            // Points of a file may be far apart, so the search begins where the chord ends.
            let chord = at.len().checked_sub(1).map_or(0.0, |last| distance(points[last], *point));
            at.push(center.place(*point, near + chord, (0.5 * chord).max(REACH)).along);
        }
        at.push(at[0] + center.length());
        let mut piece = 0;
        let widths = (0..center.samples().len()).map(|k| {
            let along = center.spacing() * k as f64;
            while piece + 1 < count && at[piece + 1] <= along {
                piece += 1;
            }
            let t = ((along - at[piece]) / (at[piece + 1] - at[piece]).max(1e-9)).clamp(0.0, 1.0);
            let (a, b) = (rows[piece].1, rows[(piece + 1) % count].1);
            [a[3] + t * (b[3] - a[3]), a[2] + t * (b[2] - a[2])]
        });
        Ok(Self { name: name.into(), widths: widths.collect(), center })
    }

    /// The distances from the center line to the left and right edge at an arc length.
    pub fn widths(&self, along: f64) -> [f64; 2] {
        let place = along.rem_euclid(self.center.length()) / self.center.spacing();
        let i = (place as usize).min(self.widths.len() - 1);
        let (a, b) = (self.widths[i], self.widths[(i + 1) % self.widths.len()]);
        let t = place - i as f64;
        [a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])]
    }

    /// The width of the track where it is narrowest.
    pub fn narrowest(&self) -> f64 {
        self.widths.iter().map(|[left, right]| left + right).fold(f64::INFINITY, f64::min)
    }

    /// The distance from a place to the nearer edge, measured across the center line; below 0 off the track.
    pub fn room(&self, place: Place) -> f64 {
        let [left, right] = self.widths(place.along);
        (left - place.offset).min(right + place.offset)
    }
}

/// Reads a race line: on each line one of its points. It must be within the track.
pub fn race_line(path: &Path, track: &Track) -> Result<Curve> {
    let parse = |text: String| {
        let rows = rows(&text, ["x_m", "y_m"])?;
        for (line, [x, y]) in &rows {
            let room = track.room(track.center.nearest([*x, *y]));
            ensure!(room > -1.0, "line {line} is {:.1} m off the track: do the two belong together?", -room);
        }
        Ok(Curve::through(&rows.iter().map(|(_, point)| *point).collect::<Vec<_>>(), SPACING))
    };
    read(path).and_then(parse).with_context(|| format!("the race line {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    Ok(std::fs::read_to_string(path)?)
}

/// Parses a closed curve: lines of `N` numbers (more are ignored), each with its line number. A line that begins with
/// `#`, or a first line of names, is skipped.
fn rows<const N: usize>(text: &str, names: [&str; N]) -> Result<Vec<(usize, [f64; N])>> {
    let mut rows: Vec<(usize, [f64; N])> = Vec::new();
    for (line, text) in text.lines().enumerate().map(|(i, text)| (i + 1, text.trim())) {
        if text.is_empty() || text.starts_with('#') || (rows.is_empty() && text.starts_with(names[0])) {
            continue;
        }
        let numbers: Vec<f64> = text.split([',', ';']).map_while(|part| part.trim().parse().ok()).collect();
        let row = numbers.get(..N).and_then(|row| <[f64; N]>::try_from(row).ok());
        match row.filter(|row| row.iter().all(|number| number.is_finite())) {
            Some(row) => rows.push((line, row)),
            None => bail!("line {line} must hold {N} finite numbers ({}), but is `{text}`", names.join(",")),
        }
    }
    let point = |(_, row): &(usize, [f64; N])| [row[0], row[1]];
    // A file may repeat its first point at the end.
    if rows.len() > 1 && distance(point(&rows[0]), point(&rows[rows.len() - 1])) < 1e-6 {
        rows.pop();
    }
    ensure!(rows.len() >= FEWEST, "it has {} points, but a circuit needs at least {FEWEST}", rows.len());
    let mut longest = 0.0_f64;
    for pair in rows.windows(2) {
        let step = distance(point(&pair[0]), point(&pair[1]));
        ensure!(step > 1e-6, "line {} repeats the point before it", pair[1].0);
        longest = longest.max(step);
    }
    let gap = distance(point(&rows[0]), point(&rows[rows.len() - 1]));
    ensure!(
        gap <= 3.0 * longest,
        "the curve is open: its last point is {gap:.0} m from its first, and no other two neighbors are more than \
         {longest:.0} m apart"
    );
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    /// A ring of radius 50 m, from (50, 0) counter-clockwise, with edges 4 m to the right and 3 m to the left.
    fn ring(points: usize) -> Vec<String> {
        let point = |i: usize| {
            let (s, c) = (TAU * i as f64 / points as f64).sin_cos();
            format!("{},{},4,3", 50.0 * c, 50.0 * s)
        };
        (0..points).map(point).collect()
    }

    #[test]
    fn room_is_the_distance_to_the_nearer_edge() {
        let track = Track::parse("ring", &ring(60).join("\n")).unwrap();
        let room = |radius: f64| track.room(track.center.nearest([0.0, radius]));
        // The left edge is the inner one.
        for (radius, expected) in [(50.0, 3.0), (48.0, 1.0), (53.0, 1.0), (50.5, 3.5), (46.0, -1.0), (56.0, -2.0)] {
            assert!((room(radius) - expected).abs() < 0.01, "{} for {expected} at {radius}", room(radius));
        }
        assert!((track.narrowest() - 7.0).abs() < 1e-9);
    }

    #[test]
    fn widths_are_interpolated_between_points() {
        let rows: Vec<String> =
            ring(40).iter().enumerate().map(|(i, row)| row.replace(",4,3", &format!(",{},5", 4 + i % 2))).collect();
        let track = Track::parse("ring", &rows.join("\n")).unwrap();
        let step = track.center.length() / 40.0;
        for (place, right) in [(0.0, 4.0), (0.5, 4.5), (1.0, 5.0), (1.25, 4.75), (39.5, 4.5)] {
            let [left, found] = track.widths(place * step);
            assert!((found - right).abs() < 0.03 && (left - 5.0).abs() < 1e-9, "{found} for {right} at {place}");
        }
    }

    #[test]
    fn headers_comments_and_a_repeated_point_are_accepted() {
        let mut rows = ring(30);
        rows.push(rows[0].clone());
        for head in ["# x_m,y_m,w_tr_right_m,w_tr_left_m\n", "x_m,y_m,w_tr_right_m,w_tr_left_m\r\n", "\n"] {
            let track = Track::parse("ring", &format!("{head}{}\n", rows.join("\r\n"))).unwrap();
            assert!((track.center.length() - TAU * 50.0).abs() < 0.01);
        }
    }

    #[test]
    fn bad_files_are_one_clear_sentence() {
        let says = |rows: &[String], what: &str| {
            let error = Track::parse("ring", &rows.join("\n")).unwrap_err().to_string();
            assert!(error.contains(what) && !error.contains('\n'), "{error}");
        };
        let with = |i: usize, row: &str| {
            let mut rows = ring(30);
            rows[i] = row.into();
            rows
        };
        says(&[], "it has 0 points");
        says(&ring(7), "it has 7 points, but a circuit needs at least 8");
        says(&ring(30)[..20], "the curve is open: its last point is 91 m from its first");
        says(&with(4, "1,2,3"), "line 5 must hold 4 finite numbers (x_m,y_m,w_tr_right_m,w_tr_left_m), but is `1,2,3`");
        says(&with(4, "1,2,three,4"), "line 5 must hold");
        says(&with(4, "1,NaN,3,4"), "line 5 must hold");
        says(&with(2, "40,20,0,3"), "line 3 has a width that is not above 0 m: 0, 3");
        says(&with(2, "40,20,4,-1"), "line 3 has a width that is not above 0 m: 4, -1");
        says(&with(2, &ring(30)[1]), "line 3 repeats the point before it");
        let missing = format!("{:#}", Track::load(Some(Path::new("no/such/track.csv"))).unwrap_err());
        assert!(missing.starts_with("the track no/such/track.csv: ") && !missing.contains('\n'), "{missing}");
    }

    #[test]
    fn a_race_line_must_belong_to_its_track() {
        let track = Track::parse("ring", &ring(60).join("\n")).unwrap();
        let folder = std::env::temp_dir().join(format!("gibbs-race-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("line.csv");
        let write = |radius: f64| {
            let rows: String = (0..60)
                .map(|i| {
                    let (s, c) = (TAU * f64::from(i) / 60.0).sin_cos();
                    format!("{},{}\n", radius * c, radius * s)
                })
                .collect();
            std::fs::write(&path, format!("# x_m,y_m\n{rows}")).unwrap();
        };
        write(52.0);
        let line = race_line(&path, &track);
        write(70.0);
        let error = race_line(&path, &track).map(|_| ()).unwrap_err();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!((line.unwrap().length() - TAU * 52.0).abs() < 0.01);
        assert!(format!("{error:#}").contains("line 2 is 16.0 m off the track"), "{error:#}");
    }

    #[test]
    fn the_own_circuit_is_a_circuit() {
        let track = Track::load(None).unwrap();
        assert!((2000.0..3000.0).contains(&track.center.length()));
        let turned: f64 = track.center.samples().iter().map(|sample| sample.curvature * track.center.spacing()).sum();
        assert!((turned.abs() - TAU).abs() < 0.01, "it turns by {turned} rad");
    }
}
