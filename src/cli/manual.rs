//! `headwater completions|man`: what a package of the program installs beside it.

use super::Failure;
use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// Writes the script that completes the command line in a shell.
pub(super) fn completions(
    mut whole: clap::Command,
    shell: clap_complete::Shell,
) -> Result<ExitCode, Failure> {
    let name = whole.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole, name, &mut script);
    print(&script)
}

/// Writes the manual page to standard output, or that of each command to a folder.
pub(super) fn pages(whole: clap::Command, folder: Option<&Path>) -> Result<ExitCode, Failure> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(whole).render(&mut page);
        rendered.map_err(Failure::operation)?;
        return print(&page);
    };
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(whole, folder));
    let told = |error: io::Error| Failure::operation(format!("{}: {error}", folder.display()));
    written.map_err(told)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints to a reader that may stop in the middle: `| head` is no failure.
fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::operation(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
