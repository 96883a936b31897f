//! How the examples end: with status 0, or with 1 and one line that says why.

use std::process::ExitCode;

use anyhow::Result;

pub fn status(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
