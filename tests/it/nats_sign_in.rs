//! Connections to a NATS that wants to know who connects, and shows who it is: every kind, and every kind wrong.

use crate::harness::{
    api::Api,
    certificates::Authority,
    nats::{DEV, Nats, signal},
    poll::eventually,
    service::{Service, headwater, run},
    unique,
};
use async_nats::ConnectOptions;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};
use tempfile::TempDir;

/// Creates the topology by these flags; returns the exit code, and what was said.
fn apply(nats: &Nats, flags: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = headwater(["topology", "apply", "--nats", &nats.url()]);
    command.args(flags).envs(variables.iter().copied());
    let output = run(&mut command);
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[track_caller]
fn signs_in(nats: &Nats, flags: &[&str], variables: &[(&str, &str)]) {
    let (code, said) = apply(nats, flags, variables);
    assert_eq!(code, Some(0), "{flags:?}: {said}\n{}", nats.log());
}

/// Asserts that it ends with this code and says all of these words, and none of the secrets.
#[track_caller]
fn is_refused(nats: &Nats, flags: &[&str], code: i32, words: &[&str]) {
    let (ended, said) = apply(nats, flags, &[]);
    assert_eq!(ended, Some(code), "{flags:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{flags:?}: no {word} in {said}");
    }
    assert!(!said.contains("s3cret"), "{flags:?}: {said}");
    assert!(!said.contains("SUA"), "{flags:?}: {said}");
}

fn written(folder: &TempDir, name: &str, content: &str) -> String {
    let file = folder.path().join(name);
    fs::write(&file, content).unwrap();
    text(&file)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_user_and_a_password_sign_in() {
    let users =
        r#"accounts { A { users: [{user: "us er", password: "s3cret@:/"}], jetstream: enabled } }"#;
    let nats = Nats::start_with(&format!("{DEV}\n{users}\n"));
    signs_in(
        &nats,
        &["--nats-user", "us er", "--nats-password", "s3cret@:/"],
        &[],
    );
    let variables = [
        ("HEADWATER_NATS_USER", "us er"),
        ("HEADWATER_NATS_PASSWORD", "s3cret@:/"),
    ];
    signs_in(&nats, &[], &variables);
    let wrong = ["--nats-user", "us er", "--nats-password", "s3cret"];
    is_refused(&nats, &wrong, 2, &["refuses the user us er", &nats.url()]);
    let words = ["does not say who it is", "--nats-creds"];
    is_refused(&nats, &[], 2, &words);
    let addressed = format!("nats://u:s3cret2@127.0.0.1:{}", nats.port());
    let words = ["give one of both"];
    is_refused(
        &nats,
        &[&wrong[..], &["--nats", &addressed]].concat(),
        2,
        &[],
    );
    let output = run(headwater(["views", "list", "--nats", &addressed]).args(wrong));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(words[0]) && !said.contains("s3cret"),
        "{said}"
    );
}

#[test]
fn a_token_signs_in() {
    let nats = Nats::start_with(&format!("{DEV}\nauthorization {{ token: \"s3cret/k\" }}\n"));
    signs_in(&nats, &["--nats-token", "s3cret/k"], &[]);
    signs_in(&nats, &[], &[("HEADWATER_NATS_TOKEN", "s3cret/k")]);
    let words = ["refuses the token of --nats-token"];
    is_refused(&nats, &["--nats-token", "s3cret"], 2, &words);
}

fn with_nkey(key: &KeyPair) -> String {
    let user = key.public_key();
    format!("{DEV}\naccounts {{ A {{ users: [{{nkey: {user}}}], jetstream: enabled }} }}\n")
}

