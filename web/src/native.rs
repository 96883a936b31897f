//! Prints the plans of [`gibbs_web::numbers`], computed natively on the CPU.

use anyhow::Result;
use gibbs::{Backend, Engine, EngineOptions};

fn main() -> Result<()> {
    let engine = Engine::with_options(EngineOptions { backend: Backend::Cpu, ..Default::default() })?;
    print!("{}", pollster::block_on(gibbs_web::numbers::plans(&engine))?);
    Ok(())
}
