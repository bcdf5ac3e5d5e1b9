//! Unique keys in a turn: what a decision is about to take and to give up is written before its commit,
//! which then names it. See [`crate::event_log::claim`] for what that means.

use super::Desk;
use crate::{
    aggregate::{Aggregate, Claim, Decision},
    event_log::{
        AppendError, LoadError,
        claim::{ClaimSubject, Claimant, Holder, Intent},
    },
    problem::Problem,
};
use std::time::{Duration, Instant};

/// The pauses between looks at a claim that another aggregate has not decided yet, in milliseconds. Its
/// commit comes a moment after it, almost always; all together they are more than a busy log takes for it.
const PAUSES_MS: [u64; 7] = [10, 20, 40, 80, 160, 320, 640];
/// The time a key is tried for: not so long that the commands behind this one are not decided any more.
const TRY_FOR: Duration = Duration::from_secs(3);

/// The reason why a decision cannot have its keys.
pub(super) enum ClaimFault {
    /// A key belongs to another aggregate.
    Taken {
        problem: Problem,
        /// True if another key of the decision is claimed now.
        claimed: bool,
    },
    /// The aggregate has moved on: load and decide again.
    Stale,
    /// Surely not now, or not known.
    Unavailable(String),
}

impl From<LoadError> for ClaimFault {
    fn from(error: LoadError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// One key of a decision.
struct Key<'a> {
    subject: ClaimSubject,
    claim: &'a Claim,
    intent: Intent,
}

/// Writes what the next commit after `after` is about to do with each key, and returns the positions by
/// which it is to name that.
///
/// A key that is both taken and released is kept; one that is named twice counts once.
pub(super) async fn write_claims<A: Aggregate>(
    desk: &Desk,
    decision: &Decision<A::Event>,
    after: u64,
) -> Result<Vec<u64>, ClaimFault> {
    let own = Claimant {
        aggregate: A::NAME.to_owned(),
        id: desk.id.as_str().to_owned(),
        after,
    };
    let keys = keys_of(desk, decision).await?;
    let claiming = Claiming { desk, own: &own };
    if decision.claims.len() > 1 {
        // Nothing is written for a decision that cannot have all.
        for key in keys.iter().filter(|key| key.intent == Intent::Take) {
            claiming.refuse_what_is_taken(key).await?;
        }
    }
    let mut written = Vec::with_capacity(keys.len());
    for key in &keys {
        let position = match key.intent {
            Intent::Take => claiming.take(key).await,
            Intent::Release => claiming.release(key).await,
        };
        match position {
            Ok(position) => written.extend(position),
            Err(ClaimFault::Taken { problem, .. }) => {
                let claimed = !written.is_empty();
                return Err(ClaimFault::Taken { problem, claimed });
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(written)
}

/// The keys of a decision, each once. All aggregates take them in the same order, so that no two wait for
/// each other.
async fn keys_of<'a, E>(desk: &Desk, decision: &'a Decision<E>) -> Result<Vec<Key<'a>>, LoadError> {
    let takes = decision.claims.iter().map(|claim| (claim, Intent::Take));
    let releases = decision.releases.iter();
    let releases = releases.map(|claim| (claim, Intent::Release));
    let mut keys: Vec<Key<'a>> = Vec::new();
    for (claim, intent) in takes.chain(releases) {
        if keys.iter().any(|key| key.claim == claim) {
            continue;
        }
        let subject = desk.log.claim_subject(claim).await?;
        keys.push(Key {
            subject,
            claim,
            intent,
        });
    }
    keys.sort_by(|one, other| one.subject.cmp(&other.subject));
    Ok(keys)
}

/// An aggregate that takes and gives up keys.
struct Claiming<'a> {
    desk: &'a Desk,
    own: &'a Claimant,
}

impl Claiming<'_> {
    fn is_own(&self, claimant: &Claimant) -> bool {
        claimant.is_same_aggregate(self.own)
    }

    async fn refuse_what_is_taken(&self, key: &Key<'_>) -> Result<(), ClaimFault> {
        let state = self.desk.log.key_state(&key.subject).await?;
        match state.holder {
            Holder::Of(by) | Holder::Releasing(by) if !self.is_own(&by) => Err(taken(key)),
            _ => Ok(()),
        }
    }

