//! Secrets that are told apart from everything else: whatever is logged, measured, traced, described, refused or
//! shown to other users of the machine, none of them is in it.

use crate::harness::{
    api::{Api, NatsApi},
    nats::{DEV, Nats},
    otlp::Collector,
    poll::eventually,
    service::{Service, headwater},
    surreal::Surreal,
    tokens::{self, Signer, bearer},
};
use serde_json::json;

/// In the place of each secret.
const PASSWORD: &str = "canary-nats-5f1d";
const KEYS: &str = "canary-secret-of-unique-keys-77aa";
const HEADER: &str = "canary-otlp-90be";
const SURREAL: &str = "root";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_anywhere_whatever_is_logged() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("k-1"));
    let config = format!("{DEV}\nauthorization {{ user: canary, password: \"{PASSWORD}\" }}");
    let (nats, surreal, collector) = (
        Nats::start_with(&config),
        Surreal::start(),
        Collector::start(),
    );
    let secret = folder.path().join("secret");
    std::fs::write(&secret, KEYS).unwrap();
    let data = folder.path().join("data");
    let mut command = headwater([
        "serve",
        "--http-addr",
        "127.0.0.1:0",
        "--log",
        "trace",
        "--nats",
    ]);
    command.arg(nats.url()).arg("--data-dir").arg(&data);
    command.args([
        "--surreal",
        &surreal.url(),
        "--otlp-endpoint",
        &collector.url(),
    ]);
    command.args(tokens::flags(&tokens::written(folder.path(), &signer)));
    command.arg("--secret-file").arg(&secret);
    command.envs([
        ("HEADWATER_NATS_USER", "canary"),
        ("HEADWATER_NATS_PASSWORD", PASSWORD),
        ("HEADWATER_SURREAL_USER", "root"),
        ("HEADWATER_SURREAL_PASSWORD", SURREAL),
        ("HEADWATER_OTLP_HEADERS", &format!("x-key={HEADER}")),
    ]);
    let service = Service::start(command, data, tempfile::tempdir().unwrap());
    let good = signer.token("canary-subject", "cmd:* qry:* ops:read staff");
    let bad = format!("{}x", signer.token("canary-subject", "qry:*"));
    let ended =
        signer.sign(&json!({"iss": tokens::ISSUER, "aud": tokens::AUDIENCE, "sub": "a", "exp": 1}));
    let mut said = String::new();
    let http = service.http();
    for token in [&good, &bad, &ended] {
        let bearer = bearer(token);
        let headers = [
            ("Authorization", bearer.as_str()),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        ];
        let client = async_nats::ConnectOptions::with_user_and_password(
            "canary".to_owned(),
            PASSWORD.to_owned(),
        );
        let client = client.connect(nats.url()).await.unwrap();
        for api in [Api::Http(http.clone()), Api::Nats(NatsApi { client })] {
            let body = json!({"name": "a", "email": "canary@example.com"});
            for reply in [
                api.command_with("member", "canary", "register", body.clone(), &headers)
                    .await,
                api.command_with("member", "canary", "register", json!([1]), &headers)
                    .await,
                api.document("member", "a", &headers).await,
                api.document("order", "a", &headers).await,
                api.list("order", json!({"member": "x", "cursor": "y"}), &headers)
                    .await,
            ] {
                said.push_str(&format!(
                    "{:?} {}\n",
                    reply.headers,
                    String::from_utf8_lossy(&reply.body)
                ));
            }
        }
        for path in ["/metrics", "/openapi.json", "/readyz", "/", "/docs/"] {
            let reply = http.get(path, &headers).await;
            said.push_str(&String::from_utf8_lossy(&reply.body));
        }
    }
    eventually("spans are exported", || async {
        (!collector.spans().is_empty()).then_some(())
    })
    .await;
    said.push_str(&format!("{:?}", collector.spans()));
    said.push_str(&service.transcript());
    said.push_str(&nats.log());
    let shown = std::fs::read(format!("/proc/{}/cmdline", service.pid())).unwrap();
    said.push_str(&String::from_utf8_lossy(&shown));
    assert!(said.contains("TRACE"), "everything is logged");
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let claims = |token: &str| token.split('.').nth(1).unwrap().to_owned();
    let secrets = [
        PASSWORD.to_owned(),
        KEYS.to_owned(),
        HEADER.to_owned(),
        signature(&good),
        signature(&bad),
        signature(&ended),
        claims(&good),
    ];
    for secret in secrets {
        let told = said.lines().find(|line| line.contains(&secret));
        assert_eq!(told, None, "{secret}");
    }
}
