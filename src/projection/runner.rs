//! Runs a projector as an actor: one step after another, backing off where a step fails.

use super::{
    meters,
    projector::{Amend, Projector, ProjectorError, ProjectorOptions, Retried, Step, Try},
    status::{ProjectorState, ProjectorStatus, Stalled},
};
use crate::view::PartKey;
use actix::prelude::*;
use futures::FutureExt;
use jiff::Timestamp;
use std::{collections::VecDeque, panic::AssertUnwindSafe, time::Duration};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How long a step waits for a commit before it looks whether there is something else to do.
const WAIT: Duration = Duration::from_secs(1);
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after a failure that may pass by itself.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The pause where only somebody's doing helps: the view's program, or another log.
const HOPELESS_PAUSE: Duration = Duration::from_secs(30);
/// How long to leave the view to the projector that has taken it over.
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
            failures: 0,
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

    /// How it is doing.
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

    /// Whether the actor is still there.
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
    failures: u32,
    /// What is to be done before the next step.
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
                            runner.failures = 0;
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
        self.failures += 1;
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
        let pause = if error.is_fenced() {
            STEPPED_DOWN
        } else if error.is_retryable() {
            let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16));
            doubled.min(LONGEST_PAUSE)
        } else {
            HOPELESS_PAUSE
        };
        jittered(pause)
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

/// Between one half and all of a pause, so that projectors that failed together do not try together.
fn jittered(pause: Duration) -> Duration {
    let random = uuid::Uuid::now_v7().as_u128() as u32;
    pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}
