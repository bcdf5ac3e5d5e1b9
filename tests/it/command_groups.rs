//! Commands that go to the same home at the same moment go there together, and each is answered by itself.

use crate::{
    command_placement::{ids_at, keep_ghost_saying, two},
    command_support::{Replica, Tally, TallyCommand, add, give, log, logged},
    harness::{nats::Nats, poll::eventually},
};
use async_nats::{HeaderMap, Message};
use futures::{StreamExt, future::join_all};
use headwater::{
    command::request::CommandHeaders,
    event_log::{AppendMode, EventLog},
    membership::Home,
};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// The heartbeat of a ghost that takes groups.
const GROUPING: &str = r#"{"replica":"ghost","instance":"none","roles":["command"],"groups":1}"#;

fn ghost() -> Home {
    Home::At("ghost".into())
}

/// All messages on some subjects.
struct Overheard {
    messages: Arc<Mutex<Vec<Message>>>,
    listening: JoinHandle<()>,
}

impl Overheard {
    async fn on(nats: &Nats, subject: &str) -> Self {
        let client = nats.client().await;
        let mut heard = client.subscribe(subject.to_owned()).await.unwrap();
        // In force once the server has answered what came after it.
        let inbox = client.new_inbox();
        let mut echo = client.subscribe(inbox.clone()).await.unwrap();
        client.publish(inbox, "".into()).await.unwrap();
        echo.next().await.unwrap();
        let messages = Arc::<Mutex<Vec<_>>>::default();
        let listening = tokio::spawn({
            let messages = messages.clone();
            async move {
                let _client = client;
                while let Some(message) = heard.next().await {
                    messages.lock().unwrap().push(message);
                }
            }
        });
        Self {
            messages,
            listening,
        }
    }

    /// How many were groups, and how many were not.
    fn count(&self) -> (usize, usize) {
        let messages = self.messages.lock().unwrap();
        let groups = messages
            .iter()
            .filter(|one| one.subject.ends_with(".group"));
        let groups = groups.count();
        (groups, messages.len() - groups)
    }
}

impl Drop for Overheard {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

#[actix::test]
async fn what_goes_to_one_home_at_one_moment_goes_there_together() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let (a, b) = two(&nats).await;
    let heard = Overheard::on(&nats, "own.b.>").await;
    // As a sees it: b may not have heard of a yet.
    let ids: Vec<String> = ids_at(&a, &Home::At("b".into())).take(40).collect();
    add(&a.client, &ids[0], 1, None).await.unwrap();
    eventually("one alone goes alone", || async {
        (heard.count() == (0, 1)).then_some(())
    })
    .await;

