//! The secret of a deployment: keys are hidden under it, in one way by all replicas.

use crate::{
    claims_support::{key, keys, taken},
    command_support::{log, options, over},
    harness::{
        nats::{DEV, Nats},
        poll::eventually,
        service::{Service, headwater, run},
    },
};
use headwater::event_log::{AppendMode, EventLog, Timeouts, secret::Secret, topology::Topology};
use sha2::{Digest, Sha256};

#[actix::test]
async fn a_key_stands_in_the_log_neither_in_plain_nor_as_a_plain_hash() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let client = over(&log, options());
    let email = "haneul@example.com";
    // The event would have it, so only the claim is looked at.
    keys(&client, "a", &[email], &[]).await.unwrap();
    let claims = log.messages("claim.>", 0, u64::MAX - 1).await.unwrap();
    assert_eq!(claims.len(), 1);
    let digest = Sha256::digest(email);
    let plain: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{} {:?}", claims[0].subject, claims[0].payload);
    assert!(!text.contains(&plain) && !text.contains(email), "{text}");
    assert!(text.starts_with("claim.tally_key."), "{text}");
    let digits = claims[0].subject.rsplit('.').next().unwrap();
    assert_eq!(digits.len(), 64);
    client.stop().await;
}

fn with_secret(log: &EventLog, secret: Option<&[u8]>) -> EventLog {
    let secret = secret.map(|secret| Secret::new(secret).unwrap());
    EventLog::new(log.client().clone(), Timeouts::default()).with_secret(secret)
}

#[actix::test]
async fn one_secret_hides_one_key_in_one_way_and_another_is_refused() {
    for (secret, wrong) in [
        (
            Some(&b"a secret of the deployment"[..]),
            Some(&b"another, also long enough"[..]),
        ),
        (Some(b"a secret of the deployment"), None),
        (None, Some(b"a secret of the deployment")),
    ] {
        let nats = Nats::start();
        let log = log(&nats, AppendMode::Pipelined).await;
        let first = with_secret(&log, secret);
        first.agree_on_secret().await.unwrap();
        let second = with_secret(&log, secret);
        second.agree_on_secret().await.unwrap();
        let subjects = [&first, &second].map(|log| async { log.claim_subject(&key("k")).await });
        let [one, other] = subjects;
        assert_eq!(one.await.unwrap(), other.await.unwrap());
        let other = with_secret(&log, wrong);
        let error = other.agree_on_secret().await.unwrap_err();
        assert!(error.to_string().contains("--secret-file"), "{error}");
        // Whatever it was told at the start, it claims nothing.
        other.claim_subject(&key("k")).await.unwrap_err();
    }
}

#[actix::test]
async fn a_log_that_is_replaced_without_a_sign_is_agreed_on_anew() {
    for secret in [None, Some(&b"a secret of the deployment"[..])] {
        let nats = Nats::start();
        let log = log(&nats, AppendMode::Pipelined).await;
        let log = with_secret(&log, secret);
        let client = over(&log, options());
        keys(&client, "a", &["k"], &[]).await.unwrap();
        let before = log.last_message("log.secret").await.unwrap().unwrap();
        nats.jetstream()
            .await
            .delete_stream("EVENTS")
            .await
            .unwrap();
        Topology::embedded().apply(log.client()).await.unwrap();
        // Nobody tells the replica. Its key is free in the new log, also for others.
        keys(&client, "b", &["k"], &[]).await.unwrap();
        let agreed = eventually("the log has the secret", || async {
            log.claim_subject(&key("k")).await.unwrap();
            log.last_message("log.secret").await.unwrap()
        })
        .await;
        assert_eq!(before.payload, agreed.payload, "as other replicas know it");
        let newcomer = with_secret(&log, secret);
        let second = over(&newcomer, options());
        taken(keys(&second, "c", &["k"], &[]).await);
        for client in [client, second] {
            client.stop().await;
        }
    }
}

#[test]
fn a_replica_with_another_secret_is_refused_at_the_start_by_name() {
    let nats = Nats::start();
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let file = temp.path().join(name);
        std::fs::write(&file, content).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (
        file("right", "sixteen bytes or more"),
        file("wrong", "other bytes, also more"),
    );
    let first = Service::serve(&nats.url(), &["--secret-file", &right]);
    assert!(!first.transcript().contains("--secret-file"));
    let second = Service::serve(&nats.url(), &["--secret-file", &right]);
    let short = file("short", "short");
    let missing = temp.path().join("missing").to_str().unwrap().to_owned();
    for (given, words) in [
        (vec!["--secret-file", &wrong], "hidden under another secret"),
        (vec![], "hidden under another secret"),
        (vec!["--secret-file", &short], "at least 16 bytes"),
        (vec!["--secret-file", &missing], "missing"),
    ] {
        let output = run(headwater(["serve", "--http-addr", "127.0.0.1:0"])
            .args(["--nats", &nats.url()])
            .args(&given)
            .arg("--data-dir")
            .arg(temp.path().join("data")));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{given:?}: {error}");
        assert!(
            error.contains(words) && error.contains("--secret-file"),
            "{error}"
        );
        assert!(!error.contains("bytes, also"), "{error}");
    }
    drop((first, second));
}

#[test]
fn without_a_secret_the_log_has_a_salt_and_a_warning_says_so() {
    let nats = Nats::start_with(DEV);
    let replica = Service::serve(&nats.url(), &[]);
    assert!(
        replica.transcript().contains("--secret-file"),
        "{}",
        replica.transcript()
    );
    let second = Service::serve(&nats.url(), &[]);
    drop((replica, second));
}
