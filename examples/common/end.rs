//! Arguments, output and exit status of the examples: [`run`] is the body of their `main`, every line is printed by
//! [`say!`], and the status is 0, or 1 with a line that gives the reason.
//!
//! `println!` panics if its output is not read (`navigate | true`) or the disk is full. Here that is an error like any
//! other.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

/// `println!` that returns an error instead of panicking.
macro_rules! say {
    () => {
        $crate::end::line(format_args!(""))
    };
    ($($argument:tt)*) => {
        $crate::end::line(format_args!($($argument)*))
    };
}
pub(crate) use say;

/// Writes a line to standard output.
///
/// # Errors
///
/// If it cannot be written, because the reader is gone or the disk is full.
pub fn line(text: fmt::Arguments<'_>) -> Result<()> {
    line_to(&mut io::stdout().lock(), text)
}

fn line_to(out: &mut impl Write, text: fmt::Arguments<'_>) -> Result<()> {
    // Flushed here, so that a write error is reported for this line and not lost at exit.
    writeln!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Starts logging, parses the arguments and runs an example with them. Returns its exit status.
pub fn run<A: Parser>(example: impl FnOnce(A) -> Result<()>) -> ExitCode {
    start_logging();
    match A::try_parse() {
        Ok(arguments) => status(example(arguments)),
        Err(error) if error.use_stderr() => {
            complain(format_args!("{}", error.to_string().lines().next().unwrap_or("error: no valid arguments")));
            ExitCode::FAILURE
        }
        Err(help) => status(say!("{}", help.to_string().trim_end())),
    }
}

/// Starts logging to standard error. Without `RUST_LOG`, errors and the warnings of this library are shown: a debug
/// build, a GPU that does not open. Warnings of other crates are hidden, since they do not concern users.
fn start_logging() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(DEFAULT_LOG)).init();
}

const DEFAULT_LOG: &str = "error,gibbs=warn";

fn status(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard error. A failure is ignored, since it cannot be reported anywhere.
pub fn complain(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts some bytes and then fails.
    struct Closing(usize, io::ErrorKind);

    impl Write for Closing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(self.1.into()) } else { Ok(taken) }
        }
        fn flush(&mut self) -> io::Result<()> {
            if self.0 == 0 { Err(self.1.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn warnings_of_the_library_are_logged_and_those_of_others_are_not() {
        let logger = env_logger::Builder::new().parse_filters(DEFAULT_LOG).build();
        let shows = |target: &str, level: log::Level| {
            log::Log::enabled(&logger, &log::Metadata::builder().target(target).level(level).build())
        };
        assert!(
            shows("gibbs::runtime::choose", log::Level::Warn) && !shows("gibbs::runtime::choose", log::Level::Info)
        );
        assert!(shows("wgpu_hal::vulkan", log::Level::Error) && !shows("wgpu_hal::vulkan", log::Level::Warn));
    }

    #[test]
    fn what_cannot_be_written_is_an_error_of_one_line() {
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull] {
            for taken in [0, 3, 9] {
                let error = line_to(&mut Closing(taken, kind), format_args!("12345678")).unwrap_err();
                let text = format!("{error:#}");
                assert!(text.starts_with("cannot write to standard output: ") && !text.contains('\n'), "{text}");
            }
            line_to(&mut Closing(10, kind), format_args!("12345678")).unwrap();
        }
    }
}