#[test]
fn an_nkey_signs_in() {
    let folder = tempfile::tempdir().unwrap();
    let [key, other] = [KeyPair::new_user(), KeyPair::new_user()];
    let nats = Nats::start_with(&with_nkey(&key));
    let file = written(&folder, "seed", &key.seed().unwrap());
    signs_in(&nats, &["--nats-nkey", &file], &[]);
    signs_in(&nats, &[], &[("HEADWATER_NATS_NKEY", &file)]);
    let wrong = written(&folder, "wrong", &other.seed().unwrap());
    let words = ["--nats-nkey", &wrong, &other.public_key()];
    is_refused(&nats, &["--nats-nkey", &wrong], 2, &words);
    for content in ["", "SUAs3cret"] {
        let file = written(&folder, "no-seed", content);
        let words = ["--nats-nkey", &file, "no seed of a user"];
        is_refused(&nats, &["--nats-nkey", &file], 2, &words);
    }
    let words = ["--nats-nkey nowhere", "No such file"];
    is_refused(&nats, &["--nats-nkey", "nowhere"], 2, &words);
}

/// A JWT of NATS: signed by an nkey.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let claims = json!({
        "jti": unique("jti"), "iat": 1_700_000_000, "iss": issuer.public_key(),
        "sub": subject.public_key(), "name": name, "nats": nats,
    });
    let signed = format!("{}.{}", encoded(&header), encoded(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn creds(account: &KeyPair) -> String {
    let user = KeyPair::new_user();
    let claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
    format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt(account, &user, "replica", claims),
        user.seed().unwrap()
    )
}

#[test]
fn a_credentials_file_signs_in() {
    let folder = tempfile::tempdir().unwrap();
    let operator = KeyPair::new_operator();
    let [account, system, other] = [(); 3].map(|()| KeyPair::new_account());
    let operating =
        json!({"type": "operator", "version": 2, "system_account": system.public_key()});
    let unlimited = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1,
        "streams": -1, "consumer": -1});
    let claims = json!({"type": "account", "version": 2, "limits": unlimited});
    let bare = json!({"type": "account", "version": 2,
        "limits": {"subs": -1, "data": -1, "payload": -1, "conn": -1}});
    let nats = Nats::start_with(&format!(
        "{DEV}\noperator: {}\nresolver: MEMORY\nresolver_preload: {{\n{}: {}\n{}: {}\n}}\n",
        jwt(&operator, &operator, "operator", operating),
        account.public_key(),
        jwt(&operator, &account, "account", claims),
        system.public_key(),
        jwt(&operator, &system, "system", bare),
    ));
    let file = written(&folder, "replica.creds", &creds(&account));
    signs_in(&nats, &["--nats-creds", &file], &[]);
    signs_in(&nats, &[], &[("HEADWATER_NATS_CREDS", &file)]);
    let wrong = written(&folder, "wrong.creds", &creds(&other));
    let words = ["refuses the credentials of --nats-creds", &wrong];
    is_refused(&nats, &["--nats-creds", &wrong], 2, &words);
    let none = written(&folder, "none.creds", "s3cret");
    let words = ["--nats-creds", &none, "no user JWT"];
    is_refused(&nats, &["--nats-creds", &none], 2, &words);
}

/// A server with TLS, files for it, and those of an authority that it does not know.
struct Tls {
    folder: TempDir,
    nats: Nats,
}

impl Tls {
    fn start(more: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let known = Authority::new(folder.path(), "known");
        known.sign("server");
        known.sign("client");
        Authority::new(folder.path(), "unknown").sign("stranger");
        let file = |name: &str| text(&folder.path().join(name));
        let [cert, key, ca] = ["server.pem", "server.key", "known.pem"].map(file);
        let nats = Nats::start_with(&format!(
            "{DEV}\ntls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\"\n{more}\n}}\n{rest}\n"
        ));
        Self { folder, nats }
    }

    fn file(&self, name: &str) -> String {
        text(&self.folder.path().join(name))
    }

    /// `--nats-ca`, and the certificate of this name.
    fn flags(&self, certificate: &str) -> [String; 6] {
        let [cert, key] = ["pem", "key"].map(|kind| self.file(&format!("{certificate}.{kind}")));
        let ca = self.file("known.pem");
        ["--nats-ca", &ca, "--nats-cert", &cert, "--nats-key", &key].map(str::to_owned)
    }
}

