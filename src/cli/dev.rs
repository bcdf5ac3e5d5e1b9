//! `headwater dev`: everything on this machine, until Ctrl-C.

use super::{Failure, Program, signals};
use crate::{
    command::request::{CommandHeaders, CommandRequest},
    config::DevConfig,
    dev::{Dev, DevError, DevOptions, Secured},
    event_log::subject::Id,
    platform::{Platform, StartError},
    sample::{self, SampleCommand},
};
use futures::{TryStreamExt, stream};
use std::{process::ExitCode, sync::Arc, time::Duration};

/// The folder of a system that is closed, in the data folder: it has a log of its own.
const SECURE: &str = "secure";
/// The folder of its keys, in that.
const KEYS: &str = "keys";
/// The number of sample commands that are under way at once.
const SEEDING: usize = 64;
/// The number of times that a sample command is given, where the log does not answer in time.
const SEEDING_ATTEMPTS: u32 = 10;
/// The time the views may take to read the log at the start before the banner is printed anyway.
const CATCH_UP: Duration = Duration::from_secs(60);

pub(super) async fn run(program: &Program, config: DevConfig) -> Result<ExitCode, Failure> {
    let no_seed = config.no_seed;
    let folder = match config.secure {
        true => config.data_dir.join(SECURE),
        false => config.data_dir,
    };
    let secured = config
        .secure
        .then(|| Secured::open(&folder.join(KEYS), program.name));
    let secured = secured
        .transpose()
        .map_err(Failure::configuration)?
        .map(Arc::new);
    let access = match &secured {
        None => config.sides.access(config.http_addr),
        Some(secured) => secured
            .access(config.sides.auth.anonymous_scopes.clone())
            .map(|access| access.limited(config.sides.auth.limits())),
    };
    let access = access.map_err(Failure::configuration)?;
    let exporter = super::export_traces(&config.sides.trace, "dev")?;
    let http = config.sides.gateway.http(config.http_addr);
    let http = http.map_err(Failure::configuration)?;
    let scheme = http.scheme();
    let options = DevOptions {
        data_dir: folder,
        secured: secured.clone(),
        http,
        nats_port: config.nats_port,
        nats_server: config.nats_server,
        reset: config.reset,
        cache: config.sides.gateway.cache(),
        list_cache: config.sides.gateway.list_cache(),
        search_memory: config.sides.gateway.search_memory(),
        list_index: config.sides.gateway.list_index(),
        verify_per_minute: config.sides.verify.verify_per_minute,
        repair: config.sides.verify.repair,
        command: config.sides.command.options(),
        append: config.sides.command.append,
        secret: config
            .sides
            .command
            .secret()
            .map_err(Failure::configuration)?,
        access,
        inboxes: config.sides.inboxes(),
        processes: !config.no_processes,
        // The orders of the sample data are settled by hand.
        processes_later: true,
    };
    let mut dev = Dev::start(program.domain.clone(), options)
        .await
        .map_err(failure)?;
    let marker = dev.seeded_marker();
    if !marker.exists() {
        if !no_seed {
            seed(dev.platform(), &program.sample).await?;
        }
        std::fs::write(&marker, "").map_err(|error| {
            Failure::operation(format!("cannot write {}: {error}", marker.display()))
        })?;
    }
    dev.begin_processes().await.map_err(Failure::operation)?;
    caught_up(dev.platform()).await;
    print_banner(program, &dev, scheme, secured.as_deref())?;

    signals::asked_to_stop().await.map_err(Failure::operation)?;
    // A second signal means: now.
    let stop = async {
        dev.stop().await;
        if let Some(exporter) = exporter {
            exporter.stop().await;
        }
    };
    tokio::select! {
        () = stop => Ok(ExitCode::SUCCESS),
        _ = signals::asked_to_stop() => Ok(ExitCode::FAILURE),
    }
}

fn failure(error: DevError) -> Failure {
    match error {
        DevError::Data(_) | DevError::Nats(_) => Failure::configuration(error),
        DevError::Start(StartError::Bind { .. }) => Failure::configuration(error),
        DevError::Start(_) => Failure::operation(error),
    }
}

