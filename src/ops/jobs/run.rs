//! Carries a job out: asks the projectors, and follows what they fill.

use super::{Entry, Job, JobOrder, JobPart, JobState};
use crate::{
    ops::{Projectors, Question},
    projection::{Ask, Reply, ReplyBody, Verb},
    read_model::GenerationState,
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// The pause between two looks at what is filled.
const LOOK: Duration = Duration::from_millis(500);
/// The looks in a row that may bring no answer: a replica is started again meanwhile.
const UNTOLD: u32 = 120;

pub(super) struct Running {
    nats: async_nats::Client,
    order: JobOrder,
    entry: Arc<Entry>,
}

impl Running {
    pub(super) fn new(nats: async_nats::Client, order: JobOrder, entry: Arc<Entry>) -> Self {
        Self { nats, order, entry }
    }

    /// Carries it out to its end.
    pub(super) async fn run(self) {
        let asked = self.ask().await;
        let ended = match asked {
            Ok(()) => self.follow().await,
            Err(reason) => Err(reason),
        };
        self.end(ended);
    }

    /// Has it begun, and leaves what is filled to go on by itself.
    pub(super) async fn begin(self) {
        let asked = self.ask().await;
        if asked.is_err() || !self.fills() {
            self.end(asked);
        }
    }

    fn end(&self, ended: Result<(), String>) {
        let cancelled = self.entry.cancelled.is_cancelled();
        self.entry.job.send_modify(|job| {
            for part in job
                .parts
                .iter_mut()
                .filter(|part| part.state != JobState::Done)
            {
                part.state = match cancelled {
                    true => JobState::Cancelled,
                    false => JobState::Failed,
                };
            }
            let failed = job.parts.iter().find(|part| part.state == JobState::Failed);
            let error = ended
                .err()
                .or_else(|| failed.and_then(|part| part.error.clone()));
            let is_cancelled = |part: &JobPart| part.state == JobState::Cancelled;
            job.state = match &error {
                _ if job.parts.iter().any(is_cancelled) => JobState::Cancelled,
                Some(_) => JobState::Failed,
                None => JobState::Done,
            };
            job.error = error;
            job.cancellable = false;
            job.ended = Some(Timestamp::now());
        });
    }

    fn projectors(&self) -> Projectors<'_> {
        Projectors {
            client: &self.nats,
            authorization: self.order.authorization.as_deref(),
        }
    }

    /// Asks for it, and takes the answers. One that is cancelled is told to stop.
    async fn ask(&self) -> Result<(), String> {
        let JobOrder {
            verb, view, ask, ..
        } = &self.order;
        let id = self.entry.job.borrow().id.clone();
        let question = Question {
            job: Some(&id),
            replica: self.order.replica.as_deref(),
            ..Question::of_all(*verb, ask).about(Some(view))
        };
        let projectors = self.projectors();
        let tell = |reply: &Reply, done, total| self.progress(reply, done, total);
        let asking = projectors.ask(question, tell);
        let cancelling = async {
            self.entry.cancelled.cancelled().await;
            // A rebuild is begun at once; what it fills is dropped later.
            if matches!(verb, Verb::Verify | Verb::Retry | Verb::Skip) {
                let ask = Ask {
                    id: Some(id.clone()),
                    ..Ask::default()
                };
                let question = Question::of_all(Verb::Cancel, &ask).about(Some(view));
                let told = self.projectors().ask(question, |_, _, _| {}).await;
                if let Err(error) = told {
                    tracing::warn!(%error, job.id = id, "not told that the job is cancelled");
                }
            }
            std::future::pending::<()>().await;
        };
        let answers = tokio::select! {
            answers = asking => answers.map_err(|error| error.to_string())?,
            () = cancelling => return Ok(()),
        };
        if answers.replies.is_empty() {
            return Err("no projector answers; is one running?".to_owned());
        }
        for reply in &answers.replies {
            self.take(reply);
        }
        match answers.missing.as_slice() {
            [] => Ok(()),
            missing => Err(format!("no answer came from {}", missing.join(", "))),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Job)) {
        self.entry.job.send_modify(|job| {
            change(job);
            job.done = job.parts.iter().map(|part| part.done).sum();
            job.total = job.parts.iter().map(|part| part.total).sum();
        });
    }

    fn progress(&self, reply: &Reply, done: u64, total: u64) {
        self.change(|job| {
            let part = part_of(job, reply);
            (part.done, part.total) = (done, total);
        });
    }

    fn take(&self, reply: &Reply) {
        self.change(|job| {
            let part = part_of(job, reply);
            match &reply.body {
                ReplyBody::Filling { generation } => part.generation = Some(*generation),
                ReplyBody::Refused { reason } => {
                    part.state = JobState::Failed;
                    part.error = Some(reason.clone());
                }
                ReplyBody::Elsewhere {} => {
                    part.state = JobState::Failed;
                    part.error = Some("no replica keeps it at the moment; try again".to_owned());
                }
                ReplyBody::Verified(verified) => part.end(serde_json::to_value(verified).ok()),
                ReplyBody::Settled(settled) => part.end(serde_json::to_value(settled).ok()),
                ReplyBody::Retried(retried) => {
                    let one = retried.first().map(|(_, _, retried)| retried);
                    part.end(Some(serde_json::json!({
                        "aggregates": retried.len(),
                        "applied": one.map_or(0, |one| one.applied),
                        "still_parked": usize::from(one.is_some_and(|one| one.parked > 0)),
                        "left": retried.iter().filter(|(_, _, one)| one.parked > 0).collect::<Vec<_>>(),
                    })));
                }
                _ => part.end(None),
            }
        });
    }

    /// Looks how far the generations are that are filled, until each has taken over, or will not.
    async fn follow(&self) -> Result<(), String> {
        let mut untold = 0;
        while self.fills() {
            if self.entry.cancelled.is_cancelled() {
                return self.drop_what_is_filled().await;
            }
            match self.look().await {
                Ok(()) => untold = 0,
                Err(reason) if untold == UNTOLD => return Err(reason),
                Err(_) => untold += 1,
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.entry.cancelled.cancelled() => {}
            }
        }
        Ok(())
    }

    fn fills(&self) -> bool {
        let job = self.entry.job.borrow();
        let mut parts = job.parts.iter();
        parts.any(|part| part.state == JobState::Running && part.generation.is_some())
    }

    async fn look(&self) -> Result<(), String> {
        let ask = Ask::default();
        let question = Question::of_all(Verb::Status, &ask).about(Some(&self.order.view));
        let answers = self.projectors().ask(question, |_, _, _| {}).await;
        let answers = answers.map_err(|error| error.to_string())?;
        for reply in &answers.replies {
            if let ReplyBody::Status(report) = &reply.body {
                self.change(|job| {
                    let known = job.parts.iter_mut().find(|part| part.store == reply.store);
                    let Some(part) = known.filter(|part| part.state == JobState::Running) else {
                        return;
                    };
                    let mut all = report.generations.iter();
                    part.look_at(all.find(|one| Some(one.generation) == part.generation));
                });
            }
        }
        Ok(())
    }

    async fn drop_what_is_filled(&self) -> Result<(), String> {
        let filled = {
            let job = self.entry.job.borrow();
            let parts = job
                .parts
                .iter()
                .filter(|part| part.state == JobState::Running);
            let filled = parts.filter_map(|part| Some((part.replica.clone(), part.generation?)));
            filled.collect::<Vec<_>>()
        };
        for (replica, generation) in filled {
            let ask = Ask {
                generation: Some(generation),
                ..Ask::default()
            };
            let question = Question {
                replica: Some(&replica),
                ..Question::of_all(Verb::Drop, &ask).about(Some(&self.order.view))
            };
            let answers = self.projectors().ask(question, |_, _, _| {}).await;
            let answers = answers.map_err(|error| error.to_string())?;
            for reply in &answers.replies {
                self.change(|job| {
                    let part = part_of(job, reply);
                    match &reply.body {
                        ReplyBody::Done {} => part.state = JobState::Cancelled,
                        ReplyBody::Refused { reason } => {
                            part.state = JobState::Failed;
                            part.error = Some(reason.clone());
                        }
                        _ => {}
                    }
                });
            }
        }
        Ok(())
    }
}

