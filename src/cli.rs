//! The program's commands: each reads its configuration, does its work, and says how it ended.
//!
//! Exit codes: 0 for done, 1 for failed (or, of a check, "something differs"), 2 for a
//! configuration that cannot work.

mod backup;
mod bench;
mod control;
mod dev;
mod events;
mod manual;
mod nats_config;
mod new;
mod ops;
mod parked;
mod processes;
mod progress;
mod serve;
mod signals;
mod token;
mod topology;
mod views;

use crate::{
    config::{Cli, Command, HeadwaterCommand, LogConfig, NatsConfig, TraceConfig},
    mart,
    platform::{self, Domain, StartError},
    sample::SampleCommand,
    telemetry::{self, trace},
};
use clap::{CommandFactory, Subcommand};
use std::{fmt, process::ExitCode};

/// The program of a domain: `dev`, `serve`, `views` and whatever else there is, with the same flags for
/// every domain.
///
/// ```no_run
/// use headwater::prelude::*;
///
/// fn main() -> std::process::ExitCode {
///     let domain = Domain::new(); // .aggregate::<…>().view::<…>()
///     Program::new("ledger", domain).run()
/// }
/// ```
pub struct Program {
    name: &'static str,
    version: &'static str,
    about: Option<&'static str>,
    domain: Domain,
    sample: Vec<SampleCommand>,
    examples: Vec<String>,
    tokens: Vec<SampleToken>,
    settings: Vec<Setting>,
}

/// A token that `dev --secure` makes.
struct SampleToken {
    whom: &'static str,
    subject: &'static str,
    scopes: &'static [&'static str],
}

/// A setting of a process that is a flag of `dev` and `serve`.
struct Setting {
    flag: &'static str,
    process: &'static str,
    name: &'static str,
    help: &'static str,
}

