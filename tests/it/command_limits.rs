//! What a command side bounds, and what one command cannot do to others.

use crate::{
    command_support::{Replica, TallyCommand, add, alone, give, log, logged, options},
    harness::{
        api::NatsApi,
        nats::{DEV, Nats},
        poll::eventually,
        proxy::Proxy,
    },
};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use headwater::{
    command::client::{CommandClient, CommandOptions},
    event_log::AppendMode,
};

#[actix::test]
async fn of_a_flood_what_fits_is_accepted_and_the_rest_is_told_when_to_come_again() {
    let nats = Nats::start();
    let sized = CommandOptions {
        max_commands: 1_000,
        ..options()
    };
    let client = alone(&nats, sized).await;
    let given = (0..50_000).map(|number| {
        let client = client.clone();
        async move { add(&client, &format!("t-{}", number % 100), 1, None).await }
    });
    let outcomes = join_all(given).await;
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!((1_000..50_000).contains(&accepted), "{accepted}");
    for problem in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!((problem.status, &*problem.code), (429, "overloaded"));
        assert_eq!(problem.retry_after, Some(1));
    }
    let log = log(&nats, AppendMode::Pipelined).await;
    let mut stored = 0;
    for number in 0..100 {
        stored += logged(&log, &format!("t-{number}")).await.len();
    }
    assert_eq!(stored, accepted);
}

#[actix::test]
async fn a_flood_over_nats_is_answered_to_the_last() {
    let nats = Nats::start();
    let replica = Replica::start(&nats, "a").await;
    let api = NatsApi::connect(&nats.url()).await;
    let mut given: FuturesUnordered<_> = (0..50_000)
        .map(|number| {
            let subject = format!("cmd.tally.t-{}.add", number % 100);
            api.request(subject, br#"{"amount":1}"#.to_vec(), &[])
        })
        .collect();
    let (mut accepted, mut in_doubt) = (0, 0);
    while let Some(reply) = given.next().await {
        let reply = reply.expect("every request is answered");
        if reply.status == 200 {
            accepted += 1;
            continue;
        }
        // A log that the flood has slowed down leaves some in doubt, and says so.
        let refused = reply.json()["code"].clone();
        in_doubt += usize::from(refused == "unavailable");
        assert!(
            ["overloaded", "unavailable"].contains(&refused.as_str().unwrap()),
            "{refused}"
        );
        assert_eq!(reply.header("Retry-After"), "1");
    }
    let log = log(&nats, AppendMode::Pipelined).await;
    let mut stored = 0;
    for number in 0..100 {
        stored += logged(&log, &format!("t-{number}")).await.len();
    }
    assert!((accepted..=accepted + in_doubt).contains(&stored));
    replica.stop().await;
}

#[actix::test]
async fn a_command_that_panics_fails_alone_and_tells_nothing() {
    let nats = Nats::start();
    let client = alone(&nats, options()).await;
    add(&client, "t", 1, None).await.unwrap();
    let given = (0..60).map(|number| {
        let client = client.clone();
        async move {
            match number % 3 {
                0 => give(&client, "t", TallyCommand::PanicDeciding {}, None).await,
                1 => give(&client, "t", TallyCommand::PanicFolding {}, None).await,
                _ => add(&client, "t", 1, None).await,
            }
        }
    });
    for (number, outcome) in join_all(given).await.into_iter().enumerate() {
        match outcome {
            Ok(_) => assert_eq!(number % 3, 2),
            Err(problem) => {
                assert_ne!(number % 3, 2, "{problem}");
                assert_eq!((problem.status, &*problem.code), (500, "internal"));
                assert!(!problem.detail.contains("secret"), "{}", problem.detail);
            }
        }
    }
    assert_eq!(add(&client, "t", 1, None).await.unwrap().version, 22);
}

#[actix::test]
async fn a_claim_of_a_scope_that_no_subject_may_have_fails_alone() {
    let nats = Nats::start();
    let client = alone(&nats, options()).await;
    add(&client, "t", 1, None).await.unwrap();
    let problem = give(&client, "t", TallyCommand::TakeWrongly {}, None).await;
    let problem = problem.unwrap_err();
    assert_eq!((problem.status, &*problem.code), (500, "internal"));
    assert_eq!(add(&client, "t", 1, None).await.unwrap().version, 2);
}

#[actix::test]
async fn a_refusal_does_not_touch_the_commands_of_its_group() {
    let nats = Nats::start();
    let client = alone(&nats, options()).await;
    let given = (0..300).map(|number| {
        let client = client.clone();
        async move {
            if number % 3 == 0 {
                give(&client, "t", TallyCommand::Fail {}, None).await
            } else {
                add(&client, "t", 1, None).await
            }
        }
    });
    for (number, outcome) in join_all(given).await.into_iter().enumerate() {
        match outcome {
            Ok(_) => assert_ne!(number % 3, 0),
            Err(problem) => assert_eq!((number % 3, &*problem.code), (0, "told_to_fail")),
        }
    }
}

#[actix::test]
async fn a_retry_while_the_first_is_in_flight_gets_the_same_outcome() {
    let nats = Nats::start();
    let client = alone(&nats, options()).await;
    add(&client, "t", 1, None).await.unwrap();
    nats.pause();
    let given: Vec<_> = (0..5)
        .map(|_| {
            let client = client.clone();
            actix::spawn(async move { add(&client, "t", 5, Some("key")).await })
        })
        .collect();
    let other = actix::spawn({
        let client = client.clone();
        async move { add(&client, "t", 6, Some("key")).await }
    });
    // Each of them has been given once it has been polled, and none can be answered yet.
    tokio::task::yield_now().await;
    assert!(given.iter().all(|given| !given.is_finished()) && !other.is_finished());
    nats.resume();
    let outcomes: Vec<_> = join_all(given)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let mut other = Some(other.await.unwrap());
    let first = outcomes[0].clone().unwrap();
    for outcome in outcomes {
        let outcome = outcome.unwrap();
        assert_eq!((outcome.version, outcome.position), (2, first.position));
    }
    let reused = other.take().unwrap().unwrap_err();
    assert_eq!((reused.status, &*reused.code), (409, "key_reused"));
    let log = log(&nats, AppendMode::Pipelined).await;
    assert_eq!(logged(&log, "t").await.len(), 2);
}

#[actix::test]
async fn the_live_set_is_bounded_and_nothing_is_lost_by_it() {
    let nats = Nats::start();
    let sized = CommandOptions {
        threads: 1,
        max_actors: 20,
        ..options()
    };
    let client = alone(&nats, sized).await;
    for round in 1..=3 {
        let given = (0..200).map(|number| {
            let client = client.clone();
            async move { add(&client, &format!("t-{number}"), 1, None).await }
        });
        for outcome in join_all(given).await {
            assert_eq!(outcome.unwrap().version, round);
        }
    }
}

#[actix::test]
async fn a_command_without_events_is_remembered_when_its_aggregate_has_left_memory() {
    let nats = Nats::start();
    let sized = CommandOptions {
        threads: 1,
        max_actors: 1,
        ..options()
    };
    let client = alone(&nats, sized).await;
    add(&client, "t", 1, None).await.unwrap();
    let looked = give(&client, "t", TallyCommand::Look {}, Some("key")).await;
    assert!(looked.unwrap().events.is_empty());
    for number in 0..5 {
        add(&client, &format!("other-{number}"), 1, None)
            .await
            .unwrap();
    }
    let again = give(&client, "t", TallyCommand::Look {}, Some("key")).await;
    assert!(again.unwrap().replayed);
    for number in 0..5 {
        add(&client, &format!("other-{number}"), 1, None)
            .await
            .unwrap();
    }
    let reused = add(&client, "t", 1, Some("key")).await.unwrap_err();
    assert_eq!((reused.status, &*reused.code), (409, "key_reused"));
}

#[actix::test]
async fn a_command_that_panics_makes_its_aggregate_forget_nothing() {
    let nats = Nats::start();
    let client = alone(&nats, options()).await;
    add(&client, "t", 1, None).await.unwrap();
    give(&client, "t", TallyCommand::Look {}, Some("key"))
        .await
        .unwrap();
    give(&client, "t", TallyCommand::PanicDeciding {}, None)
        .await
        .unwrap_err();
    let again = give(&client, "t", TallyCommand::Look {}, Some("key")).await;
    assert!(again.unwrap().replayed);
}

#[actix::test]
async fn of_commands_that_do_not_fit_into_one_message_each_is_accepted_once() {
    let nats = Nats::start_with(&DEV.replace("max_payload: 1048576", "max_payload: 65536"));
    let client = alone(&nats, options()).await;
    add(&client, "t", 1, None).await.unwrap();
    let given: Vec<_> = (0..300)
        .map(|_| {
            let client = client.clone();
            async move { add(&client, "t", 1, None).await }
        })
        .collect();
    let mut versions: Vec<u64> = join_all(given)
        .await
        .into_iter()
        .map(|outcome| outcome.unwrap().version)
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..=301).collect::<Vec<_>>());
    let log = log(&nats, AppendMode::Pipelined).await;
    assert_eq!(logged(&log, "t").await.len(), 301);
}

