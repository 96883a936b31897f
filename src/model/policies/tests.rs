//! Compares the policies with plain loops in f64, finite differences and dual numbers.

use super::*;
use crate::lang::random::Random;
use crate::lang::{GradientAccumulator, Params, Real, StepContext};
use crate::model::policy::Policy;

/// Two states as three features.
struct Features;

impl Observation<2, 3> for Features {
    #[inline(always)]
    fn observe<R: Real>(&self, _: &StepContext<R>, [a, b]: [R; 2]) -> [R; 3] {
        let (s, c) = a.sin_cos();
        [s, c, b]
    }
}

/// A policy reduced to its `act`, so that dual numbers differentiate it.
struct ByDuals<P>(P);

impl<const N: usize, const M: usize, P: Policy<N, M>> Policy<N, M> for ByDuals<P> {
    fn parameters(&self) -> usize {
        self.0.parameters()
    }
    #[inline(always)]
    fn act<R: Real>(&self, at: &StepContext<R>, theta: &Params<R>, x: [R; N]) -> [R; M] {
        self.0.act(at, theta, x)
    }
    fn initial(&self, random: &mut Random) -> Vec<f32> {
        self.0.initial(random)
    }
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.normal() * 0.5).collect()
}

/// Returns (∂m/∂θ)ᵀ v and m.
fn pulled<const M: usize>(policy: &impl Policy<2, M>, theta: &[f32], t: usize, v: [f32; M]) -> (Vec<f32>, [f32; M]) {
    let mut sums = vec![0.0; theta.len()];
    let at = StepContext::new(t, 0.1);
    let u = policy.vjp(&at, &Params::new(theta), [0.7, -0.4], v, &mut GradientAccumulator::new(&mut sums));
    (sums, u)
}

/// Compares a policy's `vjp` with its `act`, dual numbers and central differences.
fn check_vjp<const M: usize>(name: &str, policy: impl Policy<2, M>, t: usize, v: [f32; M]) {
    let theta = numbers(policy.parameters(), 5);
    let (sums, u) = pulled(&policy, &theta, t, v);
    let act = |theta: &[f32]| policy.act(&StepContext::<f32>::new(t, 0.1), &Params::new(theta), [0.7, -0.4]);
    assert_eq!(u, act(&theta), "{name}");
    let dot = |u: [f32; M]| u.iter().zip(v).map(|(u, v)| f64::from(u * v)).sum::<f64>();
    for i in 0..theta.len() {
        let (mut above, mut below) = (theta.clone(), theta.clone());
        above[i] += 1.0 / 128.0;
        below[i] -= 1.0 / 128.0;
        let slope = (dot(act(&above)) - dot(act(&below))) * 64.0;
        let difference = (f64::from(sums[i]) - slope).abs();
        assert!(difference < 2e-4 * (1.0 + slope.abs()), "{name}, parameter {i}: {} but {slope}", sums[i]);
    }
    assert!(sums.iter().any(|slope| *slope != 0.0), "{name}: nothing to compare");
    let (by_duals, same) = pulled(&ByDuals(policy), &theta, t, v);
    assert_eq!(u, same, "{name}");
    for (i, (a, b)) in sums.iter().zip(&by_duals).enumerate() {
        assert!((a - b).abs() < 1e-5 * (1.0 + a.abs()), "{name}, parameter {i}: {a} but {b} by dual numbers");
    }
}

#[test]
fn vjp_is_the_derivative_of_act() {
    let v = [0.8, -1.3];
    check_vjp("open loop", OpenLoop { horizon: 4 }, 2, v);
    check_vjp("open loop, beyond its end", OpenLoop { horizon: 4 }, 9, v);
    check_vjp("feedback", LinearFeedback, 3, v);
    check_vjp("time-varying feedback", TimeVaryingFeedback { horizon: 3 }, 1, v);
    for activation in [Activation::Tanh, Activation::Relu, Activation::Gelu, Activation::Sin] {
        let plain = Mlp::<3, 2, _>::observing(Features, &[5], activation).expect("valid");
        check_vjp("one hidden layer", plain, 0, v);
        let deep = Mlp::<2, 2>::new(&[4, 3], activation).expect("valid");
        check_vjp("two hidden layers", deep.clone(), 0, v);
        check_vjp("squashed", deep.clone().squashed([-1.0, 0.5], [2.0, 1.0]).expect("valid"), 0, v);
        check_vjp("clipped", deep.clipped([-5.0; 2], [5.0; 2]).expect("valid"), 0, v);
    }
    check_vjp("no hidden layer", Mlp::<2, 2>::new(&[], Activation::Tanh).expect("valid"), 0, v);
}

