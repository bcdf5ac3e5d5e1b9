//! The connection to NATS.

use super::StartError;
use crate::{
    event_log::{health::LogHealth, version},
    percent,
};
use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError};
use std::time::Duration;

/// How long one attempt to connect is given, over all servers of a list.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a list of NATS servers, `nats://a:4222,nats://user:password@b:4222`.
///
/// # Errors
///
/// Returns what is wrong with the list or with the first that cannot be read, without any password.
pub fn nats_servers(list: &str) -> Result<Vec<ServerAddr>, String> {
    let servers: Vec<ServerAddr> = list
        .split(',')
        .map(|server| {
            let parsed = server.trim().parse::<ServerAddr>();
            parsed.map_err(|error| format!("not the address of a NATS server: {error}"))
        })
        .collect::<Result<_, _>>()?;
    Login::of(&servers)?;
    Ok(servers)
}

/// The servers of a list as they may be shown: without user and password.
#[must_use]
pub fn shown(servers: &[ServerAddr]) -> String {
    let servers: Vec<_> = servers.iter().map(shown_one).collect();
    servers.join(",")
}

fn shown_one(server: &ServerAddr) -> String {
    format!("{}://{}:{}", server.scheme(), server.host(), server.port())
}

/// Connects to one of a list of NATS servers, and to another when it goes away. User, password and
/// token are those of the addresses.
///
/// # Errors
///
/// Returns [`StartError`] when the list cannot be read, none answers in time, the user is refused, or
/// the server is too old.
pub async fn connect(servers: &str, name: &str) -> Result<async_nats::Client, StartError> {
    connect_with(servers, options(name)).await
}

/// As [`connect`], for a replica: what the connection meets is told to `health`.
///
/// # Errors
///
/// As [`connect`].
pub(super) async fn connect_replica(
    servers: &str,
    name: &str,
    health: &LogHealth,
) -> Result<async_nats::Client, StartError> {
    connect_with(servers, telling(options(name), health)).await
}

/// As [`connect_replica`], for the command side. Its subjects are not looked at once more before they
/// are sent: they are put together from names and ids that have been checked, and callers' that came
/// over NATS.
///
/// # Errors
///
/// As [`connect`].
pub(super) async fn connect_command_side(
    servers: &str,
    name: &str,
    health: &LogHealth,
) -> Result<async_nats::Client, StartError> {
    let options = telling(options(name), health).skip_subject_validation(true);
    connect_with(servers, options).await
}

fn options(name: &str) -> ConnectOptions {
    ConnectOptions::new()
        .name(format!("headwater {name}"))
        // Room for a burst of commands; what comes faster than it is handled is bounded further in.
        .client_capacity(16_384)
        .subscription_capacity(65_536)
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(3))
}

/// Tells the health of the log what a connection meets.
fn telling(options: ConnectOptions, health: &LogHealth) -> ConnectOptions {
    let health = health.clone();
    options.event_callback(move |event| {
        match event {
            Event::Connected => {
                health.connected();
                tracing::info!("connected to NATS");
            }
            Event::Disconnected => {
                health.disconnected();
                tracing::warn!("the connection to NATS is lost");
            }
            Event::SlowConsumer(subscription) => {
                tracing::warn!(
                    nats.subscription = subscription,
                    "a subscription is too slow: messages are dropped"
                );
            }
            Event::ServerError(ServerError::Other(words)) => health.denied(&words),
            Event::ServerError(error) => tracing::warn!(%error, "NATS refuses"),
            Event::ClientError(error) => tracing::debug!(%error, "NATS client"),
            Event::LameDuckMode | Event::Draining | Event::Closed => {
                tracing::info!(%event, "NATS");
            }
        }
        std::future::ready(())
    })
}

async fn connect_with(
    list: &str,
    options: ConnectOptions,
) -> Result<async_nats::Client, StartError> {
    let servers = nats_servers(list).map_err(StartError::Servers)?;
    let login = Login::of(&servers).map_err(StartError::Servers)?;
    // The client reads them from the addresses and never sends them.
    let options = match login {
        None => options,
        Some(Login::Token(token)) => options.token(token),
        Some(Login::User(user, password)) => options.user_and_password(user, password),
    };
    let connecting = options.connect(&servers[..]);
    let client = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(refused(&servers, &error)),
        Err(_) => {
            return Err(StartError::Nats {
                servers: shown(&servers),
                reason: "no answer in time".to_owned(),
            });
        }
    };
    version::check_connected(&client)?;
    Ok(client)
}

fn refused(servers: &[ServerAddr], error: &async_nats::ConnectError) -> StartError {
    let (servers, reason) = (shown(servers), error.to_string());
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            StartError::Unauthorized { servers, reason }
        }
        ConnectErrorKind::ServerParse => StartError::Servers(reason),
        _ => StartError::Nats { servers, reason },
    }
}

/// As whom to connect.
#[derive(PartialEq, Eq)]
enum Login {
    User(String, String),
    Token(String),
}

impl Login {
    /// Reads the one login of all addresses that have any.
    fn of(servers: &[ServerAddr]) -> Result<Option<Self>, String> {
        let mut found: Option<(Self, &ServerAddr)> = None;
        for server in servers {
            let Some(login) = Self::of_one(server)? else {
                continue;
            };
            match &found {
                // The client has one login for all servers.
                Some((other, first)) if *other != login => {
                    return Err(format!(
                        "{} and {} have different users, passwords or tokens; give all servers the same",
                        shown_one(first),
                        shown_one(server)
                    ));
                }
                Some(_) => {}
                None => found = Some((login, server)),
            }
        }
        Ok(found.map(|(login, _)| login))
    }

    fn of_one(server: &ServerAddr) -> Result<Option<Self>, String> {
        let text = |encoded: &str| {
            String::from_utf8(percent::decoded(encoded)).map_err(|_| {
                let server = shown_one(server);
                format!("the user, password or token of {server} is no UTF-8")
            })
        };
        Ok(match (server.username(), server.password()) {
            (None, None) => None,
            (Some(token), None) => Some(Self::Token(text(token)?)),
            (user, Some(password)) => {
                Some(Self::User(text(user.unwrap_or_default())?, text(password)?))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(list: &str) -> Result<Option<Login>, String> {
        Login::of(&nats_servers(list)?)
    }

    #[test]
    fn user_password_and_token_are_read_and_decoded() {
        let user = |user: &str, password: &str| Login::User(user.to_owned(), password.to_owned());
        assert!(login("nats://a:4222").unwrap().is_none());
        let read = login("nats://us%65r:p%40ss@a:4222").unwrap();
        assert!(read == Some(user("user", "p@ss")));
        assert!(login("nats://t%2Fk@a").unwrap() == Some(Login::Token("t/k".to_owned())));
        let read = login("nats://u:p@a:4222,nats://b:4222, nats://u:p@c:4222").unwrap();
        assert!(read == Some(user("u", "p")));
    }

    #[test]
    fn servers_with_different_logins_are_refused_without_saying_them() {
        let error = nats_servers("nats://u:secret1@a:4222,nats://u:secret2@b:4222").unwrap_err();
        assert!(error.contains("nats://a:4222"), "{error}");
        assert!(error.contains("nats://b:4222"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
