//! The session that all queries share, and whether its server answers.
//!
//! A query to a server that is away does not fail: the client keeps it until there is a connection
//! again, and one to a server that hangs is never answered at all. So somebody asks the server a
//! trifle all the time, and while that is not answered nothing else is waited for either.
//!
//! The client makes a lost connection anew, and signs in again on it. Where the server refuses that once
//! (its user is not there yet, two transactions met), every query from then on fails with what was refused,
//! for as long as the client lives. Such a client is replaced by another.

use super::{Credentials, StoreError, StoreOptions, join};
use std::{
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use surrealdb::{
    Surreal,
    engine::any::{self, Any},
    opt::auth::{Database, Root},
    types::Error as SurrealError,
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::timeout,
};

/// The time connecting to a server and signing in may take.
const OPENING: Duration = Duration::from_secs(10);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// The time a server may think about a trifle, busy as it may be.
const SILENCE: Duration = Duration::from_secs(5);

/// The client that is asked now.
type Current = Arc<RwLock<Arc<Surreal<Any>>>>;

/// A session. Dropping it ends it.
pub(super) struct Session {
    current: Current,
    /// Of a server; what is embedded is there.
    pulse: Option<Pulse>,
}

struct Pulse {
    answers: watch::Receiver<bool>,
    /// Told to have the server asked now.
    ask: Arc<Notify>,
    asking: AbortHandle,
}

impl Session {
    pub(super) async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        if !options.url.starts_with("ws") {
            let client = join(&mut options.runtime.spawn(connect(options.clone()))).await?;
            return Ok(Self {
                current: Arc::new(RwLock::new(Arc::new(client))),
                pulse: None,
            });
        }
        let client = connect_in_time(options).await?;
        let current = Arc::new(RwLock::new(Arc::new(client)));
        let (sender, answers) = watch::channel(true);
        let ask = Arc::new(Notify::new());
        let asking = keep_asking(
            Arc::clone(&current),
            options.clone(),
            sender,
            Arc::clone(&ask),
        );
        let asking = options.runtime.spawn(asking).abort_handle();
        let pulse = Some(Pulse {
            answers,
            ask,
            asking,
        });
        Ok(Self { current, pulse })
    }

    /// Returns what queries are given to.
    pub(super) fn client(&self) -> Arc<Surreal<Any>> {
        of(&self.current)
    }

    /// Returns whether the store is a server's.
    pub(super) fn is_remote(&self) -> bool {
        self.pulse.is_some()
    }

    /// Returns whether the server answered when it was last asked.
    pub(super) fn answers(&self) -> bool {
        let pulse = self.pulse.as_ref();
        pulse.is_none_or(|pulse| *pulse.answers.borrow())
    }

    /// Waits for `work`, for as long as the server answers; it is not even begun while the server is known
    /// to be away, or else it would all be done later. What is given up may still be done.
    pub(super) async fn beside<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(pulse) = &self.pulse else {
            return work.await;
        };
        let mut answers = pulse.answers.clone();
        let done = tokio::select! {
            biased;
            // An error would mean that nobody asks any more, which is only so when the store is gone.
            _ = answers.wait_for(|answers| !answers) => return Err(StoreError::Silent),
            done = work => done,
        };
        // The error is of no statement. What was asked is at fault only where anything else can be asked.
        match &done {
            Err(StoreError::Failed(_) | StoreError::Refused(_))
                if ask(&self.client()).await.is_err() =>
            {
                pulse.ask.notify_one();
                Err(StoreError::Silent)
            }
            _ => done,
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

fn of(current: &Current) -> Arc<Surreal<Any>> {
    let current = current.read().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(&current)
}

/// Asks until it is dropped.
async fn keep_asking(
    current: Current,
    options: StoreOptions,
    answers: watch::Sender<bool>,
    again: Arc<Notify>,
) {
    loop {
        let mut asked = ask(&of(&current)).await;
        if let Err(Unanswered::Refused(refused)) = asked {
            asked = match connect_in_time(&options).await {
                Ok(client) => {
                    tracing::info!(%refused, "the session with the SurrealDB server was of no use any more and is another one now");
                    *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(client);
                    Ok(())
                }
                Err(error) => Err(Unanswered::Refused(error)),
            };
        }
        if answers.send_replace(asked.is_ok()) != asked.is_ok() {
            match asked {
                Ok(()) => tracing::info!("the SurrealDB server answers again"),
                Err(Unanswered::Silent) => {
                    tracing::warn!("the SurrealDB server does not answer");
                }
                Err(Unanswered::Refused(error)) => {
                    tracing::warn!(%error, "the SurrealDB server lets nobody sign in");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = again.notified() => {}
        }
    }
}

enum Unanswered {
    /// Nobody says anything.
    Silent,
    /// The session is of no use.
    Refused(StoreError),
}

/// Asks a trifle.
async fn ask(client: &Surreal<Any>) -> Result<(), Unanswered> {
    let asked = client.query("RETURN NONE");
    match timeout(SILENCE, async move { asked.await }).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Unanswered::Refused(error.into())),
        Err(_) => Err(Unanswered::Silent),
    }
}

async fn connect_in_time(options: &StoreOptions) -> Result<Surreal<Any>, StoreError> {
    let mut connecting = options.runtime.spawn(connect(options.clone()));
    match timeout(OPENING, join(&mut connecting)).await {
        Ok(connected) => connected,
        Err(_) => {
            connecting.abort();
            Err(StoreError::Silent)
        }
    }
}

async fn connect(options: StoreOptions) -> Result<Surreal<Any>, SurrealError> {
    let client = any::connect(options.url.as_str()).await?;
    if let Some(credentials) = &options.credentials {
        sign_in(&client, &options, credentials).await?;
    }
    client
        .use_ns(options.namespace)
        .use_db(options.database)
        .await?;
    Ok(client)
}

/// Signs in as a user of the whole server, or else as one of the database.
async fn sign_in(
    client: &Surreal<Any>,
    options: &StoreOptions,
    Credentials { username, password }: &Credentials,
) -> Result<(), SurrealError> {
    let root = Root {
        username: username.clone(),
        password: password.clone(),
    };
    if client.signin(root).await.is_ok() {
        return Ok(());
    }
    let user = Database {
        namespace: options.namespace.clone(),
        database: options.database.clone(),
        username: username.clone(),
        password: password.clone(),
    };
    client.signin(user).await?;
    Ok(())
}
