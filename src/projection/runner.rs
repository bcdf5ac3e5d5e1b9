//! Runs a projector as an actor: one step after another, backing off where a step fails.

use super::{
    meters,
    projector::{Amend, Projector, ProjectorError, ProjectorOptions, Retried, Step, Try},
    status::{ProjectorState, ProjectorStatus, Stalled},
};
use crate::view::PartKey;
use actix::prelude::*;
use backon::{BackoffBuilder, ConstantBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::FutureExt;
use jiff::Timestamp;
use std::{collections::VecDeque, panic::AssertUnwindSafe, time::Duration};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// The time a step waits for a commit before it looks whether there is something else to do.
const WAIT: Duration = Duration::from_secs(1);
/// The pauses after failures that may pass by themselves.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(Duration::from_secs(5))
    .without_max_times()
    .with_jitter();
/// The pause where only somebody's doing helps: the view's program, or another log.
const HOPELESS_PAUSE: Duration = Duration::from_secs(30);
/// The time to leave the view to the projector that has taken it over.
const STEPPED_DOWN: Duration = Duration::from_secs(3);

/// A running projector. Cheap to clone. It goes on when all handles are gone.
#[derive(Debug, Clone)]
pub struct ProjectorHandle {
    view: &'static str,
    address: Addr<Runner>,
    status: watch::Receiver<ProjectorStatus>,
    stopping: CancellationToken,
}

impl ProjectorHandle {
    /// Starts a projector on `arbiter`.
    ///
    /// # Errors
    ///
    /// Returns a terminal error when the view declares what cannot be stored.
    pub fn start(
        options: ProjectorOptions,
        arbiter: &ArbiterHandle,
    ) -> Result<Self, ProjectorError> {
        let (sender, status) = watch::channel(ProjectorStatus::default());
        let stopping = CancellationToken::new();
        let projector = Projector::new(options, sender.clone())?;
        let view = projector.view();
        let runner = Runner {
            view,
            projector: Some(projector),
            status: sender,
            stopping: stopping.clone(),
            pauses: PAUSES.build(),
            asked: VecDeque::new(),
            amends: VecDeque::new(),
            waiting: CancellationToken::new(),
        };
        Ok(Self {
            view,
            address: Runner::start_in_arbiter(arbiter, |_| runner),
            status,
            stopping,
        })
    }

    /// The view's name.
    #[must_use]
    pub fn view(&self) -> &'static str {
        self.view
    }

    /// Returns how it is doing.
    #[must_use]
    pub fn status(&self) -> ProjectorStatus {
        self.status.borrow().clone()
    }

    /// Each change of how it is doing.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ProjectorStatus> {
        self.status.clone()
    }

    /// Tries again, in order, the next of what is parked of an aggregate. `None` when the projector has
    /// stopped.
    pub async fn retry(
        &self,
        aggregate: PartKey,
        how: Try,
    ) -> Option<Result<Retried, ProjectorError>> {
        let (answer, answered) = oneshot::channel();
        let retry = Retry {
            aggregate,
            how,
            answer,
        };
        self.address.send(retry).await.ok()?;
        answered.await.ok()
    }

    /// Has documents exchanged in place; whether the projector is there to do it.
    pub(super) async fn amend(&self, amend: Amend) -> bool {
        self.address.send(Exchange(amend)).await.is_ok()
    }

    /// Finishes the batch in hand and stops.
    pub async fn stop(&self) {
        self.stopping.cancel();
        let mut status = self.status.clone();
        // An error means that the actor is gone: it has stopped as well.
        let _ = status
            .wait_for(|status| status.state == ProjectorState::Stopped)
            .await;
    }

    /// Returns whether the actor is still there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.address.connected()
    }

    /// Ends the actor as a defect would.
    #[cfg(test)]
    pub(super) fn break_down(&self) {
        self.address.do_send(BreakDown);
    }
}

#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
struct BreakDown;

#[cfg(test)]
impl Handler<BreakDown> for Runner {
    type Result = ();

    fn handle(&mut self, _: BreakDown, _: &mut Self::Context) {
        panic!("a test");
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Next;

#[derive(Message)]
#[rtype(result = "()")]
struct Retry {
    aggregate: PartKey,
    how: Try,
    answer: oneshot::Sender<Result<Retried, ProjectorError>>,
}

struct Runner {
    view: &'static str,
    /// Away while it does a step.
    projector: Option<Projector>,
    status: watch::Sender<ProjectorStatus>,
    stopping: CancellationToken,
    pauses: ExponentialBackoff,
    /// The work to be done before the next step.
    asked: VecDeque<Retry>,
    amends: VecDeque<Amend>,
    /// Ends the wait for a commit, or the pause after a failure.
    waiting: CancellationToken,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Exchange(Amend);

impl Handler<Exchange> for Runner {
    type Result = ();

    fn handle(&mut self, exchange: Exchange, _: &mut Self::Context) {
        self.amends.push_back(exchange.0);
        self.waiting.cancel();
    }
}

impl Handler<Retry> for Runner {
    type Result = ();

    fn handle(&mut self, retry: Retry, _: &mut Self::Context) {
        self.asked.push_back(retry);
        self.waiting.cancel();
    }
}

impl Actor for Runner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.notify(Next);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.status
            .send_modify(|status| status.state = ProjectorState::Stopped);
        tracing::info!(view.name = self.view, "projector stopped");
    }
}

impl Handler<Next> for Runner {
    type Result = ();

