//! Exclusions: messages that an operator has left out of an aggregate's history for good.
//!
//! The last message of `log.excluded.<aggregate>.<id>` is the whole list of one aggregate. An exclusion names
//! the mark of what it excludes, so it never applies to what another log has at the same position. After the
//! list a commit without events is appended to the aggregate: all who fold the aggregate meet it, and look
//! the list up when they do. So nobody has to look it up where nothing is wrong, and still nobody builds on
//! what has been excluded, be it in memory or in a snapshot.

use super::{
    Append, AppendError, EventLog, LoadError, Mark, StoredMessage, codec,
    subject::{self, Id},
};
use async_nats::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The most exclusions of one aggregate.
pub const MOST: usize = 256;
/// The most characters of a reason, and of a name.
pub const LONGEST: usize = 500;
/// The first token of the subjects after `log.`.
const EXCLUDED: &str = "log.excluded";
/// The commit without events that follows an exclusion.
const NOTICE: &[u8] = b"[]";
/// The highest version that is taken from a commit which is passed over: what JSON numbers are exact up to.
const MAX_VERSION: u64 = 1 << 53;
/// The number of times that a write is tried again because another was first.
const RACES: u32 = 16;

/// One excluded message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    /// The position of the message.
    pub position: u64,
    /// The mark of the message.
    #[serde(with = "mark_as_text")]
    pub mark: Mark,
    /// The reason, in the operator's words.
    pub reason: String,
    /// The operator's name.
    pub by: String,
    /// The time of the exclusion, by the operator's clock.
    pub at: Timestamp,
}

/// All that is excluded of one aggregate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclusions {
    list: Vec<Exclusion>,
    /// The position of the message that holds the list; 0 when there is none.
    position: u64,
}

/// The stored form of a list.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<L> {
    excluded: L,
}

impl Exclusions {
    /// Reads the list of a stored message.
    fn read(message: &StoredMessage) -> Self {
        let list = match serde_json::from_slice::<Stored<Vec<Exclusion>>>(&message.payload) {
            Ok(stored) => stored.excluded,
            Err(error) => {
                tracing::error!(
                    log.subject = message.subject,
                    event.position = message.position,
                    %error,
                    "a list of exclusions cannot be read and counts as empty"
                );
                Vec::new()
            }
        };
        Self {
            list,
            position: message.position,
        }
    }

    /// Returns whether nothing is excluded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the exclusion of a message, if that very message is excluded.
    #[must_use]
    pub fn of(&self, message: &StoredMessage) -> Option<&Exclusion> {
        let at_its_position = self.list.iter().find(|it| it.position == message.position);
        at_its_position.filter(|it| it.mark == Mark::of(&message.payload))
    }

    /// Returns whether something at or before a position is excluded.
    #[must_use]
    pub fn reach(&self, position: u64) -> bool {
        self.list.iter().any(|it| it.position <= position)
    }

    /// Adds an exclusion. One of another log's message at the same position gives way to it.
    ///
    /// # Errors
    ///
    /// Returns [`ExcludeError`] when the exclusion has no reason or too long a text, when the message is
    /// excluded already, or when the list is full.
    pub fn add(&mut self, exclusion: Exclusion) -> Result<(), ExcludeError> {
        if exclusion.reason.trim().is_empty() {
            return Err(ExcludeError::NoReason);
        }
        let texts = [&exclusion.reason, &exclusion.by];
        if texts.iter().any(|text| text.chars().count() > LONGEST) {
            return Err(ExcludeError::TooLong);
        }
        let same = |it: &Exclusion| it.position == exclusion.position;
        if let Some(there) = self.list.iter().find(|it| same(it))
            && there.mark == exclusion.mark
        {
            return Err(ExcludeError::Already(Box::new(there.clone())));
        }
        self.list.retain(|it| !same(it));
        if self.list.len() >= MOST {
            return Err(ExcludeError::Full);
        }
        self.list.push(exclusion);
        self.list.sort_by_key(|it| it.position);
        Ok(())
    }
}

