//! The live replicas, and which of them is the home of what.
//!
//! Every replica tells of itself each second on `member.<replica>` and hears the others there. The
//! home of a thing is chosen by rendezvous hashing over those that have the role for it, so a
//! replica that comes or goes moves only what was its own. Two replicas may disagree for a moment:
//! placement is an optimisation, and the log's sequence numbers are the safety.

mod heartbeat;
mod members;
mod told;

pub use heartbeat::MembershipError;
pub use members::{Key, Member, Members};
pub use told::{ReplicaLoad, ToldReplica};

use crate::{config::Role, event_log::subject::is_word};
use heartbeat::{MAX_NAME, began, name_of};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinHandle};
use told::Told;

/// The form of groups of commands that this build takes, as its heartbeat tells it. Who tells of none
/// takes none.
pub(crate) const GROUP_FORM: u32 = 1;

/// The pause between two heartbeats, and the meaning of silence.
#[derive(Debug, Clone, Copy)]
pub struct MembershipOptions {
    /// The pause between two heartbeats of a replica; 1 s.
    pub heartbeat: Duration,
    /// A replica that was silent for so long is gone; 3 s, so that two may be lost.
    pub gone_after: Duration,
    /// The time the answers to the first announcement are waited for at the least; 100 ms, a hundred times
    /// what they take on a network of one site. On a slow network it is four times what the replica's own
    /// announcement takes to come back.
    pub answers: Duration,
}

impl Default for MembershipOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            gone_after: Duration::from_secs(3),
            answers: Duration::from_millis(100),
        }
    }
}

/// A handle to the membership of this replica. Cheap to clone.
#[derive(Clone)]
pub struct Membership(Arc<Inner>);

struct Inner {
    nats: async_nats::Client,
    me: Member,
    /// Tells this process from another one of the same name.
    instance: String,
    options: MembershipOptions,
    members: watch::Sender<Arc<Members>>,
    voice: watch::Sender<Voice>,
    /// Another process was heard under this name.
    namesake: watch::Sender<bool>,
    /// Counts how often the replica has heard itself.
    heard_itself: watch::Sender<u64>,
    /// The latest processes that went without a word.
    lost: watch::Sender<Arc<Vec<Arc<str>>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    told: Mutex<Told>,
    load: Mutex<Option<ReplicaLoad>>,
}

impl Inner {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Option<ReplicaLoad> {
        let load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        load.clone()
    }
}

/// A replica's own description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    /// Nothing: it is not ready to be anybody's home.
    Silent,
    Here,
    Leaving,
}

/// So many lost processes are known. More are not lost within the time that anybody waits for one.
const LOST: usize = 64;

impl Membership {
    /// Begins to listen. The replica knows only itself, and nobody knows it, until
    /// [`Membership::announce`].
    ///
    /// `replica` is the lasting name of this replica, which no other may have: 1 to 32 of
    /// `A-Z a-z 0-9 _ -`.
    ///
    /// # Errors
    ///
    /// Returns [`MembershipError`] when the name is of another form, or the subscription is refused.
    pub async fn open(
        nats: async_nats::Client,
        replica: &str,
        roles: BTreeSet<Role>,
        options: MembershipOptions,
    ) -> Result<Self, MembershipError> {
        Self::open_with(nats, Member::new(replica, roles), options).await
    }

    /// As [`Membership::open`], with all that the others are to know of this replica.
    ///
    /// # Errors
    ///
    /// As [`Membership::open`].
    pub async fn open_with(
        nats: async_nats::Client,
        me: Member,
        options: MembershipOptions,
    ) -> Result<Self, MembershipError> {
        let replica = me.replica();
        if !is_word(replica, MAX_NAME) {
            return Err(MembershipError::Name {
                replica: replica.to_owned(),
            });
        }
        let instance = uuid::Uuid::now_v7().simple().to_string();
        let me = me.of_instance(&instance).taking_groups(GROUP_FORM);
        let membership = Self(Arc::new(Inner {
            nats,
            members: watch::Sender::new(Arc::new(Members::of([me.clone()]))),
            me,
            instance,
            options,
            voice: watch::Sender::new(Voice::Silent),
            namesake: watch::Sender::new(false),
            heard_itself: watch::Sender::new(0),
            lost: watch::Sender::default(),
            task: Mutex::new(None),
            told: Mutex::default(),
            load: Mutex::default(),
        }));
        let task = heartbeat::start(&membership.0).await?;
        *membership.task() = Some(task);
        Ok(membership)
    }

