//! The arguments of examples that draw a picture.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use gibbs::{Backend, Engine, EngineOptions};

/// Where an example runs, its seed, and where its picture goes.
#[derive(Args)]
pub struct Common {
    /// auto, gpu, software or cpu
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Seed of everything that is random
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder for the picture, made if it is not there
    #[arg(long, default_value = "target/pictures")]
    out: PathBuf,
}

impl Common {
    /// The engine of the backend, with other options as given.
    pub fn engine(&self, options: EngineOptions) -> Result<Engine> {
        Ok(Engine::with_options(EngineOptions { backend: self.backend, ..options })?)
    }

    /// Makes the folder, and returns the file of the picture.
    pub fn picture(&self, name: &str) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot make {}", self.out.display()))?;
        Ok(self.out.join(name))
    }
}
