//! `DiffusionSampler`: chains of an energy and of a data set.

use gibbs::sampling::{Chains, Energy};
use gibbs::{DiffusionSampler, DiffusionSamplerOptions, Engine, PlanError, Real, StepContext, Temperature};

use crate::draw::Draw;
use crate::{agreed, bits, both, cpus, fuzz, gpus};

/// Two wells whose distance and depth are parameters, on a field; NaN far to the left.
struct Wells;

impl Energy<2> for Wells {
    #[inline(always)]
    fn energy<R: Real>(&self, at: &StepContext<R>, [x, y]: [R; 2]) -> R {
        let wells = (x.square() - at.param(0)).square() * at.param(1) + y.square();
        wells + at.sample(0, x, y) + (x + 6.0).sqrt() * 0.01
    }
}

fn options(draw: &mut Draw, energy: bool) -> DiffusionSamplerOptions {
    let fixed = !energy && draw.chance(0.95);
    DiffusionSamplerOptions {
        chains: draw.size(12),
        samples: draw.size(200),
        process: draw.process(),
        weighting: if fixed { Temperature::Fixed(draw.number(0.1, 3.0)).into() } else { draw.weighting() },
        limits: if energy && draw.chance(0.4) { Some(draw.array(-2.0, 2.0)) } else { None },
        seed: draw.seed(),
        params: draw.params(),
        fields: draw.fields(),
        // These models evaluate no network: see tests/networks.rs.
        weights: Vec::new(),
    }
}

/// Checks chains and gives their bits.
fn checked(chains: Result<Chains<'_>, PlanError>, limits: Option<[f32; 2]>) -> Result<Vec<u32>, PlanError> {
    let chains = chains?;
    assert!(chains.values().iter().all(|v| v.is_finite()), "{:?}", chains.values());
    assert!(chains.failed() < chains.len());
    let effective: Vec<f32> = (0..chains.len()).map(|chain| chains.effective_samples(chain)).collect();
    assert!(effective.iter().all(|e| e.is_finite() && *e >= 0.0), "{effective:?}");
    for (chain, effective) in chains.iter().zip(&effective) {
        if let (Some([low, high]), true) = (limits, *effective > 0.0) {
            assert!(chain.iter().all(|v| (low..=high).contains(v)), "{chain:?} outside {low}, {high}");
        }
    }
    Ok(bits(&[chains.values(), &effective].concat()))
}

fn case(draw: &mut Draw, engines: &[Engine; 2]) -> bool {
    let energy = draw.chance(0.5);
    let options = options(draw, energy);
    let (count, width) = (1 + draw.index(150), if energy { 2 } else { 1 + draw.index(6) });
    let ragged = usize::from(draw.chance(0.02));
    let rows = draw.numbers(count * width + ragged, -2.0, 2.0);
    let mut twins = match [0, 1].map(|i| match energy {
        true => DiffusionSampler::of_energy(&engines[i], Wells, options.clone()),
        false => DiffusionSampler::of_data(&engines[i], &rows, width, options.clone()),
    }) {
        [Ok(a), Ok(b)] => [a, b],
        both => {
            agreed(both.map(|made| made.map(|_| ()))).unwrap_err();
            return false;
        }
    };
    for _ in 0..8 {
        let seen = |diffusion: &DiffusionSampler| format!("{:?}", diffusion.options());
        draw.change_mood();
        let before = seen(&twins[0]);
        let limits = twins[0].options().limits;
        let outcome = match draw.index(6) {
            0 | 1 => both(&mut twins, |diffusion| checked(diffusion.sample(), limits)),
            2 => {
                let count = twins[0].options().chains * width + usize::from(draw.chance(0.05));
                let start = draw.numbers(count, -2.0, 2.0);
                both(&mut twins, |diffusion| checked(diffusion.sample_from(&start), limits))
            }
            3 => {
                let params = draw.params();
                both(&mut twins, |diffusion| diffusion.set_params(&params).map(|()| Vec::new()))
            }
            4 => {
                let count = count + usize::from(draw.chance(0.05));
                let rewards = draw.numbers(count, -1.0, 1.0);
                both(&mut twins, |diffusion| diffusion.guide(&rewards).map(|()| Vec::new()))
            }
            _ => {
                twins.iter_mut().for_each(DiffusionSampler::reset);
                Ok(Vec::new())
            }
        };
        assert_eq!(seen(&twins[0]), seen(&twins[1]), "twins after the same call");
        if outcome.is_err() {
            assert_eq!(seen(&twins[0]), before, "an error ({outcome:?}) changed something");
        }
    }
    true
}

#[test]
fn diffusion() {
    let engines = cpus();
    fuzz("diffusion", 300, |draw| case(draw, &engines));
}

#[test]
fn diffusion_on_an_adapter() {
    let Some(engines) = gpus() else { return };
    fuzz("diffusion_on_an_adapter", 8, |draw| case(draw, &engines));
}