#[test]
fn a_clipped_output_has_no_derivative_where_it_is_clipped() {
    let policy = Mlp::<2, 1>::new(&[3], Activation::Tanh).and_then(|p| p.clipped([0.0], [1e-6])).expect("valid");
    let theta = numbers(Policy::<2, 1>::parameters(&policy), 5);
    let (sums, [u]) = pulled(&policy, &theta, 0, [1.0]);
    assert!((u == 0.0 || u == 1e-6) && sums.iter().all(|slope| *slope == 0.0), "{u}, {sums:?}");
}

#[test]
fn a_network_is_its_equations_in_f64() {
    let policy = Mlp::<3, 2, _>::observing(Features, &[64, 7], Activation::Tanh)
        .and_then(|p| p.squashed([-1.0, 0.0], [1.0, 3.0]))
        .expect("valid");
    let theta = numbers(Policy::<2, 2>::parameters(&policy), 8);
    let [a, b] = [0.7_f32, -0.4];
    let got: [f32; 2] = policy.act(&StepContext::<f32>::new(0, 0.1), &Params::new(&theta), [a, b]);

    let mut units = vec![f64::from(a).sin(), f64::from(a).cos(), f64::from(b)];
    let mut left = &theta[..];
    for (layer, size) in [64, 7, 2].into_iter().enumerate() {
        let (weights, rest) = left.split_at(units.len() * size);
        let (biases, rest) = rest.split_at(size);
        left = rest;
        let sum = |o: usize| {
            let row = &weights[o * units.len()..][..units.len()];
            row.iter().zip(&units).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(biases[o])
        };
        units = (0..size).map(|o| if layer < 2 { sum(o).tanh() } else { sum(o) }).collect();
    }
    assert!(left.is_empty());
    let expected = [units[0].tanh(), 1.5 + 1.5 * units[1].tanh()];
    for (got, expected) in got.iter().zip(expected) {
        assert!((f64::from(*got) - expected).abs() < 3e-6, "{got} but {expected}");
    }
}

#[test]
fn networks_refuse_what_is_none() {
    let field = |result: Result<Network, crate::error::InvalidValue>| result.expect_err("refused").field;
    assert_eq!(field(Network::new(0, &[3], Activation::Tanh)), "sizes");
    assert_eq!(field(Network::new(0, &[3, 0, 1], Activation::Tanh)), "sizes");
    let network = || Network::new(0, &[3, 2], Activation::Relu).expect("valid");
    assert_eq!(field(network().squashed(&[0.0], &[1.0])), "bounds");
    assert_eq!(field(network().clipped(&[0.0, 1.0], &[1.0, 1.0])), "bounds");
    assert_eq!(field(network().clipped(&[0.0, f32::NAN], &[1.0, 1.0])), "bounds");
    assert_eq!(field(network().squashed(&[f32::MIN; 2], &[f32::MAX; 2])), "bounds");
}

#[test]
fn a_network_starts_near_zero() {
    let policy = Mlp::<2, 1>::new(&[64], Activation::Tanh).expect("valid");
    let theta = Policy::<2, 1>::initial(&policy, &mut Random::new(3));
    assert_eq!(theta.len(), Policy::<2, 1>::parameters(&policy));
    let [u]: [f32; 1] = policy.act(&StepContext::<f32>::new(0, 0.1), &Params::new(&theta), [1.0, -1.0]);
    assert!(u.abs() < 0.5 && u != 0.0, "{u}");
}