    /// Tells the others that this replica is there, and waits until they had time to answer. From
    /// then on it is the home of its share, so what it is to be reached by must be in place.
    /// Calling it again does nothing, once it has been told.
    ///
    /// # Errors
    ///
    /// Returns [`MembershipError::NameTaken`] when another live process has this replica's name, and
    /// [`MembershipError::Nats`] when NATS does not take it.
    pub async fn announce(&self) -> Result<(), MembershipError> {
        let first = self.0.voice.send_if_modified(|voice| {
            let silent = *voice == Voice::Silent;
            if silent {
                *voice = Voice::Here;
            }
            silent
        });
        if !first {
            return Ok(());
        }
        let begun = Instant::now();
        let mut heard = self.0.heard_itself.subscribe();
        if let Err(error) = self.0.say(true).await {
            // Nobody may have heard it: the next call tells it, and looks for a namesake, as the first does.
            self.0.voice.send_if_modified(|voice| {
                let said = *voice == Voice::Here;
                if said {
                    *voice = Voice::Silent;
                }
                said
            });
            return Err(error);
        }
        // Others answer when they hear what comes back here at the same time.
        let echo = tokio::time::timeout(self.0.options.gone_after, heard.changed());
        let _ = echo.await;
        let answers = self.0.options.answers.max(4 * begun.elapsed());
        let mut namesake = self.0.namesake.subscribe();
        let taken = namesake.wait_for(|taken| *taken);
        match tokio::time::timeout(answers, taken).await {
            Ok(_) => Err(MembershipError::NameTaken {
                replica: self.replica().to_owned(),
            }),
            Err(_) => Ok(()),
        }
    }

    /// Returns whether another process, which has had this replica's name for longer, was heard. The
    /// replica leaves then.
    #[must_use]
    pub fn is_name_taken(&self) -> bool {
        *self.0.namesake.borrow()
    }

    /// Waits until the process that has this name now has gone without a word: it was silent for too long,
    /// or another one has its name.
    pub fn lost(&self, replica: &str) -> impl Future<Output = ()> + Send + use<> {
        let instance = {
            let members = self.0.members.borrow();
            members.get(replica).map(Member::instance)
        };
        let mut lost = self.0.lost.subscribe();
        async move {
            let Some(instance) = instance else {
                return std::future::pending().await;
            };
            let is_lost = lost.wait_for(|lost| lost.contains(&instance));
            let is_lost = is_lost.await.is_ok();
            if !is_lost {
                std::future::pending::<()>().await;
            }
        }
    }

    /// This replica's name.
    #[must_use]
    pub fn replica(&self) -> &str {
        self.0.me.replica()
    }

    /// The replica that is the home of `key` among those with the role; `None` when there is none.
    #[must_use]
    pub fn home_of(&self, role: Role, key: Key) -> Option<Arc<str>> {
        let members = self.0.members.borrow();
        members.home_of(role, key).map(Member::shared_name)
    }

    /// As [`Membership::home_of`], told apart from this replica without copying its name.
    #[must_use]
    pub fn home(&self, role: Role, key: Key) -> Home {
        match self.0.members.borrow().home_of(role, key) {
            None => Home::Nowhere,
            Some(member) if member.replica() == self.replica() => Home::Here,
            Some(member) => Home::At(member.shared_name()),
        }
    }

    /// Returns the form of groups of commands that a replica takes; 0 where it takes none, or is not known.
    #[must_use]
    pub fn group_form_of(&self, replica: &str) -> u32 {
        let members = self.0.members.borrow();
        members.get(replica).map_or(0, Member::group_form)
    }

    /// The live replicas, now and whenever they change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.0.members.subscribe()
    }

    /// Returns what the replicas tell of themselves, this one included, ordered by name. One that leaves is
    /// among them until it falls silent.
    #[must_use]
    pub fn told(&self) -> Vec<ToldReplica> {
        let me = &self.0.me;
        let myself = ToldReplica {
            replica: me.replica().to_owned(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            roles: me.roles().iter().map(|role| name_of(*role)).collect(),
            views: me.views().clone(),
            since: began(&self.0.instance),
            leaving: self.is_leaving(),
            load: self.0.load(),
        };
        self.0.told().all(myself, self.0.options.gone_after)
    }

    /// Tells the others, with each heartbeat from now on, what this replica has to do.
    pub fn tell_load(&self, load: Option<ReplicaLoad>) {
        *self.0.load.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }

    /// Returns whether this replica is leaving.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        *self.0.voice.borrow() == Voice::Leaving
    }

    /// Tells the others that this replica is going. It is nobody's home from then on, not its own
    /// either while others are there.
    pub async fn leave(&self) {
        self.0.leave().await;
    }

    /// Stops listening and telling. Without [`Membership::leave`] before, the others notice it by
    /// the silence.
    pub fn stop(&self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.0.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("me", &self.0.me)
            .field("members", &*self.0.members.borrow())
            .finish_non_exhaustive()
    }
}

/// The place of the home of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// In this process.
    Here,
    /// At another replica, by name.
    At(Arc<str>),
    /// No live replica has the role.
    Nowhere,
}
