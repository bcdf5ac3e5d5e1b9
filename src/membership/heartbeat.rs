//! Telling and hearing: the task behind a [`Membership`](super::Membership).

use super::{
    Inner, LOST, Member, Voice,
    told::{ReplicaLoad, ToldReplica},
};
use crate::{
    config::Role,
    connection::{flush, round_trip},
};
use async_nats::{Message, Subscriber};
use clap::ValueEnum;
use futures::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Instant,
};
use tokio::{task::JoinHandle, time::MissedTickBehavior};

/// The messages on `member.<replica>`. Fields are added, never renamed.
#[derive(Serialize, Deserialize)]
struct Heartbeat {
    replica: String,
    /// Sets apart two processes that use one name.
    instance: String,
    roles: Vec<String>,
    /// The views that it can fold, with their versions.
    #[serde(default)]
    views: BTreeMap<String, u32>,
    /// The form of groups of commands that it takes.
    #[serde(default)]
    groups: u32,
    #[serde(default)]
    leaving: bool,
    /// True if the others are asked to tell of themselves at once.
    #[serde(default)]
    hello: bool,
    /// The version of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// The load of a replica that decides commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    load: Option<ReplicaLoad>,
}

impl Heartbeat {
    /// The sender, as operators are told of it.
    fn told(&self) -> ToldReplica {
        ToldReplica {
            replica: self.replica.clone(),
            version: self.version.clone(),
            roles: self.roles.clone(),
            views: self.views.clone(),
            since: began(&self.instance),
            leaving: self.leaving,
            load: self.load.clone(),
        }
    }
}

/// The longest name of a replica.
pub(super) const MAX_NAME: usize = 32;

/// The replica cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// NATS refuses what it takes. Terminal.
    #[error("the membership cannot be joined: {0}")]
    Nats(String),
    /// No subject may have the name. Terminal.
    #[error("the replica's name {replica:?} is not 1 to {MAX_NAME} of A-Z a-z 0-9 _ -")]
    Name {
        /// The name.
        replica: String,
    },
    /// Another live process has the name. Terminal.
    #[error("another live replica is named {replica}; every replica needs a name of its own")]
    NameTaken {
        /// The name.
        replica: String,
    },
}

impl Inner {
    /// Tells of this replica, unless it is silent.
    pub(super) async fn say(&self, hello: bool) -> Result<(), MembershipError> {
        let voice = *self.voice.borrow();
        if voice == Voice::Silent {
            return Ok(());
        }
        let heartbeat = Heartbeat {
            replica: self.me.replica().to_owned(),
            instance: self.instance.clone(),
            roles: self.me.roles().iter().map(|role| name_of(*role)).collect(),
            views: self.me.views().clone(),
            groups: self.me.group_form(),
            leaving: voice == Voice::Leaving,
            hello,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            load: self.load(),
        };
        let body = serde_json::to_vec(&heartbeat).expect("a heartbeat is plain data");
        let fault = |error: &dyn std::fmt::Display| MembershipError::Nats(error.to_string());
        self.nats
            .publish(format!("member.{}", self.me.replica()), body.into())
            .await
            .map_err(|error| fault(&error))?;
        flush(&self.nats).await.map_err(|error| fault(&error))
    }

    pub(super) async fn leave(&self) {
        let said = self.voice.send_replace(Voice::Leaving) != Voice::Silent;
        self.change(|members| members.without(self.me.replica()));
        if said && let Err(error) = self.say(false).await {
            tracing::warn!(%error, "the others will notice by silence that this replica has left");
        }
    }

    /// Tells who waits for a process that it went without a word.
    fn lose(&self, instance: &Arc<str>) {
        self.lost.send_modify(|lost| {
            let surplus = (lost.len() + 1).saturating_sub(LOST);
            let kept = lost.iter().skip(surplus).cloned();
            *lost = Arc::new(kept.chain([instance.clone()]).collect());
        });
    }

    /// It was only cut off.
    fn find_again(&self, instance: &str) {
        self.lost.send_if_modified(|lost| {
            let found = lost.iter().any(|one| &**one == instance);
            if found {
                let others = lost.iter().filter(|one| &***one != instance);
                *lost = Arc::new(others.cloned().collect());
            }
            found
        });
    }

    fn change(&self, change: impl FnOnce(&super::Members) -> super::Members) {
        self.members.send_if_modified(|members| {
            let changed = change(members);
            let differs = changed != **members;
            if differs {
                *members = Arc::new(changed);
            }
            differs
        });
    }
}

/// When a process began: its instance is a UUID that has the time in it.
pub(super) fn began(instance: &str) -> Option<Timestamp> {
    let began = uuid::Uuid::parse_str(instance).ok()?.get_timestamp()?;
    let (seconds, nanoseconds) = began.to_unix();
    let nanoseconds = i32::try_from(nanoseconds).ok()?;
    Timestamp::new(i64::try_from(seconds).ok()?, nanoseconds).ok()
}