impl Program {
    /// The program `name` of this domain, at this crate's version.
    #[must_use]
    pub fn new(name: &'static str, domain: Domain) -> Self {
        Self {
            name,
            version: env!("CARGO_PKG_VERSION"),
            about: None,
            domain,
            sample: Vec::new(),
            examples: Vec::new(),
            tokens: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// Has a version of its own: `env!("CARGO_PKG_VERSION")`, for example.
    #[must_use]
    pub fn version(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// Says in `--help` what it is.
    #[must_use]
    pub fn about(self, about: &'static str) -> Self {
        Self {
            about: Some(about),
            ..self
        }
    }

    /// Gives these commands at the first start of `dev`, unless `--no-seed` is given: in an order in
    /// which each is accepted.
    #[must_use]
    pub fn sample(self, sample: Vec<SampleCommand>) -> Self {
        Self { sample, ..self }
    }

    /// Prints this line when `dev` runs, as one to try; `{http}` in it is where HTTP is served.
    #[must_use]
    pub fn example(mut self, line: impl Into<String>) -> Self {
        self.examples.push(line.into());
        self
    }

    /// Makes a token of this subject and with these scopes when `dev --secure` runs, and prints it as that of
    /// `whom`. Without any, one is made that may everything.
    #[must_use]
    pub fn token(
        mut self,
        whom: &'static str,
        subject: &'static str,
        scopes: &'static [&'static str],
    ) -> Self {
        self.tokens.push(SampleToken {
            whom,
            subject,
            scopes,
        });
        self
    }

    /// Makes a setting of a process a flag of `dev` and `serve`, and a variable `HEADWATER_<FLAG>`. Its value
    /// is read as the settings of the process are: a duration as `15m`, for example.
    #[must_use]
    pub fn setting(
        mut self,
        flag: &'static str,
        (process, name): (&'static str, &'static str),
        help: &'static str,
    ) -> Self {
        self.settings.push(Setting {
            flag,
            process,
            name,
            help,
        });
        self
    }

    /// Reads the command line, and runs what it asks for to its end.
    #[must_use]
    pub fn run(mut self) -> ExitCode {
        let whole = self.command::<Command>();
        let cli = self.parse(whole.clone());
        self.finish(&cli.log, self.perform(cli.command, whole))
    }

    /// The whole command line of this program.
    fn command<C: Subcommand>(&self) -> clap::Command {
        let command = Cli::<C>::command().name(self.name).version(self.version);
        let command = match self.about {
            Some(about) => command.about(about),
            None => command,
        };
        let with_settings = |command: clap::Command| {
            let flags = self.settings.iter().map(|setting| {
                let variable = setting.flag.replace('-', "_").to_uppercase();
                let variable: &'static str = format!("HEADWATER_{variable}").leak();
                clap::Arg::new(setting.flag)
                    .long(setting.flag)
                    .env(variable)
                    .help(setting.help)
            });
            command.args(flags)
        };
        // Each stays in its place: `dev` is what a newcomer looks for.
        command.mut_subcommands(|below| match below.get_name() {
            "dev" | "serve" => with_settings(below),
            _ => below,
        })
    }

    fn parse<C: Subcommand>(&mut self, command: clap::Command) -> Cli<C> {
        let (cli, read) = Cli::read(command);
        if let Some(("dev" | "serve", read)) = read.subcommand() {
            for setting in &self.settings {
                if let Some(value) = read.get_one::<String>(setting.flag)
                    && let Err(reason) = self.domain.set(setting.process, setting.name, value)
                {
                    eprintln!("{}: --{} {value}: {reason}", self.name, setting.flag);
                    std::process::exit(2);
                }
            }
        }
        cli
    }

    /// Does what is asked for; `whole` is all that could have been.
    async fn perform(&self, command: Command, whole: clap::Command) -> Result<ExitCode, Failure> {
        match command {
            Command::Completions { shell } => manual::completions(whole, shell),
            Command::Man { out } => manual::pages(whole, out.as_deref()),
            Command::NatsConfig(config) => nats_config::run(&config),
            Command::Token(config) => token::run(config),
            Command::Dev(config) => dev::run(self, *config).await,
            Command::Serve(config) => serve::run(self, *config).await,
            Command::Views { action } => views::run(&self.domain, action).await,
            Command::Parked { action } => parked::run(&self.domain, action).await,
            Command::Events { action } => events::run(&self.domain, action).await,
            Command::Processes { action } => processes::run(&self.domain, action).await,
            Command::Backup(config) => backup::backup(config).await,
            Command::Restore(config) => backup::restore(&self.domain, config).await,
            Command::Topology { action } => topology::run(&self.domain, action).await,
        }
    }

    fn finish(
        &self,
        log: &LogConfig,
        performing: impl Future<Output = Result<ExitCode, Failure>>,
    ) -> ExitCode {
        let done = telemetry::init(log)
            .map_err(Failure::configuration)
            .and_then(|()| crate::run(performing));
        match done {
            Ok(code) => code,
            Err(failure) => {
                eprintln!("{}: {failure}", self.name);
                ExitCode::from(failure.code)
            }
        }
    }
}

/// The scopes of a member of the mart.
const MEMBER: &[&str] = &[
    "cmd:order:place",
    "cmd:order:pay",
    "cmd:order:cancel",
    "qry:product",
    "qry:storefront",
    "qry:order",
];
/// The scopes of its staff: everything.
const STAFF: &[&str] = &["cmd:*", "qry:*", "ops:write", "staff"];

/// Runs the program `headwater`: that of the mart, which also begins projects and measures.
#[must_use]
pub fn run() -> ExitCode {
    let mut program = of_the_mart();
    let whole = program.command::<HeadwaterCommand>();
    let cli = program.parse(whole.clone());
    program.finish(&cli.log, async {
        match cli.command {
            HeadwaterCommand::Any(command) => program.perform(command, whole).await,
            HeadwaterCommand::New(config) => new::run(&config),
            HeadwaterCommand::Bench { action } => bench::run(action).await,
        }
    })
}

/// The whole command line of the program `headwater`, which pages are held to.
#[cfg(test)]
pub(crate) fn command_line() -> clap::Command {
    of_the_mart().command::<HeadwaterCommand>()
}

/// The program of the mart.
fn of_the_mart() -> Program {
    let product = "curl -s '{http}/views/product?q=%EC%82%AC%EA%B3%BC&limit=3'";
    let stock = "curl -s '{http}/commands/stock/gangnam_apple-1kg/receive' -H 'Content-Type: application/json' -d '{\"quantity\": 12}'";
    Program::new("headwater", Domain::mart())
        .setting(
            "payment-deadline",
            ("fulfilment", "payment_deadline"),
            "How long the payment of a confirmed order is waited for before it is cancelled, such as 90s or 2h [default: 15m]",
        )
        .sample(mart::catalogue::sample())
        .token("member", "m-haneul", MEMBER)
        .token("staff", "staff", STAFF)
        .example(product)
        .example(stock)
}

/// Begins to export the spans of this replica, where it is said where to.
fn export_traces(config: &TraceConfig, replica: &str) -> Result<Option<trace::Exporter>, Failure> {
    let options = config.options(replica, |name| std::env::var(name).ok());
    let Some(options) = options.map_err(Failure::configuration)? else {
        return Ok(None);
    };
    trace::install(&options)
        .map(Some)
        .map_err(Failure::operation)
}

/// Connects to NATS, as `name`.
async fn connect(nats: &NatsConfig, name: &str) -> Result<async_nats::Client, Failure> {
    let address = nats.address().map_err(Failure::configuration)?;
    let connected = platform::connect(&address, name).await;
    connected.map_err(Failure::connection)
}

/// The reason why a command did not do its work.
#[derive(Debug)]
struct Failure {
    code: u8,
    reason: String,
}

impl Failure {
    /// The configuration cannot work: nothing was begun.
    fn configuration(reason: impl fmt::Display) -> Self {
        Self {
            code: 2,
            reason: reason.to_string(),
        }
    }

    /// NATS cannot be connected to.
    fn connection(error: StartError) -> Self {
        match error {
            StartError::Servers(_) | StartError::Unauthorized { .. } => Self::configuration(error),
            _ => Self::operation(error),
        }
    }

    /// Something went wrong on the way.
    fn operation(reason: impl fmt::Display) -> Self {
        Self {
            code: 1,
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
