//! Verifies a process from the log: folds all instances anew, and compares them with what they have sent, with what
//! stands in the logs of those that they have sent it to, and with the alarms that are armed.

use super::{RegisteredProcess, ToldInstance, ToldStatus, registered::record_name};
use crate::{
    event_log::{
        EventLog,
        alarms::AlarmError,
        reader::{Commit, ReadError, Reader, ReaderOptions},
        subject::STREAM,
    },
    process::{Cause, InstanceFold, Step, command_id},
    recorded::Recorded,
    stable_hash::of_bytes as stable_hash,
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// The number of commits that are read at once.
const BATCH: usize = 4_000;
/// The time a commit is waited for that the log has.
const WAIT: Duration = Duration::from_secs(5);
/// The most findings that are kept.
const MOST: usize = 10_000;
/// A deadline that is nearer than this may be on its way.
const NEAR: SignedDuration = SignedDuration::from_secs(60);

/// The reason why it cannot be verified now.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] ReadError),
    /// The log cannot be read.
    #[error(transparent)]
    Load(#[from] crate::event_log::LoadError),
    /// The alarms cannot be read.
    #[error(transparent)]
    Alarms(#[from] AlarmError),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The instance.
    pub id: String,
    /// The fault.
    pub fault: String,
}

/// The result of a verification.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verified {
    /// The number of instances.
    pub instances: u64,
    /// The number of steps that they have made.
    pub steps: u64,
    /// The number of commands that they have sent.
    pub commands: u64,
    /// The number of deadlines that are set.
    pub deadlines: u64,
    /// The things that are not as they should be; the first 10,000.
    pub findings: Vec<Finding>,
}

/// The fate of a command that was sent, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Accepted,
    Refused,
    /// It stands in the log of its target at this position.
    Done(u64),
}

/// One instance while it is folded.
struct Folded {
    told: ToldInstance,
    /// `None` once it is faulty, or has ended and waits for nothing.
    fold: Option<Box<dyn InstanceFold>>,
}

struct Work<'a> {
    process: &'a RegisteredProcess,
    instances: BTreeMap<String, Folded>,
    /// By the hash of their ids.
    commands: HashMap<u64, Fate>,
    verified: Verified,
}

/// Verifies a process up to where the log ends. `progress` is told how many commits are read, and how many there are.
///
/// # Errors
///
/// Returns [`VerifyError`].
pub async fn verify(
    log: &EventLog,
    process: &RegisteredProcess,
    mut progress: impl FnMut(u64, u64),
) -> Result<Verified, VerifyError> {
    let end = log.end().await?;
    let mut work = Work {
        process,
        instances: BTreeMap::new(),
        commands: HashMap::new(),
        verified: Verified::default(),
    };
    let own = vec![process.name.to_owned()];
    read(log, own, end, &mut progress, |commit| work.take(commit)).await?;
    let targets = process.targets.iter().map(|name| (*name).to_owned());
    let targets = targets.collect();
    read(log, targets, end, &mut progress, |commit| work.meet(commit)).await?;
    work.compare_folds();
    let armed = log.armed_alarms(process.name).await?;
    // Read again after the alarms: what was set or cancelled meanwhile is of no account.
    work.compare_alarms(&armed, log.end().await? == end);
    work.verified.instances = work.instances.len() as u64;
    Ok(work.verified)
}

/// Reads the commits of some aggregates up to a position.
async fn read(
    log: &EventLog,
    aggregates: Vec<String>,
    end: u64,
    progress: &mut impl FnMut(u64, u64),
    mut take: impl FnMut(Commit),
) -> Result<(), ReadError> {
    let unique = uuid::Uuid::now_v7().simple();
    let options = ReaderOptions {
        stream: STREAM.to_owned(),
        name: format!("process-verify-{unique}"),
        aggregates,
        prefetch: ReaderOptions::PREFETCH,
        inactive: ReaderOptions::PASSING,
    };
    let mut reader = Reader::open(log, &options, 0).await?;
    let mut pending = reader.pending();
    let (mut done, total) = (0, pending);
    while pending > 0 {
        for commit in reader.next_batch(BATCH, WAIT).await? {
            if commit.position > end {
                pending = 0;
                break;
            }
            (pending, done) = (commit.pending, done + 1);
            reader.ack(commit.position).await?;
            take(commit);
        }
        progress(done, total.max(done));
    }
    drop(reader);
    Reader::forget(log, STREAM, &options.name).await
}

