//! `surrealdb-server start --bind … memory`: the real server, for tests and single hosts.

use std::process::ExitCode;

fn main() -> ExitCode {
    surrealdb_server::init(surrealdb_server::core::CommunityComposer())
}
