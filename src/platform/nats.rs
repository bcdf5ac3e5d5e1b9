//! The connection to NATS.

mod sign_in;
mod tls;

pub use sign_in::SignIn;
pub use tls::NatsTls;

use super::StartError;
use crate::event_log::{health::LogHealth, version};
use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError};
use std::time::Duration;

/// The time one attempt to connect is given, over all servers of a list.
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
    SignIn::AsAddressed.resolved(&servers)?;
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

/// The address of NATS, the user to connect as, and the authority to believe.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NatsAddress {
    /// The servers, separated by commas.
    pub servers: String,
    /// As whom to connect.
    pub sign_in: SignIn,
    /// The files of TLS.
    pub tls: NatsTls,
}

impl std::fmt::Debug for NatsAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsAddress")
            .field("servers", &self.shown())
            .field("sign_in", &self.sign_in)
            .field("tls", &self.tls)
            .finish()
    }
}

impl From<&str> for NatsAddress {
    fn from(servers: &str) -> Self {
        servers.to_owned().into()
    }
}

impl From<String> for NatsAddress {
    fn from(servers: String) -> Self {
        Self {
            servers,
            ..Self::default()
        }
    }
}

impl From<&String> for NatsAddress {
    fn from(servers: &String) -> Self {
        servers.clone().into()
    }
}

impl NatsAddress {
    /// Looks whether all can be read that it names.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, with the flag that says so, and no secret.
    pub fn check(&self) -> Result<(), String> {
        self.read().map(|_| ())
    }

    /// The servers as they may be shown: without user and password.
    #[must_use]
    pub fn shown(&self) -> String {
        shown(&nats_servers(&self.servers).unwrap_or_default())
    }

    fn read(&self) -> Result<(Vec<ServerAddr>, Option<SignIn>), String> {
        let servers = nats_servers(&self.servers).map_err(|reason| format!("--nats: {reason}"))?;
        let sign_in = self.sign_in.resolved(&servers)?;
        self.tls.check()?;
        Ok((servers, sign_in))
    }
}

/// Connects to one of several NATS servers, and to another when it goes away.
///
/// # Errors
///
/// Returns [`StartError`] when the address or a file cannot be read, none answers in time, the user is
/// refused, or the server is too old.
pub async fn connect(nats: &NatsAddress, name: &str) -> Result<async_nats::Client, StartError> {
    connect_with(nats, |options| named(options, name)).await
}

/// As [`connect`], for a replica: what the connection meets is told to `health`.
///
/// # Errors
///
/// As [`connect`].
pub(super) async fn connect_replica(
    nats: &NatsAddress,
    name: &str,
    health: &LogHealth,
) -> Result<async_nats::Client, StartError> {
    connect_with(nats, |options| telling(named(options, name), health)).await
}

/// As [`connect_replica`], for the command side. Its subjects are not looked at once more before they
/// are sent: they are put together from names and ids that have been checked, and callers' that came
/// over NATS.
///
/// # Errors
///
/// As [`connect`].
pub(super) async fn connect_command_side(
    nats: &NatsAddress,
    name: &str,
    health: &LogHealth,
) -> Result<async_nats::Client, StartError> {
    connect_with(nats, |options| {
        telling(named(options, name), health).skip_subject_validation(true)
    })
    .await
}

fn named(options: ConnectOptions, name: &str) -> ConnectOptions {
    options
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
    nats: &NatsAddress,
    configure: impl FnOnce(ConnectOptions) -> ConnectOptions,
) -> Result<async_nats::Client, StartError> {
    let (servers, sign_in) = nats.read().map_err(StartError::Servers)?;
    // The client reads a login from the addresses and never sends it.
    let options = sign_in.clone().unwrap_or_default().options();
    let options = nats.tls.applied(configure(options));
    let connecting = options.connect(&servers[..]);
    let client = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(refused(nats, &servers, sign_in.as_ref(), &error)),
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

fn refused(
    nats: &NatsAddress,
    servers: &[ServerAddr],
    sign_in: Option<&SignIn>,
    error: &async_nats::ConnectError,
) -> StartError {
    let (servers, reason) = (shown(servers), error.to_string());
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            let addressed = nats.sign_in == SignIn::AsAddressed && sign_in.is_some();
            let who = match addressed {
                true => SignIn::refused(Some(&SignIn::AsAddressed)),
                false => SignIn::refused(sign_in),
            };
            StartError::Unauthorized {
                servers,
                who,
                reason,
            }
        }
        ConnectErrorKind::ServerParse => StartError::Servers(format!("--nats: {reason}")),
        _ => StartError::Nats { servers, reason },
    }
}