    // Each with its own key, version, body and end.
    let given = ids.iter().enumerate().map(|(number, id)| {
        let client = &a.client;
        async move {
            let key = format!("key-{number}");
            let command = match number % 4 {
                3 => TallyCommand::Fail {},
                _ => TallyCommand::Add {
                    amount: number as i64,
                },
            };
            let headers = CommandHeaders {
                idempotency_key: (number % 2 == 0).then(|| key.as_str().into()),
                if_match: (number % 4 == 1).then_some(7),
                ..CommandHeaders::default()
            };
            client.send::<Tally>(id, &command, headers).await
        }
    });
    let answers = join_all(given).await;
    for (number, (id, answer)) in ids.iter().zip(answers).enumerate() {
        let stored = logged(&log, id).await;
        match number % 4 {
            1 => assert_eq!(answer.unwrap_err().code, "version_mismatch"),
            3 => assert_eq!(answer.unwrap_err().code, "told_to_fail"),
            _ => {
                let outcome = answer.unwrap();
                let last = stored.last().unwrap();
                assert_eq!(&*outcome.id, id);
                assert_eq!(
                    (outcome.version, outcome.position),
                    (last.version, last.position)
                );
                assert_eq!(last.amount, number as i64);
                assert_eq!(last.command_id, format!("key-{number}"));
            }
        }
    }
    let (groups, alone) = heard.count();
    assert!(groups >= 1 && groups + alone < 30, "{groups} {alone}");
    let again = add(&a.client, &ids[2], 2, Some("key-2")).await.unwrap();
    assert!(again.replayed);
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_home_of_an_older_build_gets_each_command_by_itself() {
    let nats = Nats::start();
    let replica = Replica::start(&nats, "a").await;
    let client = nats.client().await;
    let mut taken = client.subscribe("own.ghost.>").await.unwrap();
    client.flush().await.unwrap();
    let heard = Overheard::on(&nats, "own.ghost.>").await;
    let old = r#"{"replica":"ghost","instance":"none","roles":["command"]}"#;
    let beating = keep_ghost_saying(&nats, &replica, old).await;
    let answering = tokio::spawn(async move {
        while let Some(message) = taken.next().await {
            let id = message.subject.split('.').nth(3).unwrap();
            let outcome = format!(
                r#"{{"aggregate":"tally","id":"{id}","version":7,"position":9,"events":[],"replayed":false}}"#
            );
            let to = message.reply.unwrap();
            client.publish(to, outcome.into()).await.unwrap();
        }
    });
    let ids: Vec<String> = ids_at(&replica, &ghost()).take(20).collect();
    let given = ids.iter().map(|id| add(&replica.client, id, 1, None));
    for (id, outcome) in ids.iter().zip(join_all(given).await) {
        assert_eq!(&*outcome.unwrap().id, id);
    }
    eventually("each is heard", || async {
        (heard.count() == (0, 20)).then_some(())
    })
    .await;
    beating.abort();
    answering.abort();
    replica.stop().await;
}

/// It says that it takes groups, and the build that has come in its place does not.
#[actix::test]
async fn a_group_that_is_not_understood_is_decided_elsewhere() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let replica = Replica::start(&nats, "a").await;
    let client = nats.client().await;
    let mut taken = client.subscribe("own.ghost.group").await.unwrap();
    client.flush().await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(message) = taken.next().await {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Service-Error-Code", "400");
            let to = message.reply.unwrap();
            let problem = r#"{"type":"about:blank","title":"Bad Request","status":400,"code":"malformed","detail":"id"}"#;
            client
                .publish_with_headers(to, headers, problem.into())
                .await
                .unwrap();
        }
    });
    let beating = keep_ghost_saying(&nats, &replica, GROUPING).await;
    once_each(&replica, &log, 20).await;
    beating.abort();
    answering.abort();
    replica.stop().await;
}

#[actix::test]
async fn a_group_whose_home_has_gone_is_decided_elsewhere_at_once() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let replica = Replica::start(&nats, "a").await;
    let beating = keep_ghost_saying(&nats, &replica, GROUPING).await;
    once_each(&replica, &log, 20).await;
    beating.abort();
    replica.stop().await;
}

/// The home takes a group and is never heard again.
#[actix::test]
async fn a_group_whose_home_falls_silent_is_asked_again_with_the_same_ids() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let replica = Replica::start(&nats, "a").await;
    let heard = Overheard::on(&nats, "own.ghost.>").await;
    let beating = keep_ghost_saying(&nats, &replica, GROUPING).await;
    let falling_silent = async {
        eventually("the group is there", || async {
            (heard.count().0 > 0).then_some(())
        })
        .await;
        beating.abort();
    };
    let (stored, ()) = futures::join!(once_each(&replica, &log, 20), falling_silent);
    let messages = std::mem::take(&mut *heard.messages.lock().unwrap());
    let ids = messages
        .iter()
        .flat_map(|message| given_ids(&message.payload));
    let ids: Vec<String> = ids.collect();
    assert_eq!(ids.len(), 20);
    assert_eq!(ids, stored);
    replica.stop().await;
}

/// The ids that were made up for the commands of a group.
fn given_ids(payload: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(payload);
    let ids = text.split("\"given_id\":\"").skip(1);
    ids.map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

/// Gives commands whose home is the ghost, all at once, and looks that each was carried out once. Returns their ids.
async fn once_each(replica: &Replica, log: &EventLog, count: usize) -> Vec<String> {
    let ids: Vec<String> = ids_at(replica, &ghost()).take(count).collect();
    let given = ids.iter().map(|id| {
        let command = TallyCommand::Add { amount: 1 };
        give(&replica.client, id, command, None)
    });
    let mut stored = Vec::new();
    for (id, outcome) in ids.iter().zip(join_all(given).await) {
        assert_eq!(outcome.unwrap().version, 1);
        let events = logged(log, id).await;
        assert_eq!(events.len(), 1);
        stored.extend(events.into_iter().map(|event| event.command_id));
    }
    stored
}
