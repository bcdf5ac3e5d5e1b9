//! Passing a command on to its home, and to another home when that one goes silent.
//!
//! A home that hangs is asked nothing twice: when it counts as gone, what it has not answered is asked
//! of the new home, with the same id. If the old one resumes and has the command still, it finds it too
//! old (see `age`); if it had appended it, the new home finds it in the log; if both append it, the
//! log refuses one. Only a refusal proves nothing then, since the old home may have been about to append: it
//! is told as a doubt.

use super::CommandClient;
use crate::{
    command::{
        answer::{PeerAnswer, Reply},
        asks::Unanswered,
        given_id,
        measure::MEASURES,
        placement::{HOME_TIMEOUT, Placement, TIMEOUT},
        request::CommandRequest,
        traces::Came,
    },
    membership::Home,
    problem::Problem,
};
use futures::future::join_all;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// So much sooner than its caller gives up is a command answered.
const BEFORE: Duration = Duration::from_secs(1);

/// A command that is decided elsewhere.
pub(in crate::command) struct Passing {
    /// The number of its aggregate's kind.
    pub kind: usize,
    pub request: CommandRequest,
    pub reply: Reply,
    pub came: Came,
}

/// The result of asking one home.
enum Asked {
    Answered(PeerAnswer),
    Unanswered(Unanswered),
    /// It is gone, and nobody knows what it did.
    Lost,
}

impl CommandClient {
    /// Has commands of one aggregate decided by another replica, or here when their home has gone, in their order.
    pub(in crate::command) async fn pass_on(
        self,
        placement: Placement,
        mut home: Home,
        mut run: Vec<Passing>,
    ) {
        let known = self.known_position();
        let until = Instant::now() + TIMEOUT - BEFORE;
        while let (Home::At(replica), Some(first)) = (&home, run.first()) {
            let (aggregate, id) = (first.request.aggregate.clone(), first.request.id.clone());
            let asking: Vec<_> = run
                .iter_mut()
                .map(|passing| {
                    passing.name();
                    self.ask(&placement, replica, passing, until)
                })
                .collect();
            let asked = join_all(asking).await;
            let mut gone = false;
            let left = run.into_iter().zip(asked);
            run = left
                .filter_map(|(mut passing, asked)| {
                    match asked {
                        Err(problem) => passing.reply.send(Err(problem)),
                        Ok(Asked::Answered(answer)) => {
                            MEASURES.passed_on.increment(1);
                            passing.reply.relay(answer);
                        }
                        Ok(Asked::Unanswered(Unanswered::Nobody)) => {
                            MEASURES.homeless.increment(1);
                            gone = true;
                            return Some(passing);
                        }
                        Ok(Asked::Unanswered(unanswered)) => {
                            passing.reply.send(Err(unanswered.into()));
                        }
                        Ok(Asked::Lost) => {
                            MEASURES.asked_again.increment(1);
                            passing.request.headers.asked_again = Some(known);
                            passing.reply.asked_again = true;
                            return Some(passing);
                        }
                    }
                    None
                })
                .collect();
            if gone {
                break;
            }
            home = placement.home(&aggregate, &id);
        }
        for passing in run {
            if self.decides() {
                let Passing {
                    kind,
                    request,
                    reply,
                    came,
                } = passing;
                self.decide(kind, request, reply, came);
            } else {
                // One after the other: each may come to another replica.
                passing.ask_any(&placement).await;
            }
        }
    }

    /// Asks a home at once; what is returned waits for the answer.
    fn ask(
        &self,
        placement: &Placement,
        replica: &Arc<str>,
        passing: &Passing,
        until: Instant,
    ) -> impl Future<Output = Result<Asked, Problem>> + Send + use<> {
        let arrival = *passing.reply.arrival();
        let under = match arrival.is_expired() {
            true => Err(Problem::expired()),
            false => {
                let under = placement.begin(replica, self.share());
                under.ok_or_else(Problem::overloaded)
            }
        };
        let asking = under.map(|under| {
            let lost = placement.membership().lost(replica);
            let until = until.min(Instant::now() + HOME_TIMEOUT);
            let asking = placement.ask_home(replica, &passing.request, arrival, until);
            (under, lost, asking)
        });
        async move {
            let (_under, lost, asking) = asking?;
            tokio::select! {
                biased;
                asked = asking => Ok(match asked {
                    Ok(answer) => Asked::Answered(answer),
                    Err(unanswered) => Asked::Unanswered(unanswered),
                }),
                () = lost => Ok(Asked::Lost),
            }
        }
    }
}

impl Passing {
    /// Gives it an id, if it has none: with its id the command is the same wherever it is decided.
    fn name(&mut self) {
        let headers = &mut self.request.headers;
        if headers.idempotency_key.is_none() && headers.given_id.is_none() {
            headers.given_id = Some(given_id());
        }
    }

    /// Has any replica decide it.
    async fn ask_any(self, placement: &Placement) {
        let Self {
            request,
            reply,
            came,
            ..
        } = self;
        // Whoever takes it on `cmd` would not look for it in the log, nor take what is not public.
        if came == Came::OfProcess {
            return reply.send(Err(Unanswered::Nobody.into()));
        }
        // On `cmd` the id of a command without a key is not believed, so it might be carried out twice.
        if reply.asked_again && request.headers.idempotency_key.is_none() {
            return reply.send(Err(Unanswered::InDoubt.into()));
        }
        let Some(age) = reply.arrival().age() else {
            return reply.send(Err(Problem::expired()));
        };
        let own = !request.headers.from_outside;
        match placement.ask_any(&request, age).await {
            // On `cmd` nobody takes it on trust that it is the program's. Its home is known soon.
            Ok(answer) if own && answer.is_refused_access() => {
                reply.send(Err(Unanswered::Nobody.into()));
            }
            Ok(answer) => reply.relay(answer),
            Err(unanswered) => reply.send(Err(unanswered.into())),
        }
    }
}