impl Work<'_> {
    fn find(&mut self, id: &str, fault: impl Into<String>) {
        if self.verified.findings.len() < MOST {
            let (id, fault) = (id.to_owned(), fault.into());
            self.verified.findings.push(Finding { id, fault });
        }
    }

    /// Takes in a commit of an instance.
    fn take(&mut self, commit: Commit) {
        let (id, position) = (commit.id.clone(), commit.position);
        let events = match commit.events {
            Ok(events) => events,
            Err(reason) => return self.find(&id, format!("position {position}: {reason}")),
        };
        for event in &events {
            self.account(&id, event);
            let process = self.process;
            let there = self.instances.entry(id.clone());
            let folded = there.or_insert_with(|| Folded {
                told: ToldInstance::default(),
                fold: Some(process.folding()),
            });
            folded.told.take(self.process.name, event);
            let taken = folded.fold.as_mut().map(|fold| fold.take(event));
            if let Some(Err(reason)) = taken {
                folded.fold = None;
                self.find(&id, format!("this build cannot fold it: {reason}"));
            }
        }
    }

    /// Notes the commands that a step sends, and the answer that it takes in.
    fn account(&mut self, id: &str, event: &Recorded) {
        if record_name(self.process.name, &event.event_type) != Some("stepped") {
            return;
        }
        let Ok(step) = serde_json::from_str::<Step>(event.data.get()) else {
            return;
        };
        self.verified.steps += 1;
        if step.step != event.version {
            let fault = format!("step {} stands at version {}", step.step, event.version);
            self.find(id, fault);
        }
        if let Some((sent, number)) = step.input.answered() {
            let command = command_id(self.process.name, id, sent, number);
            let fate = match step.input {
                Cause::Refused { .. } => Fate::Refused,
                _ => Fate::Accepted,
            };
            match self.commands.insert(stable_hash(command.as_bytes()), fate) {
                Some(Fate::Open) => {}
                None => self.find(id, format!("{command} was answered, and never sent")),
                Some(_) => self.find(id, format!("{command} was answered twice")),
            }
        }
        for number in 0..u32::try_from(step.send.len()).unwrap_or(u32::MAX) {
            let command = command_id(self.process.name, id, step.step, number);
            self.verified.commands += 1;
            self.commands
                .insert(stable_hash(command.as_bytes()), Fate::Open);
        }
    }

    /// Meets a commit of an aggregate that commands are sent to.
    fn meet(&mut self, commit: Commit) {
        let prefix = format!("{}/", self.process.name);
        let position = commit.position;
        for event in commit.events.unwrap_or_default() {
            let Some(rest) = event.command_id.strip_prefix(&prefix) else {
                continue;
            };
            let id = rest.split('/').next().unwrap_or_default().to_owned();
            let command = &event.command_id;
            let place = format!("{} {} at {position}", event.aggregate, event.id);
            let hash = stable_hash(command.as_bytes());
            match self.commands.insert(hash, Fate::Done(position)) {
                // That its answer is not stored yet is no fault.
                Some(Fate::Open | Fate::Accepted) => {}
                Some(Fate::Done(before)) if before == position => {}
                Some(Fate::Done(before)) => {
                    self.find(
                        &id,
                        format!("{command} was carried out at {before}, and again: {place}"),
                    );
                }
                Some(Fate::Refused) => {
                    self.find(
                        &id,
                        format!("{command} was refused, and carried out: {place}"),
                    );
                }
                None => self.find(
                    &id,
                    format!("{command} was never sent, and carried out: {place}"),
                ),
            }
        }
    }

    /// Compares what this build folds with what the records tell whoever knows no facts.
    fn compare_folds(&mut self) {
        let mut faults = Vec::new();
        for (id, folded) in &self.instances {
            let Some(fold) = &folded.fold else { continue };
            let (account, told) = (fold.account(), &folded.told);
            let status = match told.status {
                ToldStatus::Waiting => ToldStatus::Running,
                status => status,
            };
            let mut open: Vec<_> = told.open.iter().map(|it| (it.step, it.number)).collect();
            open.sort_unstable();
            let mut deadlines: Vec<_> = told
                .deadlines
                .iter()
                .map(|it| (it.name.clone(), it.armed))
                .collect();
            deadlines.sort();
            let same = account.status == status.to_string()
                && account.open == open
                && account.deadlines == deadlines
                && account.held == told.held.len();
            if !same {
                faults.push((
                    id.clone(),
                    format!("it is folded as {account:?}, and told as {told:?}"),
                ));
            }
        }
        for (id, fault) in faults {
            self.find(&id, fault);
        }
    }

    fn compare_alarms(&mut self, armed: &[String], settled: bool) {
        let armed: std::collections::HashSet<&str> = armed.iter().map(String::as_str).collect();
        let now = Timestamp::now();
        let mut faults = Vec::new();
        for (id, folded) in &self.instances {
            for deadline in &folded.told.deadlines {
                self.verified.deadlines += 1;
                let alarm = format!(
                    "{}.{id}.{}.{}",
                    self.process.name, deadline.name, deadline.armed
                );
                let far = deadline.at.duration_since(now) > NEAR;
                if settled && far && !armed.contains(&*alarm) {
                    faults.push((
                        id.clone(),
                        format!("the deadline {} has no alarm", deadline.name),
                    ));
                }
                let late = now.duration_since(deadline.at) > NEAR;
                let goes_on = matches!(
                    folded.told.status,
                    ToldStatus::Running | ToldStatus::Waiting
                );
                if late && goes_on {
                    faults.push((
                        id.clone(),
                        format!("the deadline {} was due at {}", deadline.name, deadline.at),
                    ));
                }
            }
        }
        for (id, fault) in faults {
            self.find(&id, fault);
        }
    }
}
