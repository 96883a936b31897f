//! The length of the shortest way to the goal around the wall, as a sampled field.

use anyhow::Result;
use gibbs::Grid;

use crate::car::{DISCS, GOAL, RADIUS};

/// The side of a cell, and half the side of the field, which is centered at the origin (in meters).
const CELL: f32 = 0.02;
const REACH: f32 = 1.8;
/// The clearance to the discs (in meters): cells nearer than this count as wall.
const MARGIN: f32 = 0.04;

/// Solves |∇T| = 1 with T = 0 at the goal by sweeping the grid in its four diagonal orders until nothing changes (H.
/// Zhao, *A fast sweeping method for eikonal equations*, 2005), then continues T into the discs, so that interpolation
/// beside a disc is valid.
pub fn field() -> Result<Grid> {
    let n = (2.0 * REACH / CELL) as usize;
    let at = |i: usize| -REACH + CELL * (i as f32 + 0.5);
    let blocked = |i: usize, j: usize| DISCS.iter().any(|[x, y]| (at(i) - x).hypot(at(j) - y) < RADIUS + MARGIN);
    let far = 1e3_f32;
    let mut time = vec![far; n * n];
    for j in 0..n {
        for i in 0..n {
            let distance = (at(i) - GOAL[0]).hypot(at(j) - GOAL[1]);
            if distance < 2.0 * CELL {
                time[j * n + i] = distance;
            }
        }
    }
    sweep(&mut time, n, CELL, &blocked);
    // Continues from the free cells into the discs at ten times the cost, so that cells inside are always worse than
    // cells outside.
    let free: Vec<bool> = (0..n * n).map(|at| !blocked(at % n, at / n)).collect();
    sweep(&mut time, n, 10.0 * CELL, &|i, j| free[j * n + i]);
    Ok(Grid::new(n, n, CELL, [-REACH, -REACH], time)?.with_outside(10.0)?)
}

/// Runs Godunov's upwind scheme in alternating orders; `fixed` cells keep their values.
fn sweep(time: &mut [f32], n: usize, cell: f32, fixed: &dyn Fn(usize, usize) -> bool) {
    loop {
        let mut changed = false;
        for order in 0..4 {
            for a in 0..n {
                for b in 0..n {
                    let i = if order & 1 == 0 { b } else { n - 1 - b };
                    let j = if order & 2 == 0 { a } else { n - 1 - a };
                    if fixed(i, j) {
                        continue;
                    }
                    let neighbor = |i: Option<usize>, j: Option<usize>| match (i, j) {
                        (Some(i), Some(j)) if i < n && j < n => time[j * n + i],
                        _ => f32::MAX,
                    };
                    let (x, y) = (
                        neighbor(i.checked_sub(1), Some(j)).min(neighbor(Some(i + 1), Some(j))),
                        neighbor(Some(i), j.checked_sub(1)).min(neighbor(Some(i), Some(j + 1))),
                    );
                    let apart = (x - y).abs();
                    let next = if apart >= cell {
                        x.min(y) + cell
                    } else {
                        0.5 * (x + y + (2.0 * cell * cell - apart * apart).sqrt())
                    };
                    if next < time[j * n + i] - 1e-6 {
                        time[j * n + i] = next;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            return;
        }
    }
}
