//! `headwater bench …`.

use super::Failure;
use crate::{
    bench::{
        Bench, BenchError, catchup, claims,
        commands::{self, CommandsOptions},
        compared::{self, Compared},
        console,
        events::{self, EventsOptions},
        fanout, floor, fresh,
        fulfilments::{self, FulfilmentsOptions},
        get, lists, live,
        mixed::{self, MixedOptions},
        queries::{QueriesOptions, There},
        search,
        sweep::{Steps, Sweep},
    },
    config::{
        BenchAction, BenchCatchupConfig, BenchClaimsConfig, BenchCommandsConfig, BenchConfig,
        BenchConsoleConfig, BenchEventsConfig, BenchFanoutConfig, BenchFreshConfig, BenchGetConfig,
        BenchHotConfig, BenchListsConfig, BenchLiveConfig, BenchMixedConfig, BenchProcessesConfig,
        BenchSearchConfig, QueryBenchConfig, ThereConfig,
    },
};
use std::{process::ExitCode, time::Duration};

pub(super) async fn run(action: BenchAction) -> Result<ExitCode, Failure> {
    match action {
        BenchAction::Commands(config) => many_aggregates(config).await,
        BenchAction::Hot(config) => one_aggregate(config).await,
        BenchAction::Claims(config) => unique_keys(config).await,
        BenchAction::Get(config) => documents(config).await,
        BenchAction::Search(config) => searches(config).await,
        BenchAction::Catchup(config) => filling(config).await,
        BenchAction::Fanout(config) => wide_event(config).await,
        BenchAction::Fresh(config) => freshness(config).await,
        BenchAction::Mixed(config) => beside_views(config).await,
        BenchAction::Live(config) => followers(config).await,
        BenchAction::Events(config) => exported_log(config).await,
        BenchAction::Lists(config) => all_lists(config).await,
        BenchAction::Processes(config) => orders(config).await,
        BenchAction::Console(config) => done(console_costs(config).await),
        BenchAction::Bare(config) => done(get::serve_bare(config.body).await),
        BenchAction::Responder(config) => {
            let nats = config.nats.address().map_err(Failure::configuration)?;
            done(floor::respond(&nats, config.reply_bytes).await)
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn done(measured: Result<(), BenchError>) -> Result<(), Failure> {
    measured.map_err(Failure::operation)
}

async fn many_aggregates(config: BenchCommandsConfig) -> Result<(), Failure> {
    let mut options = options("commands", &config.bench)?;
    options.aggregates = config.aggregates as usize;
    options.concurrency = config.concurrency.into();
    options.in_process = config.in_process;
    options.token = config.token.clone();
    done(match &config.sweep {
        Some(steps) => sweep(options, steps, &config).await,
        None => tell_commands(commands(options, &config).await, &config.bench),
    })
}

async fn one_aggregate(config: BenchHotConfig) -> Result<(), Failure> {
    let mut options = options("hot", &config.bench)?;
    options.concurrency = config.concurrency.into();
    options.in_process = config.in_process;
    done(tell_commands(commands::run(options).await, &config.bench))
}

async fn unique_keys(config: BenchClaimsConfig) -> Result<(), Failure> {
    let mut options = options("claims", &config.bench)?;
    options.aggregates = config.aggregates as usize;
    options.concurrency = config.concurrency.into();
    let measured = claims::run(options, config.rate.into()).await;
    done(tell_commands(measured, &config.bench))
}

async fn documents(config: BenchGetConfig) -> Result<(), Failure> {
    let options = QueriesOptions {
        documents: config.documents as usize,
        clients: config.connections.into(),
        cached: !config.no_cache,
        token: config.token.clone(),
        there: there(config.there)?,
        ..queries(&config.bench)
    };
    done(tell(get::run(options).await, &config.bench))
}

async fn searches(config: BenchSearchConfig) -> Result<(), Failure> {
    let options = QueriesOptions {
        documents: config.documents as usize,
        names: search::name,
        clients: config.connections.into(),
        there: there(config.there)?,
        ..queries(&config.bench)
    };
    done(tell(search::run(options).await, &config.bench))
}

async fn filling(config: BenchCatchupConfig) -> Result<(), Failure> {
    let options = QueriesOptions {
        documents: config.aggregates.min(config.events) as usize,
        ..queries(&config.bench)
    };
    let measured = catchup::run(options, config.events as usize).await;
    done(tell(measured, &config.bench))
}

async fn wide_event(config: BenchFanoutConfig) -> Result<(), Failure> {
    let options = QueriesOptions {
        documents: config.documents as usize,
        ..queries(&config.bench)
    };
    done(tell(fanout::run(options).await, &config.bench))
}

async fn freshness(config: BenchFreshConfig) -> Result<(), Failure> {
    let options = QueriesOptions {
        clients: config.connections.into(),
        rate: config.rate.into(),
        there: there(config.there)?,
        ..queries(&config.bench)
    };
    done(tell(fresh::run(options).await, &config.bench))
}

async fn beside_views(config: BenchMixedConfig) -> Result<(), Failure> {
    let options = MixedOptions {
        aggregates: config.aggregates as usize,
        connections: config.connections.into(),
        length: Duration::from_secs(config.seconds),
        rate: config.rate.map(u64::from),
        durable: config.durable,
        nats_server: config.nats_server,
    };
    let measured = mixed::run(options).await;
    done(measured.and_then(|bench| bench.tell(config.json.as_deref(), None)))
}

async fn followers(config: BenchLiveConfig) -> Result<(), Failure> {
    let options = QueriesOptions {
        documents: 1,
        clients: config.clients.into(),
        there: there(config.there)?,
        ..queries(&config.bench)
    };
    done(tell(live::run(options).await, &config.bench))
}

async fn exported_log(config: BenchEventsConfig) -> Result<(), Failure> {
    let options = EventsOptions {
        events: config.events as usize,
        aggregates: config.aggregates.min(config.events) as usize,
        rounds: config.bench.rounds,
        durable: config.bench.durable,
        nats_server: config.bench.nats_server.clone(),
    };
    done(tell(events::run(options).await, &config.bench))
}

async fn all_lists(config: BenchListsConfig) -> Result<(), Failure> {
    let options = QueriesOptions {
        documents: config.documents as usize,
        clients: config.connections.into(),
        ..queries(&config.bench)
    };
    let measured = lists::run(options).await;
    let (json, plot) = (config.bench.json.as_deref(), config.bench.plot.as_deref());
    done(measured.and_then(|lists| lists.tell(json, plot)))
}

async fn orders(config: BenchProcessesConfig) -> Result<(), Failure> {
    let options = FulfilmentsOptions {
        commands: CommandsOptions {
            name: "processes",
            aggregates: 1,
            concurrency: config.concurrency.into(),
            length: Duration::from_secs(config.bench.seconds),
            rounds: config.bench.rounds,
            connections: 2,
            in_process: false,
            nats: None,
            token: None,
            durable: config.bench.durable,
            nats_server: config.bench.nats_server.clone(),
        },
        orders: config.orders as usize,
        armed: config.armed as usize,
    };
    done(tell(fulfilments::run(options).await, &config.bench))
}

fn options(name: &'static str, config: &BenchConfig) -> Result<CommandsOptions, Failure> {
    let nats = config.nats.as_deref();
    let nats = nats.map(|servers| config.access.address(servers));
    Ok(CommandsOptions {
        name,
        aggregates: 1,
        concurrency: 1,
        length: config.length(),
        rounds: config.rounds,
        connections: config.connections.into(),
        in_process: false,
        token: None,
        nats: nats.transpose().map_err(Failure::configuration)?,
        durable: config.durable,
        nats_server: config.nats_server.clone(),
    })
}

/// The comparison, where there is one.
fn compared(config: &BenchCommandsConfig) -> Option<Compared> {
    let lists = config.batch.map(|size| Compared::Lists(size.into()));
    let replicas = config
        .replicas
        .map(|count| Compared::Replicas(count.into()));
    let http = config.http.then_some(Compared::Http);
    let apart = config.gateway_apart.then_some(Compared::GatewayApart);
    lists.or(replicas).or(http).or(apart)
}

fn tell_commands(bench: Result<Bench, BenchError>, config: &BenchConfig) -> Result<(), BenchError> {
    bench?.tell(config.json.as_deref(), config.plot.as_deref())
}

/// Commands the way that is asked for.
async fn commands(
    options: CommandsOptions,
    config: &BenchCommandsConfig,
) -> Result<Bench, BenchError> {
    match compared(config) {
        Some(compared) => compared::run(&options, compared).await,
        None => commands::run(options).await,
    }
}

/// Commands with more and more in flight.
async fn sweep(
    mut options: CommandsOptions,
    steps: &Steps,
    config: &BenchCommandsConfig,
) -> Result<(), BenchError> {
    let mut sweep = Sweep::new(options.name);
    for concurrency in &steps.0 {
        options.concurrency = usize::from(*concurrency);
        eprintln!("{concurrency} in flight");
        sweep.take(*concurrency, commands(options.clone(), config).await?);
    }
    sweep.tell(config.bench.json.as_deref(), config.bench.plot.as_deref())
}

fn queries(config: &QueryBenchConfig) -> QueriesOptions {
    QueriesOptions {
        documents: 1_000,
        names: |number| format!("Gala apples, bag {number}"),
        clients: 64,
        length: Duration::from_secs(config.seconds),
        rounds: config.rounds,
        cached: true,
        rate: 1_000,
        token: None,
        durable: config.durable,
        nats_server: config.nats_server.clone(),
        there: None,
    }
}

async fn console_costs(config: BenchConsoleConfig) -> Result<(), BenchError> {
    let options = QueriesOptions {
        documents: 100,
        names: |number| format!("Gala apples, bag {number}"),
        clients: config.consoles.into(),
        length: Duration::from_secs(config.seconds),
        rounds: config.rounds,
        cached: true,
        rate: 0,
        token: None,
        durable: false,
        nats_server: config.nats_server,
        there: None,
    };
    let costs = console::run(options).await?;
    costs.tell(config.json.as_deref())
}

fn there(config: ThereConfig) -> Result<Option<There>, Failure> {
    let Some((servers, http)) = config.nats.zip(config.http_addr) else {
        return Ok(None);
    };
    let nats = config.access.address(&servers);
    let nats = nats.map_err(Failure::configuration)?;
    Ok(Some(There { nats, http }))
}

fn tell(bench: Result<Bench, BenchError>, config: &QueryBenchConfig) -> Result<(), BenchError> {
    bench?.tell(config.json.as_deref(), config.plot.as_deref())
}
