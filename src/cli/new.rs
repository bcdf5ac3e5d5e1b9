//! `headwater new`: a project of one's own, to begin from.
//!
//! The domain in it is the example `ledger`, word for word: what is built and tested here is what others
//! begin with.

use super::Failure;
use crate::config::NewConfig;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

const DOMAIN: &str = include_str!("../../examples/ledger.rs");
const MANIFEST: &str = include_str!("new/Cargo.toml.txt");
const MAKEFILE: &str = include_str!("new/Makefile.txt");
const README: &str = include_str!("new/README.md.txt");
const IGNORED: &str = "/target\n/.tools\n/data\n";
/// The script that fetches the server that `dev` runs, as it does for Headwater itself.
const INSTALL: &str = include_str!("../../tools/install_nats_server.py");
const PINNED: &str = include_str!("../../tools/nats-server.txt");
/// The longest name of a project, in bytes.
const LONGEST: usize = 64;

pub(super) fn run(config: &NewConfig) -> Result<ExitCode, Failure> {
    let name = &config.name;
    if !is_name(name) {
        return Err(Failure::configuration(format!(
            "<NAME>: {name:?} is no name of a project: 1 to {LONGEST} of a-z 0-9 - _, beginning with a letter, and not headwater"
        )));
    }
    let folder = config.folder.clone().unwrap_or_else(|| name.into());
    let source = source(config).map_err(Failure::configuration)?;
    write(&folder, name, &source).map_err(|error| {
        Failure::configuration(format!("--folder {}: {error}", folder.display()))
    })?;
    println!(
        "{name} is in {folder}. Now:\n  cd {folder}\n  make test\n  make run",
        folder = folder.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Returns whether Cargo takes it as the name of a package, and a folder can have it everywhere. That of the
/// library is taken.
fn is_name(name: &str) -> bool {
    name.len() <= LONGEST
        && name != "headwater"
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

/// Returns what follows `headwater = ` in the manifest.
fn source(config: &NewConfig) -> Result<String, String> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    if let Some(path) = &config.path {
        let found = fs::canonicalize(path).map_err(|error| format!("--path: {error}"))?;
        if !found.join("Cargo.toml").is_file() {
            return Err(format!("--path: {} has no Cargo.toml", found.display()));
        }
        let found = found.to_str().ok_or("--path: it is not UTF-8")?;
        return Ok(format!("{{ path = {} }}", quoted(found)));
    }
    Ok(match &config.git {
        Some(git) => format!("{{ git = {} }}", quoted(git)),
        None => quoted(env!("CARGO_PKG_VERSION")),
    })
}

/// Writes the project into a folder that is not there yet.
fn write(folder: &Path, name: &str, source: &str) -> io::Result<()> {
    if let Some(parent) = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent)?;
    }
    fs::create_dir(folder)?;
    for (file, text) in files(name, source) {
        let file = folder.join(file);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, text)?;
    }
    Ok(())
}

fn files(name: &str, source: &str) -> Vec<(PathBuf, String)> {
    let named = |text: &str| text.replace("{name}", name).replace("{source}", source);
    let domain = DOMAIN
        .replace("cargo run --example ledger --", "cargo run --")
        .replace("Program::new(\"ledger\"", &format!("Program::new({name:?}"));
    let files = [
        ("Cargo.toml", named(MANIFEST)),
        ("Makefile", named(MAKEFILE)),
        ("README.md", named(README)),
        (".gitignore", IGNORED.to_owned()),
        ("src/main.rs", domain),
        ("tools/install_nats_server.py", INSTALL.to_owned()),
        ("tools/nats-server.txt", PINNED.to_owned()),
    ];
    files.map(|(file, text)| (file.into(), text)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_cargo_and_every_folder_take() {
        for good in ["ledger", "my-shop", "a", "a_1", &"a".repeat(LONGEST)] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "1a",
            "-a",
            "A",
            "a b",
            "a/b",
            "..",
            "사과",
            "headwater",
            &"a".repeat(65),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn nothing_of_the_template_is_left_in_what_is_written() {
        for (file, text) in files("shop", "\"0.1.0\"") {
            for left in ["{name}", "{source}", "--example", "\"ledger\""] {
                assert!(!text.contains(left), "{} has {left}", file.display());
            }
        }
    }

    #[test]
    fn a_folder_that_is_there_is_left_as_it_is() {
        let here = tempfile::tempdir().unwrap();
        let folder = here.path().join("deep/shop");
        write(&folder, "shop", "\"0.1.0\"").unwrap();
        fs::write(folder.join("Makefile"), "mine").unwrap();
        let again = write(&folder, "shop", "\"0.1.0\"").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let kept = fs::read_to_string(folder.join("Makefile")).unwrap();
        assert_eq!(kept, "mine");
    }
}
