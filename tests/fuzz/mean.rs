//! `WeightedMean`: rows and log-weights of any size.

use gibbs::{Engine, WeightedMean};

use crate::draw::Draw;
use crate::{agreed, bits, cpus, fuzz, gpus};

fn case(draw: &mut Draw, engines: &[Engine; 2]) -> bool {
    let mut twins = [0, 1].map(|i| WeightedMean::new(&engines[i]).with_second_moment());
    for _ in 0..4 {
        let (count, width) = (1 + draw.index(700), 1 + draw.index(20));
        let spread = draw.one_of(&[0.1, 10.0, 1e4]);
        let log_weights: Vec<f32> =
            (0..count).map(|_| if draw.chance(0.02) { draw.awkward() } else { draw.number(-spread, spread) }).collect();
        let mut rows = draw.numbers(count * width, -3.0, 3.0);
        if draw.chance(0.02) {
            rows.pop();
        }
        let found = agreed([0, 1].map(|i| {
            twins[i].compute(&rows, &log_weights).map(|average| {
                let [mean, second] = [average.mean(), average.second_moment().expect("it was asked for")];
                assert!(mean.iter().chain(second).all(|m| m.is_finite()));
                let effective = average.effective_samples();
                assert!((0.999..=1.001 * count as f32).contains(&effective), "{effective} of {count}");
                assert!(!average.log_z().is_nan() && !average.max_log_weight().is_nan());
                assert_eq!(average.valid_rows() + average.invalid_rows(), count);
                bits(&[mean, second, &[effective, average.log_z()]].concat())
            })
        }));
        let usable = |l: &f32| l.is_finite();
        let whole = rows.len().is_multiple_of(count) && !rows.is_empty();
        if found.is_ok() {
            assert!(whole && log_weights.iter().any(usable));
        } else {
            let finite = rows.iter().all(|v| v.is_finite() && v.abs() < 1e15);
            assert!(!whole || !finite || !log_weights.iter().any(usable), "{found:?} for good rows");
        }
    }
    true
}

#[test]
fn weighted_mean() {
    let engines = cpus();
    fuzz("weighted_mean", 500, |draw| case(draw, &engines));
}

#[test]
fn weighted_mean_on_an_adapter() {
    let Some(engines) = gpus() else { return };
    fuzz("weighted_mean_on_an_adapter", 30, |draw| case(draw, &engines));
}