/// The part of a job that a replica's store has.
fn part_of<'a>(job: &'a mut Job, reply: &Reply) -> &'a mut JobPart {
    let known = job.parts.iter().position(|part| part.store == reply.store);
    let index = known.unwrap_or_else(|| {
        job.parts.push(JobPart {
            store: reply.store.clone(),
            replica: reply.replica.clone(),
            generation: None,
            state: JobState::Running,
            done: 0,
            total: 0,
            result: None,
            error: None,
        });
        job.parts.len() - 1
    });
    let part = &mut job.parts[index];
    part.replica.clone_from(&reply.replica);
    part
}

impl JobPart {
    fn end(&mut self, result: Option<serde_json::Value>) {
        self.state = JobState::Done;
        self.done = self.total;
        self.result = result;
    }

    fn fail(&mut self, reason: String) {
        self.state = JobState::Failed;
        self.error = Some(reason);
    }

    /// Takes how far the generation is that it fills.
    fn look_at(&mut self, found: Option<&crate::projection::GenerationReport>) {
        let Some(one) = found.filter(|one| one.state != GenerationState::Dropping) else {
            return self.fail("it was dropped before it took over".to_owned());
        };
        if one.state != GenerationState::Building {
            return self.end(None);
        }
        self.done = one.position;
        self.total = one.position + one.lag_commits.unwrap_or(0);
        if let Some(reason) = &one.waiting {
            self.fail(format!("it waits: {reason}"));
        }
    }
}
