//! Unique keys: one holder each, whatever fails between a claim and its commit.

use crate::{
    claims_support::{Keyed, claimant, holder, key, keys, late_commit, read_keys, taken},
    command_support::{TallyCommand, add, give, log, log_at, options, over},
    harness::nats::Nats,
};
use futures::future::join_all;
use headwater::event_log::{
    AppendError, AppendMode,
    claim::{Holder, Intent},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

const MODES: [AppendMode; 2] = [AppendMode::Pipelined, AppendMode::Grouped];
/// More than any answer needs where nobody is waited for, less than a claim is waited for.
const AT_ONCE: Duration = Duration::from_millis(1_200);
/// In which a key is free again whose claim nobody finishes; generous to a busy machine.
const SOON: Duration = Duration::from_secs(4);

#[actix::test]
async fn of_many_that_take_one_key_one_wins_and_the_others_leave_nothing() {
    for mode in MODES {
        let nats = Nats::start();
        let log = log(&nats, mode).await;
        let client = over(&log, options());
        let ids: Vec<_> = (0..60).map(|number| format!("t-{number}")).collect();
        let answers = join_all(ids.iter().map(|id| keys(&client, id, &["k"], &[]))).await;
        let (won, lost): (Vec<_>, Vec<_>) = ids
            .iter()
            .zip(answers)
            .partition(|(_, answer)| answer.is_ok());
        assert_eq!(won.len(), 1, "{mode:?}: {won:?}");
        let winner = won[0].0;
        assert_eq!(holder(&log, "k").await.as_ref(), Some(winner));
        for (_, answer) in lost {
            taken(answer);
        }
        let begun = Instant::now();
        keys(&client, winner, &[], &["k"]).await.unwrap();
        let other = ids.iter().find(|id| *id != winner).unwrap();
        keys(&client, other, &["k"], &[]).await.unwrap();
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        assert_eq!(holder(&log, "k").await.as_ref(), Some(other));
        // One claim each: to take it, to give it up, and to take it again.
        let claims = log.messages("claim.>", 0, u64::MAX - 1).await.unwrap();
        assert_eq!(claims.len(), 3, "{mode:?}");
        client.stop().await;
    }
}

#[actix::test]
async fn a_key_that_is_taken_and_given_up_at_once_is_kept_and_doubles_count_once() {
    for mode in MODES {
        let nats = Nats::start();
        let log = log(&nats, mode).await;
        let client = over(&log, options());
        keys(&client, "a", &["k", "k", "l", "l"], &[])
            .await
            .unwrap();
        keys(&client, "a", &["k", "m"], &["k", "l", "l"])
            .await
            .unwrap();
        keys(&client, "a", &["k", "k"], &["k", "k"]).await.unwrap();
        assert_eq!(holder(&log, "k").await.as_deref(), Some("a"));
        assert_eq!(holder(&log, "l").await, None);
        assert_eq!(holder(&log, "m").await.as_deref(), Some("a"));
        taken(keys(&client, "b", &["k"], &[]).await);
        taken(keys(&client, "b", &["l", "m"], &[]).await);
        // What one does not hold one does not give up.
        keys(&client, "b", &["l"], &["k", "m", "never"])
            .await
            .unwrap();
        assert_eq!(holder(&log, "m").await.as_deref(), Some("a"));
        read_keys(&nats.client().await).await;
        client.stop().await;
    }
}

#[actix::test]
async fn a_claim_that_nobody_finishes_leaves_the_key_free_and_its_late_commit_is_refused() {
    for mode in MODES {
        let nats = Nats::start();
        let log = log(&nats, mode).await;
        let client = over(&log, options());
        add(&client, "gone", 1, None).await.unwrap();
        let own = claimant(&log, "gone").await;
        let subject = log.claim_subject(&key("k")).await.unwrap();
        let claim = log.write_claim(&subject, 0, Intent::Take, &own).await;
        let claim = claim.unwrap();
        let begun = Instant::now();
        keys(&client, "b", &["k"], &[]).await.unwrap();
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        let late = late_commit(&log, &own, 1, claim, &["k"], &[]).await;
        assert!(matches!(late, Err(AppendError::LostRace)), "{late:?}");
        assert_eq!(holder(&log, "k").await.as_deref(), Some("b"));
        // Who had claimed it is told the truth, and goes on.
        taken(keys(&client, "gone", &["k"], &[]).await);
        assert_eq!(add(&client, "gone", 1, None).await.unwrap().version, 2);
        client.stop().await;
    }
}

#[actix::test]
async fn a_claim_of_who_has_no_commit_yet_is_decided_too() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let client = over(&log, options());
    let subject = log.claim_subject(&key("k")).await.unwrap();
    let own = claimant(&log, "never").await;
    log.write_claim(&subject, 0, Intent::Take, &own)
        .await
        .unwrap();
    keys(&client, "b", &["k"], &[]).await.unwrap();
    // A commit without events changes nothing.
    let first = add(&client, "never", 1, None).await.unwrap();
    assert_eq!(first.version, 1);
    let again = over(&log, options());
    assert_eq!(add(&again, "never", 1, None).await.unwrap().version, 2);
    for client in [client, again] {
        client.stop().await;
    }
}