    /// Claims a key. Returns the position of the claim, to be named; none where it is held already.
    async fn take(&self, key: &Key<'_>) -> Result<Option<u64>, ClaimFault> {
        let log = &self.desk.log;
        let begun = Instant::now();
        let mut guess = log.guess_key(&key.subject).await?;
        let mut awaited = Awaited::default();
        while begun.elapsed() < TRY_FOR {
            let state = match guess.take() {
                Some(guess) => guess,
                None => log.key_state(&key.subject).await?,
            };
            match &state.holder {
                Holder::Nobody => {
                    let writing =
                        log.write_claim(&key.subject, state.position, Intent::Take, self.own);
                    if let Some(position) = written(writing.await)? {
                        return Ok(Some(position));
                    }
                }
                Holder::Of(by) if self.is_own(by) => return Ok(None),
                // The commit under way does not name the release, so the key is kept.
                Holder::Releasing(by) if by == self.own => return Ok(None),
                // Written for a commit that did not come, or by another home of this aggregate, whose
                // commit would name it: whichever comes first, it is decided once.
                Holder::Taking(by) if by == self.own => return Ok(Some(state.position)),
                Holder::Taking(by) | Holder::Releasing(by) if self.is_own(by) => {
                    return Err(ClaimFault::Stale);
                }
                Holder::Of(_) | Holder::Releasing(_) => return Err(taken(key)),
                Holder::Taking(by) => match awaited.pause(state.position) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => log.decide_claims_of(by).await?,
                },
            }
        }
        Err(contended(key))
    }

    /// Claims to give a key up. Returns the position of the claim, to be named; none where the key is not
    /// held.
    async fn release(&self, key: &Key<'_>) -> Result<Option<u64>, ClaimFault> {
        let log = &self.desk.log;
        let begun = Instant::now();
        while begun.elapsed() < TRY_FOR {
            let state = log.key_state(&key.subject).await?;
            match &state.holder {
                Holder::Of(by) if self.is_own(by) => {
                    let writing =
                        log.write_claim(&key.subject, state.position, Intent::Release, self.own);
                    if let Some(position) = written(writing.await)? {
                        return Ok(Some(position));
                    }
                }
                Holder::Releasing(by) if by == self.own => return Ok(Some(state.position)),
                // The commit under way does not name the claim, so the key is not taken.
                Holder::Taking(by) if by == self.own => return Ok(None),
                Holder::Taking(by) | Holder::Releasing(by) if self.is_own(by) => {
                    return Err(ClaimFault::Stale);
                }
                _ => return Ok(None),
            }
        }
        Err(contended(key))
    }
}

/// The position of a claim that was written; none where the key is to be looked at again.
fn written(written: Result<u64, AppendError>) -> Result<Option<u64>, ClaimFault> {
    match written {
        Ok(position) => Ok(Some(position)),
        // Another claim was first, or this one is stored without it being known: then it is found.
        Err(AppendError::LostRace | AppendError::InDoubt(_)) => Ok(None),
        Err(error) => Err(ClaimFault::Unavailable(error.to_string())),
    }
}

fn taken(key: &Key<'_>) -> ClaimFault {
    ClaimFault::Taken {
        problem: Problem::claim_taken(key.claim.scope),
        claimed: false,
    }
}

fn contended(key: &Key<'_>) -> ClaimFault {
    ClaimFault::Unavailable(format!("{} is contended", key.claim.scope))
}

/// The claim of another aggregate that is waited for.
#[derive(Default)]
struct Awaited {
    position: u64,
    pauses: usize,
}

impl Awaited {
    /// Returns how long the claim at this position is waited for before the next look; `None` once it has been
    /// long enough.
    fn pause(&mut self, position: u64) -> Option<Duration> {
        if self.position != position {
            *self = Self {
                position,
                pauses: 0,
            };
        }
        let pause = PAUSES_MS.get(self.pauses);
        self.pauses += 1;
        pause.map(|millis| Duration::from_millis(*millis))
    }
}
