//! Writes every kernel of gibbs to files, in the languages of all graphics interfaces: `cargo run --release -p
//! gibbs-kernels -- dump OUT`. Compilers can then check them, without a GPU: see docs/compilers.md.

mod assembly;
mod cases;
mod chain;
mod radv;
mod translate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// The kernels of gibbs, for compilers to check.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes every kernel as WGSL, SPIR-V, HLSL and MSL.
    Dump {
        /// The folder to write to. It is created if it does not exist.
        folder: PathBuf,
        /// Only the cases whose names contain this, such as a model's.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Prints what a Vulkan driver compiles the dumped SPIR-V to: registers, spills, occupancy, code size.
    ///
    /// `RADV_FORCE_FAMILY=gfx1100` lets Mesa compile for a GPU that is not there.
    Statistics {
        /// The folder that `dump` wrote to.
        folder: PathBuf,
        /// Only the kernels whose names contain this.
        #[arg(long, default_value = "")]
        only: String,
        /// Fail if a kernel spills or is larger than expected. The table is not printed.
        #[arg(long)]
        check: bool,
    },
    /// Prints what one turn of each loop executes, from the driver's assembly: issue slots, instructions by unit, and
    /// how many of them depend on one another.
    Loops {
        /// The folder that `dump` wrote to.
        folder: PathBuf,
        /// Only the kernels whose names contain this.
        #[arg(long, default_value = "")]
        only: String,
        /// Write the assembly of each kernel to this folder.
        #[arg(long)]
        assembly: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Dump { folder, only } => dump(&folder, &only),
        Command::Statistics { folder, only, check } => {
            radv::statistics(&folder, &only, false).and_then(|(device, all)| {
                if check {
                    return radv::check(&all);
                }
                radv::print(&device, &all);
                Ok(())
            })
        }
        Command::Loops { folder, only, assembly } => radv::statistics(&folder, &only, true)
            .and_then(|(device, all)| radv::print_loops(&device, &all, assembly.as_deref())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the kernels of all targets to a folder, one thread for each target.
fn dump(folder: &Path, only: &str) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be created", folder.display()))?;
    let one = |target| -> Result<usize> {
        let kernels = cases::kernels(target, only)?;
        let mut names: Vec<String> = Vec::new();
        for kernel in &kernels {
            let stem = match &kernel.source.entries[..] {
                [entry] => format!("{}-{entry}", kernel.case),
                _ => kernel.case.clone(),
            };
            // Some drivers compile several sources with the same entry points.
            let numbered = (2..).map(|number| format!("{stem}-{number}"));
            let mut free = std::iter::once(stem.clone()).chain(numbered).filter(|name| !names.contains(name));
            let name = free.next().expect("there are more numbers than kernels");
            translate::write(kernel, &format!("{name}.{}", target.name), folder).context(name.clone())?;
            names.push(name);
        }
        Ok(kernels.len())
    };
    let counts: Result<Vec<usize>> = std::thread::scope(|scope| {
        let threads = cases::TARGETS.map(|target| scope.spawn(move || one(target)));
        threads.into_iter().map(|thread| thread.join().expect("a target's thread has panicked")).collect()
    });
    println!("{} kernels in {}", counts?.iter().sum::<usize>(), folder.display());
    Ok(())
}
