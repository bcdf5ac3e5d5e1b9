//! Replicas that find each other over a real nats-server.

use crate::harness::{nats::Nats, poll::eventually, proxy::Proxy};
use headwater::{
    config::Role,
    membership::{Home, Key, Membership, MembershipError, MembershipOptions},
};
use std::{collections::BTreeSet, time::Duration};

/// Ten times as fast as it is by default.
const OPTIONS: MembershipOptions = MembershipOptions {
    heartbeat: Duration::from_millis(100),
    gone_after: Duration::from_millis(400),
    answers: Duration::from_millis(100),
};

async fn join(url: &str, replica: &str) -> Result<Membership, MembershipError> {
    let client = async_nats::connect(url).await.unwrap();
    let roles = BTreeSet::from([Role::Command]);
    let membership = Membership::open(client, replica, roles, OPTIONS).await?;
    membership.announce().await?;
    Ok(membership)
}

fn seen_by(membership: &Membership) -> Vec<String> {
    let members = membership.watch();
    let members = members.borrow();
    members.iter().map(|one| one.replica().to_owned()).collect()
}

async fn sees(membership: &Membership, replicas: &[&str]) {
    eventually("the replica sees who is there", || async {
        (seen_by(membership) == replicas).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_knows_all_others_once_it_has_announced_itself() {
    let nats = Nats::start();
    let a = join(&nats.url(), "a").await.unwrap();
    let b = join(&nats.url(), "b").await.unwrap();
    sees(&b, &["a", "b"]).await;
    sees(&a, &["a", "b"]).await;
    for number in 0..100 {
        let key = Key::of(&["order", &number.to_string()]);
        let home = a.home_of(Role::Command, key);
        assert_eq!(home, b.home_of(Role::Command, key));
        assert_eq!(
            home.as_deref() == Some("a"),
            a.home(Role::Command, key) == Home::Here
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_leaves_is_nobodys_home_and_one_that_is_silent_is_gone() {
    let nats = Nats::start();
    let a = join(&nats.url(), "a").await.unwrap();
    let b = join(&nats.url(), "b").await.unwrap();
    let c = join(&nats.url(), "c").await.unwrap();
    sees(&a, &["a", "b", "c"]).await;
    b.leave().await;
    sees(&a, &["a", "c"]).await;
    sees(&b, &["a", "c"]).await;
    c.stop();
    sees(&a, &["a"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_cannot_have_one_name() {
    let nats = Nats::start();
    let _first = join(&nats.url(), "same").await.unwrap();
    let error = join(&nats.url(), "same").await.unwrap_err();
    assert!(
        matches!(error, MembershipError::NameTaken { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_cannot_have_a_name_that_no_subject_may_have() {
    let nats = Nats::start();
    for name in ["", "two words", "a.b", "a\r\nPUB x 0", &"a".repeat(33)] {
        let error = join(&nats.url(), name).await.unwrap_err();
        assert!(matches!(error, MembershipError::Name { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_cut_off_keeps_the_others_and_is_found_again() {
    let nats = Nats::start();
    let a = join(&nats.url(), "a").await.unwrap();
    let proxy = Proxy::start(nats.port());
    let b = join(&proxy.nats_url(), "b").await.unwrap();
    sees(&b, &["a", "b"]).await;
    proxy.cut();
    sees(&a, &["a"]).await;
    assert_eq!(seen_by(&b), ["a", "b"], "its own silence tells it nothing");
    proxy.heal();
    sees(&a, &["a", "b"]).await;
    sees(&b, &["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_heartbeat_changes_nothing() {
    let nats = Nats::start();
    let a = join(&nats.url(), "a").await.unwrap();
    let client = nats.client().await;
    for body in ["", "{}", "[1]", r#"{"replica":"x"}"#] {
        client.publish("member.x", body.into()).await.unwrap();
    }
    let future = r#"{"replica":"y","instance":"1","roles":["command","dreamer"],"mood":"good"}"#;
    client.publish("member.y", future.into()).await.unwrap();
    eventually("the replica of another version is seen", || async {
        seen_by(&a).contains(&"y".to_owned()).then_some(())
    })
    .await;
    assert!(!seen_by(&a).contains(&"x".to_owned()));
}

/// Says something of a replica, and waits until it has been heard.
async fn say_of(nats: &Nats, heard_by: &Membership, replica: &str, instance: &str, leaving: bool) {
    let client = nats.client().await;
    let roles = ["command"];
    let body = serde_json::json!({
        "replica": replica, "instance": instance, "roles": roles, "leaving": leaving
    });
    let said = client.publish(format!("member.{replica}"), body.to_string().into());
    said.await.unwrap();
    let marker = format!("marker-{instance}");
    let body = serde_json::json!({"replica": marker, "instance": "m", "roles": []});
    let said = client.publish(format!("member.{marker}"), body.to_string().into());
    said.await.unwrap();
    eventually("what was said is heard", || async {
        seen_by(heard_by).contains(&marker).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_goodbye_of_a_predecessor_takes_nobody_along() {
    let nats = Nats::start();
    let a = join(&nats.url(), "a").await.unwrap();
    let b = join(&nats.url(), "b").await.unwrap();
    sees(&a, &["a", "b"]).await;
    say_of(&nats, &a, "b", "its-predecessor", true).await;
    assert!(seen_by(&a).contains(&"b".to_owned()));
    b.leave().await;
    eventually("its own goodbye counts", || async {
        (!seen_by(&a).contains(&"b".to_owned())).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_that_find_each_other_with_one_name_the_younger_leaves() {
    let nats = Nats::start();
    let a = join(&nats.url(), "a").await.unwrap();
    say_of(&nats, &a, "a", "zzzz", false).await;
    assert!(!a.is_leaving() && !a.is_name_taken());
    say_of(&nats, &a, "a", "0000", false).await;
    assert!(a.is_leaving() && a.is_name_taken());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_goes_without_a_word_is_lost_and_one_that_leaves_is_not() {
    let nats = Nats::start();
    let a = join(&nats.url(), "a").await.unwrap();
    let b = join(&nats.url(), "b").await.unwrap();
    let c = join(&nats.url(), "c").await.unwrap();
    sees(&a, &["a", "b", "c"]).await;
    let (left, silent) = (a.lost("b"), a.lost("c"));
    b.leave().await;
    c.stop();
    silent.await;
    assert!(futures::FutureExt::now_or_never(left).is_none());
}