fn borrowed(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

#[test]
fn nats_is_believed_by_its_authority_alone() {
    let users = r#"accounts { A { users: [{user: u, password: p}], jetstream: enabled } }"#;
    let tls = Tls::start("", users);
    let [known, unknown] = ["known.pem", "unknown.pem"].map(|name| tls.file(name));
    let user = ["--nats-user", "u", "--nats-password", "p", "--nats-ca"];
    signs_in(&tls.nats, &[&user[..], &[&known]].concat(), &[]);
    let of_another = [&user[..], &[&unknown]].concat();
    is_refused(&tls.nats, &of_another, 1, &["certificate", &tls.nats.url()]);
    is_refused(&tls.nats, &user[..4], 1, &["certificate"]);
    let key = tls.file("server.key");
    let none = [&user[..], &[&key]].concat();
    is_refused(&tls.nats, &none, 2, &["--nats-ca", &key, "no certificate"]);
}

#[test]
fn a_certificate_signs_in() {
    let users = r#"accounts { A { users: [{user: "CN=client"}], jetstream: enabled } }"#;
    let tls = Tls::start("verify_and_map: true", users);
    signs_in(&tls.nats, &borrowed(&tls.flags("client")), &[]);
    // Of the right authority, and nobody that the server knows.
    is_refused(&tls.nats, &borrowed(&tls.flags("server")), 2, &["refuses"]);
    is_refused(
        &tls.nats,
        &borrowed(&tls.flags("stranger")),
        1,
        &[&tls.nats.url()],
    );
    let mut mixed = tls.flags("client");
    mixed[5] = tls.file("stranger.key");
    is_refused(&tls.nats, &borrowed(&mixed), 2, &["--nats-cert"]);
    mixed[5] = tls.file("client.pem");
    is_refused(
        &tls.nats,
        &borrowed(&mixed),
        2,
        &["--nats-key", "no private key"],
    );
}

#[test]
fn tls_may_come_before_anything_else() {
    let tls = Tls::start("handshake_first: true", "");
    let ca = tls.file("known.pem");
    signs_in(&tls.nats, &["--nats-ca", &ca, "--nats-tls-first"], &[]);
}

/// Who is in between could say that there is no TLS.
#[test]
fn nothing_is_sent_without_tls_where_an_authority_is_named() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new(folder.path(), "known");
    let ca = text(&folder.path().join("known.pem"));
    let nats = Nats::start();
    let flags = [
        "--nats-ca",
        &ca,
        "--nats-user",
        "u",
        "--nats-password",
        "s3cret",
    ];
    let (code, said) = apply(&nats, &flags, &[]);
    assert_eq!(code, Some(1), "{said}");
}

