//! A demonstration: the position of the car after each step.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::car::{HORIZON, START, reward};

/// Reads a demonstration from a file.
pub fn read(path: &Path) -> Result<Vec<[f32; 2]>> {
    let text = std::fs::read_to_string(path).map_err(anyhow::Error::from);
    text.and_then(|text| parse(&text)).with_context(|| format!("the demonstration {}", path.display()))
}

/// Parses a demonstration: a header, then the position after each step.
pub fn parse(text: &str) -> Result<Vec<[f32; 2]>> {
    let mut lines = text.lines();
    ensure!(lines.next().map(str::trim) == Some("x,y"), "its first line must be `x,y`");
    let row = |(i, line): (usize, &str)| {
        let numbers: Option<Vec<f32>> = line.split(',').map(|n| n.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[x, y]) if x.is_finite() && y.is_finite() => Ok([x, y]),
            _ => bail!("line {} must hold two finite numbers, but is `{line}`", i + 2),
        }
    };
    let rows: Result<Vec<_>> = lines.enumerate().map(row).collect();
    let rows = rows?;
    ensure!(rows.len() == HORIZON, "it must have {HORIZON} rows, but has {}", rows.len());
    Ok(rows)
}

/// The demonstration's own mean reward.
pub fn worth(demo: &[[f32; 2]]) -> f32 {
    let mut states = vec![START];
    states.extend(demo.iter().map(|[x, y]| [*x, *y, 0.0]));
    reward(&states)
}