#[actix::test]
async fn a_release_that_nobody_finishes_leaves_the_key_held() {
    for mode in MODES {
        let nats = Nats::start();
        let log = log(&nats, mode).await;
        let client = over(&log, options());
        keys(&client, "a", &["k"], &[]).await.unwrap();
        let subject = log.claim_subject(&key("k")).await.unwrap();
        let state = log.key_state(&subject).await.unwrap();
        let own = claimant(&log, "a").await;
        let release = log.write_claim(&subject, state.position, Intent::Release, &own);
        let release = release.await.unwrap();
        let begun = Instant::now();
        taken(keys(&client, "b", &["k"], &[]).await);
        assert!(begun.elapsed() < AT_ONCE, "nobody is waited for");
        // Neither a commit that takes it again nor any other gives it up.
        keys(&client, "a", &["k"], &[]).await.unwrap();
        add(&client, "a", 1, None).await.unwrap();
        assert_eq!(holder(&log, "k").await.as_deref(), Some("a"));
        let late = late_commit(&log, &own, 1, release, &[], &["k"]).await;
        assert!(matches!(late, Err(AppendError::LostRace)), "{late:?}");
        taken(keys(&client, "b", &["k"], &[]).await);
        keys(&client, "a", &[], &["k"]).await.unwrap();
        keys(&client, "b", &["k"], &[]).await.unwrap();
        client.stop().await;
    }
}

/// Two homes of one aggregate, or an attempt in doubt and the next: whichever commit comes first decides,
/// and names what stands there.
#[actix::test]
async fn an_undecided_claim_of_the_same_aggregate_is_named_and_not_written_over() {
    for intent in [Intent::Take, Intent::Release] {
        for other_home_is_first in [true, false] {
            let nats = Nats::start();
            let log = log(&nats, AppendMode::Pipelined).await;
            let client = over(&log, options());
            let (take, give_up): (&[&str], &[&str]) = match intent {
                Intent::Take => (&["k"], &[]),
                Intent::Release => (&[], &["k"]),
            };
            match intent {
                Intent::Take => drop(add(&client, "a", 1, None).await.unwrap()),
                Intent::Release => drop(keys(&client, "a", &["k"], &[]).await.unwrap()),
            }
            let subject = log.claim_subject(&key("k")).await.unwrap();
            let last = log.key_state(&subject).await.unwrap().position;
            let own = claimant(&log, "a").await;
            let claim = log.write_claim(&subject, last, intent, &own).await.unwrap();
            if other_home_is_first {
                let commit = late_commit(&log, &own, 1, claim, take, give_up).await;
                commit.unwrap();
            }
            keys(&client, "a", take, give_up).await.unwrap();
            let commit = late_commit(&log, &own, 1, claim, take, give_up).await;
            assert!(matches!(commit, Err(AppendError::LostRace)), "{commit:?}");
            let expected = (intent == Intent::Take).then_some("a");
            assert_eq!(holder(&log, "k").await.as_deref(), expected, "{intent:?}");
            let claims = log.messages(subject.as_str(), last, u64::MAX - 1).await;
            assert_eq!(claims.unwrap().len(), 1);
            client.stop().await;
        }
    }
}