async fn is_ready(replica: &Service) {
    let http = replica.http();
    eventually("the replica is ready", || async {
        (http.get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
}

async fn registers(replica: &Service) {
    let body = json!({"name": "signed in", "price": 1, "category": "fruit"});
    let (api, sku) = (Api::Http(replica.http()), unique("signed"));
    let accepted = api.command("product", &sku, "register", body).await;
    let position = accepted.expect(200).header("Headwater-Position").to_owned();
    api.document("product", &sku, &[("Headwater-Min-Position", &position)])
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_a_bench_and_an_operator_sign_in_by_certificate_and_nkey() {
    let key = KeyPair::new_user();
    let user = key.public_key();
    let users = format!("accounts {{ A {{ users: [{{nkey: {user}}}], jetstream: enabled }} }}");
    let tls = Tls::start("verify: true", &users);
    let seed = written(&tls.folder, "seed", &key.seed().unwrap());
    let mut flags = tls.flags("client").to_vec();
    flags.extend(["--nats-nkey".to_owned(), seed]);
    let flags = borrowed(&flags);
    let replica = Service::serve(&tls.nats.url(), &flags);
    is_ready(&replica).await;
    registers(&replica).await;
    let listed = run(headwater(["views", "list", "--nats", &tls.nats.url()]).args(&flags));
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    // The bench starts a process of its own, which has to sign in too.
    let address = replica.http_url().replace("http://", "");
    for bench in [
        vec!["hot", "--seconds", "1", "--rounds", "1"],
        vec![
            "get",
            "--seconds",
            "1",
            "--rounds",
            "1",
            "--documents",
            "5",
            "--http-addr",
            &address,
        ],
    ] {
        let mut command = headwater(["bench"]);
        command
            .args(bench)
            .args(["--nats", &tls.nats.url()])
            .args(&flags);
        let measured = run(&mut command);
        assert_eq!(measured.status.code(), Some(0), "{measured:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_renewed_in_a_file_counts_from_the_next_connection_on() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = [(); 2].map(|()| KeyPair::new_user());
    let mut nats = Nats::start_with(&with_nkey(&old));
    let seed = written(&folder, "seed", &old.seed().unwrap());
    let replica = Service::serve(&nats.url(), &["--nats-nkey", &seed]);
    registers(&replica).await;
    written(&folder, "seed", &new.seed().unwrap());
    nats.stop();
    nats.start_again_with(&with_nkey(&new));
    eventually("the replica is back", || async {
        let answer = replica.http().get("/readyz", &[]).await;
        (answer.status == 200).then_some(())
    })
    .await;
    registers(&replica).await;
}

/// The certificate of NATS is replaced by one of another authority, while commands and queries go on.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_nats_is_renewed_under_load_and_no_request_fails() {
    let users = r#"accounts { A { users: [{user: u, password: p}], jetstream: enabled } }"#;
    let tls = Tls::start("", users);
    let next = Authority::new(tls.folder.path(), "next");
    let both = ["known.pem", "next.pem"].map(|name| fs::read_to_string(tls.file(name)).unwrap());
    let both = written(&tls.folder, "both.pem", &both.concat());
    let user = ["--nats-user", "u", "--nats-password", "p", "--nats-ca"];
    let replica = Service::serve(&tls.nats.url(), &[&user[..], &[&both]].concat());
    let (going, answered) = (AtomicBool::new(true), AtomicUsize::new(0));
    let load = async {
        while going.load(SeqCst) {
            registers(&replica).await;
            answered.fetch_add(1, SeqCst);
        }
    };
    let renewing = async {
        let more = async |count: usize| {
            let before = answered.load(SeqCst);
            eventually("requests go on", || async {
                (answered.load(SeqCst) >= before + count).then_some(())
            })
            .await;
        };
        more(5).await;
        let [certificate, key] = next.sign("renewed");
        fs::copy(key, tls.file("server.key")).unwrap();
        fs::copy(certificate, tls.file("server.pem")).unwrap();
        signal(tls.nats.pid(), "HUP");
        // Whoever believes the new authority alone can connect from now on.
        let (url, ca) = (tls.nats.url(), tls.file("next.pem"));
        eventually("the new certificate is shown", || async {
            let options = ConnectOptions::with_user_and_password("u".to_owned(), "p".to_owned());
            let options = options
                .require_tls(true)
                .add_root_certificates(ca.clone().into());
            options.connect(&url).await.ok().map(drop)
        })
        .await;
        more(20).await;
        going.store(false, SeqCst);
    };
    futures::future::join(load, renewing).await;
}

/// As today: who is refused for good ends, who may come yet is waited for.
#[test]
fn a_replica_with_a_wrong_secret_ends_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start_with(&with_nkey(&KeyPair::new_user()));
    let seed = written(&folder, "seed", &KeyPair::new_user().seed().unwrap());
    let data: PathBuf = folder.path().join("data");
    let fixed = ["serve", "--http-addr", "127.0.0.1:0", "--nats", &nats.url()];
    let mut command = headwater(fixed);
    command
        .args(["--nats-nkey", &seed])
        .arg("--data-dir")
        .arg(data);
    let output = run(&mut command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(&format!("the nkey of --nats-nkey {seed}")),
        "{said}"
    );
}
