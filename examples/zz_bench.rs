use gibbs::{models::CartPole, *};
fn main() {
    env_logger::init();
    let backend: Backend = std::env::args().nth(1).unwrap_or("cpu".into()).parse().unwrap();
    let k: usize = std::env::args().nth(2).and_then(|v| v.parse().ok()).unwrap_or(8192);
    let ess = std::env::args().nth(3).is_some();
    for instructions in [Instructions::Best, Instructions::Avx2, Instructions::Scalar] {
        let engine = Engine::with(EngineOptions { backend, instructions, ..Default::default() }).unwrap();
        let mut m = Mppi::new(&engine, CartPole::default(), MppiOptions {
            horizon: 100, samples: k, dt: 0.02, noise: Noise::Diagonal([5.0]), limits: Some(Limits { low: [-20.0], high: [20.0] }),
            temperature: if ess { Temperature::EffectiveSamples(0.05) } else { Temperature::Fixed(10.0) }, ..Default::default() }).unwrap();
        let mut x = [0.0f32; 4];
        let mut best = Timing { total: std::time::Duration::MAX, ..Default::default() };
        for i in 0..200 {
            let p = m.plan(&x).unwrap();
            if p.timing().total < best.total { best = p.timing(); }
            if i % 40 == 0 { println!("{:?} cost {} min {} mean {} ess {} logz {} T {}", x, p.cost(), p.min_cost(), p.mean_cost(), p.effective_samples(), p.log_z(), p.temperature()); }
            x = p.states()[1];
            m.shift(1);
        }
        println!("{} {best:?} x {x:?}", engine.name());
        if backend != Backend::Cpu { break }
    }
}