    fn handle(&mut self, _: Next, ctx: &mut Self::Context) {
        let Some(mut projector) = self.projector.take() else {
            return;
        };
        let (stopping, waiting) = (self.stopping.clone(), self.stopping.child_token());
        self.waiting = waiting.clone();
        let asked = std::mem::take(&mut self.asked);
        let amends = std::mem::take(&mut self.amends);
        let work = async move {
            for Retry {
                aggregate,
                how,
                answer,
            } in asked
            {
                let retried = caught(projector.retry(&aggregate, how)).await;
                if retried.is_err() {
                    projector.close();
                }
                // Who has asked may be gone.
                let _ = answer.send(retried);
            }
            for amend in amends {
                projector.amend(amend).await;
            }
            let result = if stopping.is_cancelled() {
                Ok(Outcome::Stop)
            } else {
                attempt(&mut projector, &stopping, &waiting).await
            };
            let mut at_once = false;
            if let Err(error) = &result {
                at_once = projector.learn(error).await;
                projector.stall(error).await;
            }
            (projector, result, at_once)
        };
        ctx.spawn(
            work.into_actor(self)
                .map(|(projector, result, at_once), runner, ctx| {
                    runner.projector = Some(projector);
                    match result {
                        Ok(Outcome::Stop) => ctx.stop(),
                        Ok(Outcome::Went) => {
                            runner.pauses = PAUSES.build();
                            ctx.notify(Next);
                        }
                        Err(error) => {
                            let pause = runner.failed(&error);
                            let pause = if at_once { Duration::ZERO } else { pause };
                            runner.pause(pause, ctx);
                        }
                    }
                }),
        );
    }
}

enum Outcome {
    Went,
    Stop,
}

/// Does one step. A step that is only waiting is left at once when there is something else to do.
async fn attempt(
    projector: &mut Projector,
    stopping: &CancellationToken,
    waiting: &CancellationToken,
) -> Result<Outcome, ProjectorError> {
    match caught(projector.step(WAIT, waiting)).await {
        Ok(Step::Stopped) if stopping.is_cancelled() => Ok(Outcome::Stop),
        Ok(Step::Idle | Step::Applied(_) | Step::Stopped) => Ok(Outcome::Went),
        Err(error) if error.is_fenced() && projector.wrote_last().await => Ok(Outcome::Went),
        Err(error) => {
            projector.close();
            Err(error)
        }
    }
}

/// Does work that may panic: that is one more way to fail.
async fn caught<T>(
    work: impl Future<Output = Result<T, ProjectorError>>,
) -> Result<T, ProjectorError> {
    let panic = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => return result,
        Err(panic) => panic,
    };
    let message = panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Err(ProjectorError::Panicked(message.unwrap_or_default()))
}

impl Runner {
    /// Takes note of a failure; returns how long to pause.
    fn failed(&mut self, error: &ProjectorError) -> Duration {
        meters::retried(self.view);
        let stalled = self.status.borrow().stalled.is_some();
        self.status.send_modify(|status| {
            let since = status
                .stalled
                .as_ref()
                .map_or_else(Timestamp::now, |s| s.since);
            status.state = if error.is_fenced() {
                ProjectorState::SteppedDown
            } else {
                ProjectorState::Stalled
            };
            status.stalled = Some(Stalled {
                since,
                reason: error.to_string(),
            });
        });
        if !stalled {
            tracing::warn!(view.name = self.view, %error, "projector stalled");
        }
        // With jitter: projectors that failed together do not try together.
        let same = |pause| {
            let pauses = ConstantBuilder::new().with_delay(pause).with_jitter();
            pauses.build().next()
        };
        let pause = if error.is_fenced() {
            same(STEPPED_DOWN)
        } else if error.is_retryable() {
            self.pauses.next()
        } else {
            same(HOPELESS_PAUSE)
        };
        pause.unwrap_or(HOPELESS_PAUSE)
    }

    /// Goes on after a pause, or stops during it.
    fn pause(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        let waiting = self.stopping.child_token();
        self.waiting = waiting.clone();
        let wait = async move {
            tokio::select! {
                () = waiting.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        };
        ctx.spawn(wait.into_actor(self).map(|(), _, ctx| ctx.notify(Next)));
    }
}
