//! The command side of a replica: its threads, and what takes commands from NATS.

use super::{Domain, PlatformOptions, StartError, nats::connect_command_side, starting::Starting};
use crate::{
    command::{
        client::CommandClient, endpoint::CommandEndpoint, placement::Placement,
        threads::CommandThreads,
    },
    config::Role,
    event_log::{AppendMode, ChosenAppend, EventLog},
};

/// The threads that decide, and how what they decide reaches the log.
pub(super) type Deciding = (CommandThreads, ChosenAppend);

/// Connects the threads that decide; `None` without the command role.
pub(super) async fn connect(
    starting: &Starting<'_>,
    log: &EventLog,
) -> Result<Option<Deciding>, StartError> {
    let options = starting.options;
    if !options.has(Role::Command) {
        return Ok(None);
    }
    let deciding = starting
        .waiting
        .until("nats", "not connected yet", async || {
            log.agree_on_secret().await?;
            let append = options.append.choose(log.client(), &options.server).await?;
            let threads = threads(options, log, append.mode).await?;
            Ok((threads, append))
        })
        .await?;
    Ok(Some(deciding))
}

/// The threads, each with a connection of its own.
async fn threads(
    options: &PlatformOptions,
    log: &EventLog,
    append: AppendMode,
) -> Result<CommandThreads, StartError> {
    let open = |first: Option<EventLog>| {
        let (servers, name) = (options.nats.clone(), options.replica.clone());
        let log = log.clone();
        let health = log.health().clone();
        async move {
            let nats = connect_command_side(&servers, &name, &health).await?;
            Ok(match first {
                None => log.over(nats).with_append_mode(append),
                Some(first) => first.over(nats),
            })
        }
    };
    CommandThreads::opening(options.command.threads, open).await
}

/// Begins to take commands: those of this replica's callers, and where it decides, from NATS too.
pub(super) async fn open(
    starting: &Starting<'_>,
    deciding: Option<CommandThreads>,
    placement: Placement,
) -> Result<(CommandClient, Option<CommandEndpoint>), StartError> {
    let Domain { aggregates, .. } = starting.domain;
    let sized = starting.options.command;
    let Some(threads) = deciding else {
        let remote = CommandClient::remote(aggregates, sized, placement);
        return Ok((remote, None));
    };
    let commands = CommandClient::start(aggregates, threads, sized, Some(placement.clone()));
    let endpoint = starting
        .waiting
        .until("commands", "not subscribed to yet", async || {
            let (client, placement) = (commands.clone(), placement.clone());
            let (guard, access) = (starting.guard.clone(), starting.options.access.clone());
            let opening =
                async move { CommandEndpoint::open(client, &placement, &guard, &access).await };
            Ok(starting.on_io(opening).await??)
        })
        .await?;
    Ok((commands, Some(endpoint)))
}
