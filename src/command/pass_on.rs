//! Passing a command on to its home, and to another home when that one goes silent.
//!
//! A home that hangs is asked nothing twice: when it counts as gone, what it has not answered is asked
//! of the new home, with the same id. If the old one resumes and has the command still, it finds it too
//! old (see `age`); if it had appended it, the new home finds it in the log; if both append it, the
//! log refuses one. Only a refusal proves nothing then, since the old home may have been about to append: it
//! is told as a doubt.

use super::{
    age::Arrival,
    answer::Reply,
    client::CommandClient,
    given_id,
    measure::MEASURES,
    placement::{self, HOME_TIMEOUT, Placement, TIMEOUT, Unanswered},
    request::CommandRequest,
    traces::Came,
};
use crate::{membership::Home, problem::Problem};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// So much sooner than its caller gives up is a command answered.
const BEFORE: Duration = Duration::from_secs(1);

/// What became of asking one home.
enum Asked {
    Answered(async_nats::Message),
    Unanswered(Unanswered),
    /// It is gone, and nobody knows what it did.
    Lost,
}

impl CommandClient {
    /// Has a command decided by another replica, or here when its home has gone.
    pub(super) async fn pass_on(
        self,
        placement: Placement,
        mut home: Home,
        kind: usize,
        mut request: CommandRequest,
        mut reply: Reply,
        came: Came,
    ) {
        // With its id the command is the same wherever it is decided.
        if request.headers.idempotency_key.is_none() && request.headers.given_id.is_none() {
            request.headers.given_id = Some(given_id());
        }
        let known = self.known_position();
        let until = Instant::now() + TIMEOUT - BEFORE;
        while let Home::At(replica) = home {
            let asked = self.ask(&placement, &replica, &request, *reply.arrival(), until);
            match asked.await {
                Err(problem) => return reply.send(Err(problem)),
                Ok(Asked::Answered(answer)) => {
                    MEASURES.passed_on.increment(1);
                    return reply.relay(answer);
                }
                Ok(Asked::Unanswered(Unanswered::Nobody)) => {
                    MEASURES.homeless.increment(1);
                    break;
                }
                Ok(Asked::Unanswered(unanswered)) => return reply.send(Err(unanswered.into())),
                Ok(Asked::Lost) => {
                    MEASURES.asked_again.increment(1);
                    request.headers.asked_again = Some(known);
                    reply.asked_again = true;
                }
            }
            home = placement.home(&request.aggregate, &request.id);
        }
        if self.decides() {
            return self.decide(kind, request, reply, came);
        }
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
            Ok(answer) if own && placement::is_refused_access(&answer) => {
                reply.send(Err(Unanswered::Nobody.into()));
            }
            Ok(answer) => reply.relay(answer),
            Err(unanswered) => reply.send(Err(unanswered.into())),
        }
    }

    async fn ask(
        &self,
        placement: &Placement,
        replica: &Arc<str>,
        request: &CommandRequest,
        arrival: Arrival,
        until: Instant,
    ) -> Result<Asked, Problem> {
        let age = arrival.age().filter(|_| !arrival.is_expired());
        let age = age.ok_or_else(Problem::expired)?;
        let under = placement.begin(replica, self.share());
        let _under = under.ok_or_else(Problem::overloaded)?;
        let lost = placement.membership().lost(replica);
        let until = until.min(Instant::now() + HOME_TIMEOUT);
        let asking = placement.ask_home(replica, request, age, until);
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