/// A home with an old state does not write over the claim that another home's commit is about to name.
#[actix::test]
async fn a_stale_home_leaves_the_claims_of_its_aggregate_alone() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let stale = over(&log, options());
    add(&stale, "a", 1, None).await.unwrap();
    let newer = over(&log, options());
    add(&newer, "a", 1, None).await.unwrap();
    let own = claimant(&log, "a").await;
    let subject = log.claim_subject(&key("k")).await.unwrap();
    let claim = log.write_claim(&subject, 0, Intent::Take, &own).await;
    let claim = claim.unwrap();
    let outcome = keys(&stale, "a", &["k"], &[]).await.unwrap();
    assert_eq!(outcome.version, 3);
    let state = log.key_state(&subject).await.unwrap();
    assert_eq!(state.position, claim, "the other home's claim is named");
    assert!(matches!(state.holder, Holder::Of(by) if by.id == "a"));
    for client in [stale, newer] {
        client.stop().await;
    }
}

#[actix::test]
async fn keys_that_were_claimed_for_a_decision_that_cannot_have_all_are_free_at_once() {
    for mode in MODES {
        let nats = Nats::start();
        let log = log(&nats, mode).await;
        let client = over(&log, options());
        let all: Vec<_> = (0..8).map(|number| format!("k-{number}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut turned = all.clone();
        turned.reverse();
        // Each wants all of them, in another order.
        let ids: Vec<_> = (0..12).map(|number| format!("t-{number}")).collect();
        let wanted = ids.iter().zip([&all, &turned].into_iter().cycle());
        let answers = join_all(wanted.map(|(id, keys_)| keys(&client, id, keys_, &[]))).await;
        let won = ids
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_ok());
        let won: Vec<_> = won.map(|(id, _)| id).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        for lost in answers.into_iter().filter(Result::is_err) {
            taken(lost);
        }
        keys(&client, won[0], &[], &all).await.unwrap();
        let begun = Instant::now();
        for (id, key) in ids.iter().zip(&all) {
            keys(&client, id, &[key], &[]).await.unwrap();
        }
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        client.stop().await;
    }
}

#[actix::test]
async fn one_taken_key_costs_the_commits_of_its_group_nothing() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Grouped).await;
    let client = over(&log, options());
    keys(&client, "holder", &["k"], &[]).await.unwrap();
    let others: Vec<_> = (0..40).map(|number| format!("o-{number}")).collect();
    let takers: Vec<_> = (0..40).map(|number| format!("t-{number}")).collect();
    for _ in 0..5 {
        let adding = join_all(others.iter().map(|id| add(&client, id, 1, None)));
        let taking = join_all(takers.iter().map(|id| keys(&client, id, &["k"], &[])));
        let (added, refused) = futures::future::join(adding, taking).await;
        added.into_iter().for_each(|added| drop(added.unwrap()));
        refused.into_iter().for_each(taken);
    }
    let claims = log.messages("claim.>", 0, u64::MAX - 1).await.unwrap();
    assert_eq!(claims.len(), 1, "a refusal by look writes nothing");
    client.stop().await;
}

