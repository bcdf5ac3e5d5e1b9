//! The flags of `headwater new`.

use clap::Args;
use std::path::PathBuf;

/// `headwater new`.
#[derive(Debug, Clone, Args)]
pub struct NewConfig {
    /// The name of the project: lower case letters, digits and - or _, beginning with a letter
    pub name: String,
    /// The folder to make; by default one of the project's name
    #[arg(long, env = "HEADWATER_FOLDER")]
    pub folder: Option<PathBuf>,
    /// Depend on the headwater in this folder
    #[arg(long, env = "HEADWATER_PATH", conflicts_with = "git")]
    pub path: Option<PathBuf>,
    /// Depend on the headwater in this git repository; without either, on this program's version of it
    #[arg(long, env = "HEADWATER_GIT")]
    pub git: Option<String>,
}