pub(super) fn name_of(role: Role) -> String {
    let value = role.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

pub(super) async fn start(inner: &Arc<Inner>) -> Result<JoinHandle<()>, MembershipError> {
    let fault = |error: &dyn std::fmt::Display| MembershipError::Nats(error.to_string());
    let heard = inner
        .nats
        .subscribe("member.*")
        .await
        .map_err(|error| fault(&error))?;
    round_trip(&inner.nats)
        .await
        .map_err(|error| fault(&error))?;
    let task = Task {
        inner: Arc::downgrade(inner),
        others: HashMap::new(),
        myself: Instant::now(),
        told_of_namesake: false,
    };
    Ok(tokio::spawn(task.run(heard, inner.options.heartbeat)))
}

struct Task {
    inner: Weak<Inner>,
    /// Which process each of the others is, and when it was heard last.
    others: HashMap<String, (Arc<str>, Instant)>,
    /// The time when this replica heard itself last.
    myself: Instant,
    told_of_namesake: bool,
}

impl Task {
    async fn run(mut self, mut heard: Subscriber, often: std::time::Duration) {
        let mut ticks = tokio::time::interval(often);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What waits for a replica that hangs waits for this to be noticed.
        let mut looks = tokio::time::interval(often / 4);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What was said is heard before silence is judged.
                biased;
                message = heard.next() => {
                    let (Some(message), Some(inner)) = (message, self.inner.upgrade()) else { return };
                    self.hear(&inner, &message).await;
                }
                _ = looks.tick() => {
                    let Some(inner) = self.inner.upgrade() else { return };
                    self.forget_the_silent(&inner);
                }
                _ = ticks.tick() => {
                    let Some(inner) = self.inner.upgrade() else { return };
                    if let Err(error) = inner.say(false).await {
                        tracing::debug!(%error, "heartbeat not sent");
                    }
                }
            }
        }
    }

    async fn hear(&mut self, inner: &Inner, message: &Message) {
        let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&message.payload) else {
            tracing::debug!(subject = %message.subject, "a heartbeat of another form");
            return;
        };
        if heartbeat.replica != inner.me.replica() || heartbeat.instance == inner.instance {
            inner.told().hear(heartbeat.told());
        }
        if heartbeat.instance == inner.instance {
            let away = self.myself.elapsed() >= inner.options.gone_after;
            self.myself = Instant::now();
            inner.heard_itself.send_modify(|times| *times += 1);
            if away && !heartbeat.hello {
                // The connection was lost and is back: who is there may have changed.
                let _ = inner.say(true).await;
            }
            return;
        }
        if heartbeat.replica == inner.me.replica() {
            if heartbeat.leaving {
                return;
            }
            self.meet_namesake(inner, &heartbeat.instance).await;
        } else if heartbeat.leaving {
            self.say_goodbye(inner, &heartbeat);
        } else {
            let roles = heartbeat.roles.iter();
            // A role that this build does not know is none that it would look for.
            let roles = roles.filter_map(|role| Role::from_str(role, false).ok());
            let member = Member::new(&heartbeat.replica, roles.collect());
            let member = member
                .of_instance(&heartbeat.instance)
                .with_views(heartbeat.views)
                .taking_groups(heartbeat.groups);
            let instance = member.instance();
            inner.find_again(&instance);
            inner.change(|members| members.with(member));
            let heard = (instance.clone(), Instant::now());
            let before = self.others.insert(heartbeat.replica, heard);
            if let Some((before, _)) = before
                && before != instance
            {
                inner.lose(&before);
            }
        }
        if heartbeat.hello {
            let _ = inner.say(false).await;
        }
    }

    /// A process that goes takes no successor of its name along.
    fn say_goodbye(&mut self, inner: &Inner, heartbeat: &Heartbeat) {
        let known = self.others.get(&heartbeat.replica);
        if known.is_some_and(|(instance, _)| **instance != *heartbeat.instance) {
            return;
        }
        self.others.remove(&heartbeat.replica);
        inner.change(|members| members.without(&heartbeat.replica));
    }

    /// Of two processes of one name the younger leaves. Their instances are ordered by when they began.
    async fn meet_namesake(&mut self, inner: &Inner, other: &str) {
        let announced = *inner.voice.borrow() == Voice::Here;
        if other < &*inner.instance {
            inner.namesake.send_replace(true);
        }
        if !self.told_of_namesake {
            self.told_of_namesake = true;
            tracing::error!(
                replica = inner.me.replica(),
                "another process uses this name; the younger of the two leaves"
            );
        }
        if announced && other < &*inner.instance {
            inner.leave().await;
        }
    }

    /// A replica that does not even hear itself learns nothing from the silence of others: it is
    /// its own connection that is away.
    fn forget_the_silent(&mut self, inner: &Inner) {
        let silence = inner.options.gone_after;
        if self.myself.elapsed() >= silence {
            return;
        }
        self.others.retain(|replica, (instance, heard)| {
            let lives = heard.elapsed() < silence;
            if !lives {
                tracing::info!(replica, "replica is gone");
                inner.change(|members| members.without(replica));
                inner.lose(instance);
            }
            lives
        });
    }
}