/// The claim survives a cut of the log, its commit does not: whoever had it has it no more.
#[actix::test]
async fn a_claim_whose_commit_was_cut_off_the_log_is_free() {
    let mut nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let client = over(&log, options());
    add(&client, "a", 1, None).await.unwrap();
    let own = claimant(&log, "a").await;
    let subject = log.claim_subject(&key("k")).await.unwrap();
    let claim = log.write_claim(&subject, 0, Intent::Take, &own).await;
    claim.unwrap();
    nats.stop();
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&nats.store(), copy.path());
    nats.start_again();
    let log = log_at(&nats.url(), AppendMode::Pipelined).await;
    let second = over(&log, options());
    keys(&second, "a", &["k"], &[]).await.unwrap();
    assert_eq!(holder(&log, "k").await.as_deref(), Some("a"));
    nats.stop();
    std::fs::remove_dir_all(nats.store()).unwrap();
    copy_folder(copy.path(), &nats.store());
    nats.start_again();
    let log = log_at(&nats.url(), AppendMode::Pipelined).await;
    let third = over(&log, options());
    keys(&third, "b", &["k"], &[]).await.unwrap();
    taken(keys(&third, "a", &["k"], &[]).await);
    for client in [client, second, third] {
        client.stop().await;
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[actix::test]
async fn a_log_that_gets_full_frees_no_key_that_is_held_and_holds_none_that_is_free() {
    for mode in MODES {
        let nats = Nats::start();
        let log = log(&nats, mode).await;
        let client = over(&log, options());
        keys(&client, "first", &["first"], &[]).await.unwrap();
        let jetstream = nats.jetstream().await;
        let bound = async |bytes: i64| {
            let stream = jetstream.get_stream("EVENTS").await.unwrap();
            let mut config = stream.cached_info().config.clone();
            config.max_bytes = bytes;
            jetstream.update_stream(config).await.unwrap();
            stream.cached_info().state.bytes
        };
        let used = bound(-1).await;
        // Not a multiple of what one takes, so that it ends now with a claim and now with a commit.
        bound(used as i64 + 4_321).await;
        let mut accepted = vec![("first".to_owned(), "first".to_owned())];
        let mut refused = Vec::new();
        for number in 0.. {
            if refused.len() == 6 {
                break;
            }
            // Shorter ones fit where longer ones did not.
            let id = format!("t-{number}{}", "x".repeat((number * 7) % 20));
            match keys(&client, &id, &[&id], &[]).await {
                Ok(_) => accepted.push((id.clone(), id)),
                Err(problem) => {
                    assert_eq!((problem.status, &*problem.code), (503, "unavailable"));
                    refused.push(id);
                }
            }
        }
        assert!(accepted.len() > 3, "{accepted:?}");
        bound(-1).await;
        let logged = read_keys(&nats.client().await).await;
        let held: BTreeSet<_> = logged.held().into_iter().collect();
        for one in &accepted {
            assert!(held.contains(one), "{one:?} was accepted: {held:?}");
        }
        for (key, id) in &held {
            assert_eq!(holder(&log, key).await.as_ref(), Some(id));
            taken(keys(&client, "other", &[key], &[]).await);
        }
        // What was refused is free, whoever asks for it; of one in doubt its own member may ask again.
        for key in refused
            .iter()
            .filter(|key| !held.iter().any(|(it, _)| it == *key))
        {
            assert_eq!(holder(&log, key).await, None);
            keys(&client, &format!("late-{key}"), &[key], &[])
                .await
                .unwrap();
        }
        client.stop().await;
    }
}

#[actix::test]
async fn what_was_claimed_and_what_was_added_in_one_turn_stand_in_one_commit() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let client = over(&log, options());
    keys(&client, "holder", &["k"], &[]).await.unwrap();
    // Some are refused, some take, some add, all at once.
    let given = (0..60).map(|number| {
        let client = &client;
        async move {
            match number % 3 {
                0 => keys(client, "a", &["k"], &[]).await,
                1 => keys(client, "a", &[&format!("own-{number}")], &[]).await,
                _ => give(client, "a", TallyCommand::Add { amount: 1 }, None).await,
            }
        }
    });
    for (number, answer) in join_all(given).await.into_iter().enumerate() {
        match number % 3 {
            0 => taken(answer),
            _ => drop(answer.unwrap()),
        }
    }
    let Keyed { holders, .. } = read_keys(&nats.client().await).await;
    assert_eq!(holders.values().filter(|it| it.is_held_by("a")).count(), 20);
    for number in (1..60).step_by(3) {
        let holder = holder(&log, &format!("own-{number}")).await;
        assert_eq!(holder.as_deref(), Some("a"));
    }
    client.stop().await;
}
