//! The command line of Headwater.

use clap::Parser;
use headwater::{cli, config::Cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
