//! The noise: known answers of the generator, pinned values of the stream, its moments, and that rows are drawn from
//! it.

mod common;

use common::{cpu, engines};
use gibbs::noise::normal::normals;
use gibbs::noise::philox::{key, philox};
use gibbs::{Mppi, MppiOptions, Noise, Task, models::DoubleIntegrator};

#[test]
fn philox_gives_the_known_answers() {
    // From the reference implementation (Salmon et al. 2011).
    assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    let digits_of_pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    assert_eq!(philox(digits_of_pi, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    assert_eq!(key(0x0123_4567_89ab_cdef), [0x89ab_cdef, 0x0123_4567]);
}

#[test]
fn value_stability() {
    // If this fails, every recorded run of every user changes. Such a change must be deliberate.
    let bits = |seed, update, row, block| normals(seed, update, row, block).map(f32::to_bits);
    assert_eq!(bits(0, 0, 0, 0), PINNED[0]);
    assert_eq!(bits(42, 3, 1000, 7), PINNED[1]);
    assert_eq!(bits(u64::MAX, u32::MAX, u32::MAX, u32::MAX), PINNED[2]);
}

/// The bits of three blocks, as drawn by the first version.
const PINNED: [[u32; 4]; 3] = [
    [0x3d0f_584e, 0xbf81_196c, 0xbfcf_3ff1, 0x3e4c_5b30],
    [0x3ef1_b92a, 0x4020_4cd9, 0x3f67_6a23, 0xbe46_a889],
    [0x3e8a_8a39, 0xc013_a3a2, 0xbf3d_0972, 0xba86_a8b9],
];

#[test]
fn a_normal_is_the_transform_of_its_words() {
    // The Box–Muller transform in f64.
    for row in 0..20_000 {
        let z = normals(9, 1, row, 2);
        let words = philox([row, 2, 1, 0], key(9));
        for (pair, z) in words.chunks(2).zip(z.chunks(2)) {
            let unit = |word: u32| f64::from(word >> 9) / f64::from(1_u32 << 23);
            let r = (-2.0 * (1.0 - unit(pair[0])).ln()).sqrt();
            // The top two bits select the quadrant, the others the angle within it, from −½ to ½.
            let quarters = f64::from(pair[1] >> 30) + unit(pair[1] << 2) - 0.5;
            let (s, c) = (quarters * std::f64::consts::FRAC_PI_2).sin_cos();
            assert!((f64::from(z[0]) - r * c).abs() < 5e-6 && (f64::from(z[1]) - r * s).abs() < 5e-6, "row {row}");
        }
    }
}

#[test]
fn a_million_draws_have_the_moments_of_a_normal() {
    const ROWS: u32 = 250_000;
    let draws: Vec<f64> = (0..ROWS).flat_map(|row| normals(1, 0, row, 0)).map(f64::from).collect();
    let n = draws.len() as f64;
    let moment = |p: i32| draws.iter().map(|z| z.powi(p)).sum::<f64>() / n;
    // Five standard errors of each estimate, from the variance of z^p for a standard normal z.
    for (p, truth, variance) in
        [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (5, 0.0, 945.0), (6, 15.0, 10170.0)]
    {
        let bound = 5.0 * f64::sqrt(variance / n);
        assert!((moment(p) - truth).abs() < bound, "E z^{p} is {}, not {truth} ± {bound}", moment(p));
    }
    // The largest draw is beyond four standard deviations, and within the limit of 23 bits.
    let largest = draws.iter().fold(0.0_f64, |most, z| most.max(z.abs()));
    assert!((4.3..=5.65).contains(&largest), "{largest}");
    for (bound, share) in [(1.0, 0.317_310_5), (2.0, 0.045_500_3), (3.0, 0.002_699_8)] {
        let beyond = draws.iter().filter(|z| z.abs() > bound).count() as f64 / n;
        assert!((beyond - share).abs() < 5.0 * (share / n).sqrt(), "{beyond} lie beyond {bound}, not {share}");
    }
    // Neighbors in a block, in a row, and in the next row are uncorrelated.
    for lag in [1, 2, 3, 4, 64] {
        let product = draws.iter().zip(&draws[lag..]).map(|(a, b)| a * b).sum::<f64>() / n;
        assert!(product.abs() < 5.0 / n.sqrt(), "correlation {product} at lag {lag}");
    }
}

#[test]
fn every_part_of_the_counter_and_of_the_seed_matters() {
    let mut seen = std::collections::HashSet::new();
    for seed in [0, 1, 1 << 32] {
        for (update, row, block) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            assert!(seen.insert(normals(seed, update, row, block).map(f32::to_bits)));
        }
    }
    assert_eq!(seen.len(), 12);
}

fn options(samples: usize) -> MppiOptions<2> {
    MppiOptions {
        task: Task { horizon: 7, seed: 77, ..Default::default() },
        samples,
        noise: Noise::Diagonal([1.0, 1.0]),
        weighting: gibbs::Temperature::Fixed(1.0).into(),
        ..Default::default()
    }
}

#[test]
fn rows_are_the_stream_of_normals() {
    for engine in engines() {
        let name = engine.name();
        // With a fused multiply-add the lanes round exactly like plain f32.
        let exact = ["AVX2", "AVX-512", "NEON"].iter().any(|set| name.contains(set));
        let mut mppi = Mppi::new(&engine, DoubleIntegrator::default(), options(333)).unwrap();
        for update in 0..3 {
            mppi.set_controls(&[[0.0; 2]; 7]).unwrap();
            mppi.plan(&[0.0; 4]).unwrap();
            let samples = mppi.samples().unwrap();
            for k in 0..333 {
                for (d, v) in samples.controls(k).iter().flatten().enumerate() {
                    let z = normals(77, update, k as u32, d as u32 / 4)[d % 4];
                    let same = if exact { *v == z } else { (v - z).abs() < 1e-5 };
                    assert!(same, "{name}: {v} against {z} at coordinate {d} of row {k} in update {update}");
                }
            }
        }
    }
}

#[test]
fn a_deviation_of_zero_leaves_a_control_alone() {
    for engine in engines() {
        let noise = Noise::Diagonal([0.0, 2.0]);
        let options = MppiOptions { noise, initial: [0.25, 0.5], ..options(100) };
        let mut mppi = Mppi::new(&engine, DoubleIntegrator::default(), options).unwrap();
        let plan = mppi.plan(&[1.0, 1.0, 0.0, 0.0]).unwrap().controls().to_vec();
        assert!(plan.iter().all(|[still, moved]| (still - 0.25).abs() < 1e-6 && *moved != 0.5), "{}", engine.name());
        let samples = mppi.samples().unwrap();
        assert!((0..100).all(|k| samples.controls(k).iter().all(|[still, _]| *still == 0.25)));
    }
}

#[test]
fn a_full_covariance_is_that_of_the_rows() {
    let sigma = [[0.6_f32, -0.3], [-0.3, 0.9]];
    let mut mppi = Mppi::new(
        &cpu(),
        DoubleIntegrator::default(),
        MppiOptions { noise: Noise::Covariance(sigma), ..options(20_000) },
    )
    .unwrap();
    mppi.plan(&[0.0; 4]).unwrap();
    let samples = mppi.samples().unwrap();
    let draws: Vec<[f32; 2]> = (0..samples.len()).flat_map(|k| samples.controls(k)).collect();
    for i in 0..2 {
        for j in 0..2 {
            let found = draws.iter().map(|v| f64::from(v[i] * v[j])).sum::<f64>() / draws.len() as f64;
            let spread = f64::from(sigma[i][i] * sigma[j][j] + sigma[i][j] * sigma[i][j]).sqrt();
            let bound = 5.0 * spread / (draws.len() as f64).sqrt();
            assert!((found - f64::from(sigma[i][j])).abs() < bound, "Σ at ({i}, {j}) is {found}");
        }
    }
}