/// Gives the sample commands, phase by phase. Each has a key of its own, so that a run that was cut
/// off in the middle is taken up again without doing anything twice.
async fn seed(platform: &Platform, commands: &[SampleCommand]) -> Result<(), Failure> {
    for (phase, commands) in sample::phases(commands.to_vec()).into_iter().enumerate() {
        stream::iter(commands.into_iter().map(Ok))
            .try_for_each_concurrent(SEEDING, |command| give(platform, phase, command))
            .await?;
    }
    Ok(())
}

async fn give(platform: &Platform, phase: usize, sample: SampleCommand) -> Result<(), Failure> {
    let name = format!("{} {} {}", sample.aggregate, sample.id, sample.command);
    let request = CommandRequest {
        aggregate: sample.aggregate.into(),
        id: Id::new(sample.id.as_str()).map_err(Failure::operation)?,
        command: sample.command.into(),
        body: sample.body.to_string().into(),
        headers: CommandHeaders {
            idempotency_key: Some(format!("sample-{phase}").into()),
            ..CommandHeaders::default()
        },
    };
    let mut attempt = 1;
    loop {
        match platform.commands().execute(request.clone()).await {
            Ok(_) => return Ok(()),
            // Busy, or in doubt: with its key the command can safely be given again.
            Err(problem) if problem.retry_after.is_some() && attempt < SEEDING_ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(200) * attempt).await;
                attempt += 1;
            }
            Err(problem) => {
                let reason = format!("sample command {name}: {problem}");
                return Err(Failure::operation(reason));
            }
        }
    }
}

async fn caught_up(platform: &Platform) {
    let waiting = platform.wait_caught_up();
    if tokio::time::timeout(CATCH_UP, waiting).await.is_err() {
        tracing::warn!("the views are still reading the log; /readyz tells when they are done");
    }
}

/// Returns what there is to look at in a browser.
fn browsable(program: &Program, http: &str, has_console: bool) -> String {
    let own = program.domain.own_pages().iter();
    let own = own
        .filter(|pages| pages.has_index())
        .map(|pages| pages.path);
    let console = has_console.then_some("console");
    let all = own
        .chain(console)
        .chain(["docs"])
        .map(|path| format!("{http}/{path}"));
    all.collect::<Vec<_>>().join(" ")
}

fn print_banner(
    program: &Program,
    dev: &Dev,
    scheme: &str,
    secured: Option<&Secured>,
) -> Result<(), Failure> {
    let http = dev
        .platform()
        .http_addr()
        .map_or_else(String::new, |address| format!("{scheme}://{address}"));
    let admin = dev
        .platform()
        .admin_addr()
        .map_or_else(String::new, |address| {
            format!("; operators: {scheme}://{address}/console")
        });
    let append = dev
        .platform()
        .append()
        .map_or_else(String::new, ToString::to_string);
    let operator = secured.map_or_else(String::new, |secured| {
        format!("  (--nats-nkey {})", secured.operator().display())
    });
    println!(
        "{name} {version} runs; Ctrl-C stops it
  HTTP        {http}  (in a browser: {pages}{admin})
  NATS        {nats}{operator}
  data        {folder}
  durability  {durability}
  append      {append}",
        name = program.name,
        version = program.version,
        pages = browsable(program, &http, dev.platform().admin_addr().is_none()),
        nats = dev.nats_url(),
        folder = dev.folder().display(),
        durability = dev.durability(),
    );
    let shown = match secured {
        // Ten lines are read at a glance.
        Some(secured) => {
            print_tokens(program, secured)?;
            r#" -H "Authorization: Bearer $TOKEN""#
        }
        None => {
            if !program.examples.is_empty() {
                println!("try, in another terminal:");
            }
            ""
        }
    };
    for example in &program.examples {
        println!("  {}{shown}", example.replace("{http}", &http));
    }
    Ok(())
}

/// Prints a token for each whom the program names, or one that may everything.
fn print_tokens(program: &Program, secured: &Secured) -> Result<(), Failure> {
    let print = |whom: &str, subject: &str, scopes: &[&str]| {
        let token = secured.token(subject, scopes).map_err(Failure::operation)?;
        println!("  {whom:<10}  TOKEN={token}");
        Ok(())
    };
    for token in &program.tokens {
        print(token.whom, token.subject, token.scopes)?;
    }
    match program.tokens.is_empty() {
        true => print("everything", "dev", &["cmd:*", "qry:*", "ops:write"]),
        false => Ok(()),
    }
}