/// A client whose connection goes through a proxy.
async fn behind(proxy: &Proxy, nats: &Nats) -> CommandClient {
    log(nats, AppendMode::Pipelined).await;
    let log = crate::command_support::log_at(&proxy.nats_url(), AppendMode::Pipelined).await;
    crate::command_support::over(&log, options())
}

#[actix::test]
async fn an_append_whose_acknowledgement_is_lost_is_told_as_what_it_is() {
    let nats = Nats::start();
    let proxy = Proxy::start(nats.port());
    let client = behind(&proxy, &nats).await;
    let log = log(&nats, AppendMode::Pipelined).await;
    add(&client, "t", 1, Some("first")).await.unwrap();
    proxy.mute();
    let waiting = actix::spawn({
        let client = client.clone();
        async move { add(&client, "t", 2, Some("second")).await }
    });
    eventually("the append is stored", || async {
        (logged(&log, "t").await.len() == 2).then_some(())
    })
    .await;
    proxy.heal();
    // In doubt for the client, or settled in time, but never refused.
    if let Err(problem) = waiting.await.unwrap() {
        assert_eq!(problem.status, 503, "{problem}");
    }
    let outcome = eventually("the retry is answered", || async {
        let retried = add(&client, "t", 2, Some("second")).await;
        retried.ok()
    })
    .await;
    let stored = logged(&log, "t").await;
    assert_eq!((outcome.version, outcome.position), (2, stored[1].position));
    assert_eq!(stored.len(), 2);
}