impl EventLog {
    /// Reads what is excluded of an aggregate, through the stream leader.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn exclusions(&self, aggregate: &str, id: &str) -> Result<Exclusions, LoadError> {
        let last = self.last_message(&list_subject(aggregate, id)).await?;
        Ok(last.as_ref().map(Exclusions::read).unwrap_or_default())
    }

    /// Reads the lists of all aggregates of which something is excluded, by the subjects of their commits.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn all_exclusions(&self) -> Result<HashMap<String, Exclusions>, LoadError> {
        Ok(by_commits(&self.exclusion_lists().await?))
    }

    /// Reads the last list of each aggregate of which something is excluded, as it is stored, in the order of
    /// their subjects.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn exclusion_lists(&self) -> Result<Vec<StoredMessage>, LoadError> {
        let all = format!("{EXCLUDED}.>");
        let messages = self.messages(&all, 0, u64::MAX).await?;
        let lists = messages.into_iter().map(|it| (it.subject.clone(), it));
        // The last one of each aggregate counts.
        let lists: BTreeMap<_, _> = lists.collect();
        Ok(lists.into_values().collect())
    }

    /// Reads the positions of all messages that are excluded of the aggregates of these names.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn excluded_positions(&self, aggregates: &[&str]) -> Result<HashSet<u64>, LoadError> {
        let mut positions = HashSet::new();
        for aggregate in aggregates {
            let all = list_subject(aggregate, "*");
            let messages = self.messages(&all, 0, u64::MAX).await?;
            // The last one of each aggregate counts.
            let last: BTreeMap<_, _> = messages.iter().map(|it| (&it.subject, it)).collect();
            for (list, message) in last {
                let Some((_, id)) = list.rsplit_once('.') else {
                    continue;
                };
                let exclusions = Exclusions::read(message);
                positions.extend(self.confirmed(aggregate, id, &exclusions).await?);
            }
        }
        Ok(positions)
    }

    /// Reads the positions of the messages that are excluded of one aggregate.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn excluded_positions_of(
        &self,
        aggregate: &str,
        id: &str,
    ) -> Result<HashSet<u64>, LoadError> {
        let exclusions = self.exclusions(aggregate, id).await?;
        self.confirmed(aggregate, id, &exclusions).await
    }

    /// The positions of a list at which this log has what the list excludes.
    async fn confirmed(
        &self,
        aggregate: &str,
        id: &str,
        exclusions: &Exclusions,
    ) -> Result<HashSet<u64>, LoadError> {
        let commits = subject::dotted(["evt", aggregate, id]);
        let mut positions = HashSet::new();
        for exclusion in &exclusions.list {
            let found = self.message_at(exclusion.position).await?;
            let found = found.filter(|found| found.subject == commits);
            if found.is_some_and(|found| exclusions.of(&found).is_some()) {
                positions.insert(exclusion.position);
            }
        }
        Ok(positions)
    }

    /// Excludes a message of an aggregate, and has all who follow the aggregate take notice. One that is
    /// excluded already is an error, but they take notice all the same.
    ///
    /// # Errors
    ///
    /// See [`ExcludeError`].
    pub async fn exclude(
        &self,
        aggregate: &str,
        id: &Id,
        exclusion: &Exclusion,
    ) -> Result<(), ExcludeError> {
        let list = list_subject(aggregate, id.as_str());
        let mut mine = false;
        for _ in 0..RACES {
            let mut exclusions = self.exclusions(aggregate, id.as_str()).await?;
            match exclusions.add(exclusion.clone()) {
                Ok(()) => {}
                Err(ExcludeError::Already(there)) => {
                    self.give_notice(aggregate, id, exclusions.position).await?;
                    // An append in doubt may have been this one's.
                    return match mine && *there == *exclusion {
                        true => Ok(()),
                        false => Err(ExcludeError::Already(there)),
                    };
                }
                Err(error) => return Err(error),
            }
            let stored = Stored {
                excluded: &exclusions.list,
            };
            let payload = serde_json::to_vec(&stored);
            let payload = payload.map_err(|error| AppendError::Refused(error.to_string()))?;
            let append = Append {
                subject: list.clone(),
                expected: exclusions.position,
                payload: payload.into(),
                headers: HeaderMap::new(),
            };
            mine = true;
            match self.append(append).await {
                Ok(position) => return self.give_notice(aggregate, id, position).await,
                Err(AppendError::LostRace | AppendError::InDoubt(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ExcludeError::Contended)
    }

    /// Appends a commit without events to an aggregate, unless one stands after the position of the list.
    async fn give_notice(&self, aggregate: &str, id: &Id, list: u64) -> Result<(), ExcludeError> {
        let commits = subject::events_of(aggregate, id);
        for _ in 0..RACES {
            let since = self.messages(&commits, list, u64::MAX).await?;
            if since.iter().any(is_notice) {
                return Ok(());
            }
            let last = self.last_message(&commits).await?;
            let append = Append {
                subject: commits.clone(),
                expected: last.map_or(0, |last| last.position),
                payload: NOTICE.into(),
                headers: HeaderMap::new(),
            };
            match self.append(append).await {
                Ok(_) => return Ok(()),
                Err(AppendError::LostRace | AppendError::InDoubt(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ExcludeError::Contended)
    }
}

fn is_notice(message: &StoredMessage) -> bool {
    codec::decode(&message.subject, message.position, &message.payload)
        .is_ok_and(|events| events.is_empty())
}

/// Reads lists, by the subjects of the commits that they are about.
#[must_use]
pub fn by_commits(lists: &[StoredMessage]) -> HashMap<String, Exclusions> {
    let read = lists.iter().filter_map(|list| {
        let aggregate = list.subject.strip_prefix(EXCLUDED)?;
        Some((format!("evt{aggregate}"), Exclusions::read(list)))
    });
    read.collect()
}

/// `log.excluded.<aggregate>.<id>`: where the list of one aggregate stands.
fn list_subject(aggregate: &str, id: &str) -> String {
    subject::dotted([EXCLUDED, aggregate, id])
}

/// The versions that the next commit of an aggregate may follow on, beside the one that is gone on from.
///
/// There are such only after excluded commits: the next one follows on their version where whoever wrote it
/// could read them, or else on the version before. Where none has come yet the higher of the two is gone on
/// from, so that no version is there twice.
#[derive(Debug, Clone, Default)]
pub struct OtherVersions(Vec<u64>);

impl OtherVersions {
    /// Passes over a commit whose last event has the version `last`. Returns the version to go on from.
    pub fn pass_over(&mut self, version: u64, last: u64) -> u64 {
        if last >= MAX_VERSION {
            return version;
        }
        self.0.extend([version, last]);
        version.max(last)
    }

    /// Returns the version that a commit follows on whose first event has the version `first`; `None` when it
    /// follows on none.
    pub fn follow(&mut self, version: u64, first: u64) -> Option<u64> {
        let before = first.checked_sub(1)?;
        let follows = version == before || self.0.contains(&before);
        self.0.clear();
        follows.then_some(before)
    }
}

/// The reason why a message was not excluded.
#[derive(Debug, thiserror::Error)]
pub enum ExcludeError {
    /// There is no reason.
    #[error("an exclusion needs a reason")]
    NoReason,
    /// The reason or the name is too long.
    #[error("a reason, and a name, has at most {LONGEST} characters")]
    TooLong,
    /// The message is excluded already.
    #[error("position {} is excluded already, by {} at {:.0}: {}", .0.position, .0.by, .0.at, .0.reason)]
    Already(Box<Exclusion>),
    /// The aggregate's list is full.
    #[error("{MOST} messages of this aggregate are excluded already, and no more can be")]
    Full,
    /// Others write the same all the time.
    #[error("others write to this aggregate all the time; try again")]
    Contended,
    /// The log cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log does not take the exclusion.
    #[error(transparent)]
    Append(#[from] AppendError),
}

mod mark_as_text {
    use super::Mark;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mark: &Mark, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(mark)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Mark, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exclusion(position: u64, body: &str) -> Exclusion {
        Exclusion {
            position,
            mark: Mark::of(body.as_bytes()),
            reason: "junk".to_owned(),
            by: "ada".to_owned(),
            at: "2026-11-27T09:00:00Z".parse().unwrap(),
        }
    }

    fn message(position: u64, body: &'static str) -> StoredMessage {
        StoredMessage {
            subject: "evt.order.o-1".to_owned(),
            position,
            time: 0,
            stored: Timestamp::UNIX_EPOCH,
            traceparent: None,
            payload: body.as_bytes().into(),
        }
    }

    #[test]
    fn only_the_very_message_at_the_position_is_excluded() {
        let mut exclusions = Exclusions::default();
        exclusions.add(exclusion(7, "junk")).unwrap();
        assert!(exclusions.of(&message(7, "junk")).is_some());
        assert_eq!(exclusions.of(&message(7, "other")), None);
        assert_eq!(exclusions.of(&message(8, "junk")), None);
        assert!(exclusions.reach(7) && !exclusions.reach(6));
    }

    #[test]
    fn a_message_is_excluded_once_and_with_a_reason() {
        let mut exclusions = Exclusions::default();
        let nameless = Exclusion {
            reason: " ".to_owned(),
            ..exclusion(7, "junk")
        };
        assert!(matches!(
            exclusions.add(nameless),
            Err(ExcludeError::NoReason)
        ));
        let long = Exclusion {
            reason: "x".repeat(LONGEST + 1),
            ..exclusion(7, "junk")
        };
        assert!(matches!(exclusions.add(long), Err(ExcludeError::TooLong)));
        exclusions.add(exclusion(7, "junk")).unwrap();
        let again = exclusions.add(exclusion(7, "junk"));
        assert!(matches!(again, Err(ExcludeError::Already(_))));
        // What another log had there does not matter any more.
        exclusions.add(exclusion(7, "of this log")).unwrap();
        assert_eq!(exclusions.list.len(), 1);
        assert!(exclusions.of(&message(7, "of this log")).is_some());
    }

    #[test]
    fn a_commit_follows_on_an_excluded_one_or_on_what_was_before_it() {
        let mut others = OtherVersions::default();
        assert_eq!(others.follow(4, 5), Some(4));
        assert_eq!(others.follow(4, 6), None);
        assert_eq!(others.follow(4, 0), None);
        // The excluded one was at 7, after 4.
        assert_eq!(others.pass_over(4, 7), 7);
        for first in [5, 8] {
            assert_eq!(others.clone().follow(7, first), Some(first - 1));
        }
        assert_eq!(others.clone().follow(7, 6), None);
        // A step back, and a version that nobody could go on from.
        assert_eq!(others.pass_over(7, 1), 7);
        assert_eq!(others.pass_over(7, u64::MAX), 7);
        // Once a commit has followed there is no other version any more.
        assert_eq!(others.follow(7, 8), Some(7));
        assert_eq!(others.follow(8, 5), None);
    }

    #[test]
    fn a_list_is_bounded() {
        let mut exclusions = Exclusions::default();
        for position in 1..=MOST as u64 {
            exclusions.add(exclusion(position, "junk")).unwrap();
        }
        let more = exclusions.add(exclusion(1_000, "junk"));
        assert!(matches!(more, Err(ExcludeError::Full)));
    }

    #[test]
    fn the_stored_form_of_a_list_is_kept() {
        let stored = r#"{"excluded":[{"position":7,"mark":"d8ac30a0ebdd4b7f","reason":"junk","by":"ada","at":"2026-11-27T09:00:00Z"}]}"#;
        let read = Exclusions::read(&message(9, stored));
        assert_eq!((read.position, read.list.len()), (9, 1));
        let again = Stored {
            excluded: &read.list,
        };
        assert_eq!(serde_json::to_string(&again).unwrap(), stored);
        assert!(Exclusions::read(&message(9, "junk")).is_empty());
    }
}
