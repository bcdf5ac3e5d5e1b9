//! `headwater dev --secure` and `headwater token`: everything closed, and keys for it.

use crate::harness::{
    api::Http,
    service::{Service, headwater, run},
    tokens::bearer,
};
use serde_json::json;
use std::path::Path;

/// The token that is printed for somebody.
fn printed(service: &Service, whom: &str) -> String {
    // The last line of the banner; those before it are there then.
    service.tells("  staff ");
    let output = service.output();
    let line = output.iter().find(|line| line.trim().starts_with(whom));
    let line = line.unwrap_or_else(|| panic!("{output:?}"));
    line.split_once("TOKEN=").unwrap().1.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_is_closed_but_for_who_has_a_token() {
    let service = Service::dev(&["--secure"]);
    service.tells("  staff ");
    let lines = service.output().len();
    assert!(lines <= 10, "{}", service.transcript());
    let http = service.http();
    http.get("/views/product", &[])
        .await
        .problem(401, "unauthenticated");
    http.get("/metrics", &[])
        .await
        .problem(401, "unauthenticated");
    let [member, staff] = ["member", "staff"].map(|whom| bearer(&printed(&service, whom)));
    let [member, staff] = [&member, &staff].map(|token| [("Authorization", token.as_str())]);
    let list = http
        .get("/views/product?limit=1", &member)
        .await
        .expect(200);
    let sku = list.json()["items"][0]["id"].as_str().unwrap().to_owned();
    http.get("/metrics", &staff).await.expect(200);
    http.get("/metrics", &member)
        .await
        .problem(403, "forbidden");
    let lines = json!([{"sku": sku, "quantity": 1, "unit_price": 100}]);
    for (whom, status) in [("m-haneul", 200), ("m-bada", 403)] {
        let order = json!({"member": whom, "branch": "gangnam", "lines": lines});
        let path = format!("/commands/order/secured-{whom}/place");
        let reply = http.post(&path, order.to_string(), &member).await;
        assert_eq!(reply.status, status, "{:?}", reply.json());
    }
    nobody_connects_without_a_user(&service).await;
    views_are_seen_by_the_operator(&service);
}

async fn nobody_connects_without_a_user(service: &Service) {
    let refused = async_nats::ConnectOptions::new()
        .connect(service.nats_url())
        .await;
    assert!(refused.is_err());
}

fn views_are_seen_by_the_operator(service: &Service) {
    let seed = service.folder().join("secure/keys/operator.nk");
    let list = |token: Option<String>| {
        let mut command = headwater(["views", "list", "--nats", &service.nats_url()]);
        command.arg("--nats-nkey").arg(&seed);
        if let Some(token) = token {
            command.env("HEADWATER_TOKEN", token);
        }
        run(&mut command)
    };
    assert_eq!(list(None).status.code(), Some(1));
    let output = list(Some(printed(service, "staff")));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("product"), "{output:?}");
}

#[test]
fn the_keys_stay_and_are_for_nobody_else() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let token = {
        let service = Service::dev_in(&folder, &["--secure", "--no-seed"]);
        printed(&service, "staff")
    };
    let keys = folder.join("secure/keys");
    is_private(&keys, 0o700);
    is_private(&keys.join("signing-key.pem"), 0o600);
    let service = Service::dev_in(&folder, &["--secure", "--no-seed", "--reset"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let http = Http::new(service.http_url());
        let headers = [("Authorization", bearer(&token))];
        let headers = headers
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        http.get("/metrics", &headers).await.expect(200);
    });
}

fn is_private(path: &Path, expected: u32) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, expected, "{}", path.display());
}

/// A token of a key of one's own is taken where its key set is.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_and_taken() {
    let temp = tempfile::tempdir().unwrap();
    let key = temp.path().join("key.pem");
    let make = |more: &[&str]| {
        let mut command = headwater(["token", "--subject", "m-1", "--scopes", "qry:product,staff"]);
        command.args(["--auth-issuer", "us", "--auth-audience", "mart"]);
        command.arg("--signing-key").arg(&key).args(more);
        run(&mut command)
    };
    let missing = make(&[]);
    assert_eq!(missing.status.code(), Some(2));
    let output = make(&["--new-key", "--lifetime", "5m"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let token = String::from_utf8(output.stdout).unwrap();
    let again = make(&["--new-key"]);
    assert!(again.stderr.is_empty(), "the key stays: {again:?}");
    let keys = temp.path().join("key.pem.jwks.json");
    let service = Service::dev(&[
        "--no-seed",
        "--auth-jwks",
        keys.to_str().unwrap(),
        "--auth-issuer",
        "us",
        "--auth-audience",
        "mart",
    ]);
    let http = service.http();
    for token in [token.trim(), String::from_utf8_lossy(&again.stdout).trim()] {
        let bearer = bearer(token);
        let headers = [("Authorization", bearer.as_str())];
        http.get("/views/product", &headers).await.expect(200);
        http.get("/views/sales", &headers)
            .await
            .problem(403, "forbidden");
    }
    let other = make(&["--lifetime", "1000d"]);
    assert_eq!(other.status.code(), Some(2));
}
