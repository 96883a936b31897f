//! A task to be timed, and the data by which a peer checks it.

use std::path::Path;

use anyhow::{Context, Result};
use gibbs::control::Algorithm;
use gibbs::{Model, Mppi, MppiOptions, Planner};

/// The size of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Rollouts, K.
    pub samples: usize,
    /// Time steps T of a rollout, or levels of a reverse process.
    pub horizon: usize,
}

pub trait Task {
    /// Prepares an update; not timed.
    fn prepare(&mut self) {}
    /// Runs the update that is timed.
    fn update(&mut self) -> Result<()>;
    /// The mean reward of the last update, where the task has one.
    fn reward(&self) -> Option<f32> {
        None
    }
    /// Writes the data by which a peer checks that it computes the same.
    fn dump(&mut self, folder: &Path) -> Result<()>;
}

/// An MPPI update of a model, repeated from one state. The plan is kept and not shifted.
pub struct Update<const N: usize, const M: usize, D> {
    mppi: Mppi<N, M, D>,
    start: [f32; N],
}

impl<const N: usize, const M: usize, D: Model<N, M>> Update<N, M, D> {
    pub fn new(engine: &gibbs::Engine, model: D, options: MppiOptions<M>, start: [f32; N]) -> Result<Self> {
        Ok(Self { mppi: Mppi::new(engine, model, options)?, start })
    }
}

impl<const N: usize, const M: usize, D: Model<N, M>> Task for Update<N, M, D> {
    fn update(&mut self) -> Result<()> {
        self.mppi.plan(&self.start)?;
        Ok(())
    }

    fn dump(&mut self, folder: &Path) -> Result<()> {
        self.mppi.reset();
        self.mppi.plan(&self.start)?;
        dump(&mut self.mppi, &self.start, 1.0, folder)
    }
}

/// Writes rows, costs, weights and mean of a planner's last update, with costs multiplied by `scale`.
pub fn dump<const N: usize, const M: usize, D: Model<N, M>, A: Algorithm<M>>(
    planner: &mut Planner<N, M, D, A>,
    start: &[f32; N],
    scale: f32,
    folder: &Path,
) -> Result<()> {
    let samples = planner.samples()?;
    let rows: Vec<f32> = (0..samples.len()).flat_map(|k| samples.controls(k)).flatten().collect();
    let costs: Vec<f32> = (0..samples.len()).map(|k| samples.cost(k) * scale).collect();
    let weights = samples.weights();
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mean = planner.controls().as_flattened();
    let parts = [("start", &start[..]), ("rows", &rows), ("costs", &costs), ("weights", &weights), ("mean", mean)];
    for (name, values) in parts {
        let path = folder.join(name).with_extension("f32");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
