//! Who asks, and what they may: scopes on both surfaces, and what is done before anything else is looked at.

use crate::{
    harness::{
        api::{Api, NatsApi, Reply},
        nats::Nats,
        poll::eventually,
        service::{Service, headwater, run},
        tokens::{self, Signer, bearer},
        unique,
    },
    live::Live,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A replica whose keys are in a file, on a NATS of its own.
struct World {
    signer: Signer,
    nats: Nats,
    service: Service,
    flags: Vec<String>,
    folder: TempDir,
}

impl World {
    fn start(more: &[&str]) -> Self {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("k-1"));
        let nats = Nats::start();
        let mut flags = tokens::flags(&tokens::written(folder.path(), &signer));
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let service = serve(&nats, &flags);
        Self {
            signer,
            nats,
            service,
            flags,
            folder,
        }
    }

    async fn both(&self) -> [Api; 2] {
        let nats = NatsApi::connect(&self.nats.url()).await;
        [Api::Http(self.service.http()), Api::Nats(nats)]
    }

    fn token(&self, scopes: &str) -> String {
        bearer(&self.signer.token("m-1", scopes))
    }
}

fn serve(nats: &Nats, flags: &[String]) -> Service {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Service::serve(&nats.url(), &flags)
}

fn product() -> Value {
    json!({"name": "guarded", "price": 1, "category": "fruit"})
}

async fn register(api: &Api, sku: &str, headers: &[(&str, &str)]) -> Reply {
    api.command_with("product", sku, "register", product(), headers)
        .await
}

#[track_caller]
fn is_unauthenticated(reply: &Reply) {
    let problem = reply.problem(401, "unauthenticated");
    let challenge = reply.header("WWW-Authenticate");
    assert!(challenge.starts_with("Bearer "), "{problem}: {challenge}");
}

#[track_caller]
fn is_forbidden(reply: &Reply, scope: &str) {
    assert_eq!(reply.problem(403, "forbidden")["scope"], scope);
    let challenge = reply.header("WWW-Authenticate");
    assert!(
        challenge.contains(&format!("scope=\"{scope}\"")),
        "{challenge}"
    );
}

/// What each kind of token may do, of what there is to be done.
#[tokio::test(flavor = "multi_thread")]
async fn each_scope_allows_what_it_names_on_both_surfaces_and_nothing_else() {
    let world = World::start(&[]);
    let all = [
        "cmd:product:register",
        "cmd:product:*",
        "cmd:*",
        "cmd:stock:*",
        "cmd:product:rename",
        "qry:product",
        "qry:*",
        "qry:sales",
        "ops:read",
        "ops:write",
        "staff",
        "",
    ];
    for api in world.both().await {
        for scope in all {
            // What the domain asks besides is another matter.
            let token = world.token(&format!("{scope} staff"));
            let headers = [("Authorization", token.as_str())];
            let reply = register(&api, &unique("scope"), &headers).await;
            match scope {
                "cmd:product:register" | "cmd:product:*" | "cmd:*" => assert_eq!(reply.status, 200),
                _ => is_forbidden(&reply, "cmd:product:register"),
            }
            let document = api.document("product", "none", &headers).await;
            let list = api.list("product", json!({}), &headers).await;
            match scope {
                "qry:product" | "qry:*" => assert_eq!((document.status, list.status), (404, 200)),
                _ => {
                    is_forbidden(&document, "qry:product");
                    is_forbidden(&list, "qry:product");
                }
            }
            if let Api::Http(http) = &api {
                let metrics = http.get("/metrics", &headers).await;
                match scope {
                    "ops:read" | "ops:write" => assert_eq!(metrics.status, 200),
                    _ => is_forbidden(&metrics, "ops:read"),
                }
                // A stream that is allowed goes on and on.
                if !["qry:sales", "qry:*"].contains(&scope) {
                    is_forbidden(&http.get("/views/sales/live", &headers).await, "qry:sales");
                }
            }
        }
    }
}

/// Nothing is looked at of what nobody may send.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_found_out_before_anything_else() {
    let world = World::start(&[]);
    let signed = world.token("qry:product");
    for api in world.both().await {
        // All of it is wrong: the names, the id, the headers, the body.
        let wrong = [("If-Match", "x"), ("Content-Type", "text/plain")];
        for (aggregate, id, command) in [("product", "a", "register"), ("no", "a", "x")] {
            let reply = api
                .command_with(aggregate, id, command, json!([]), &wrong)
                .await;
            is_unauthenticated(&reply);
        }
        let reply = api
            .command_with(
                "product",
                "a",
                "register",
                json!([]),
                &[wrong[0], ("Authorization", &signed)],
            )
            .await;
        is_forbidden(&reply, "cmd:product:register");
        let unfresh = [("Headwater-Min-Position", "x")];
        is_unauthenticated(&api.document("no", "a", &unfresh).await);
        is_unauthenticated(&api.list("product", json!({"no": 1}), &unfresh).await);
        for nonsense in ["Bearer a.b.c", "Basic dTpw", "Bearer", "a"] {
            let headers = [("Authorization", nonsense)];
            is_unauthenticated(&api.document("product", "a", &headers).await);
            is_unauthenticated(&register(&api, "a", &headers).await);
        }
        let twice = [
            ("Authorization", signed.as_str()),
            ("authorization", signed.as_str()),
        ];
        let reply = api.document("product", "a", &twice).await;
        assert_eq!(reply.problem(400, "malformed")["field"], "Authorization");
        let reply = register(&api, "a", &twice).await;
        assert_eq!(reply.problem(400, "malformed")["field"], "Authorization");
        let huge = bearer(&"a".repeat(9 * 1024));
        is_unauthenticated(
            &api.document("product", "a", &[("Authorization", &huge)])
                .await,
        );
    }
    let http = world.service.http();
    for path in ["/views/product/live", "/views/product/a/live", "/metrics"] {
        is_unauthenticated(&http.get(path, &[]).await);
    }
    // How it is may be asked by who has no token, and so may what there is.
    for path in ["/healthz", "/readyz", "/openapi.json", "/docs/", "/"] {
        assert_eq!(http.get(path, &[]).await.status, 200, "{path}");
    }
}

/// A body that nobody may send is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_is_answered_before_its_body_is_there() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::start(&[]);
    let address = world.service.http_url().replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /commands/product/a/register HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    let reading = stream.read_exact(&mut answer);
    tokio::time::timeout(crate::harness::poll::DEADLINE, reading)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_token_may_what_is_said_for_them() {
    let world = World::start(&[
        "--anonymous-scopes",
        "qry:product,cmd:product:register,staff",
    ]);
    let may_else = world.token("qry:sales");
    for api in world.both().await {
        let sku = unique("anonymous");
        let accepted = register(&api, &sku, &[]).await.expect(200);
        let position = accepted.header("Headwater-Position").to_owned();
        let fresh = [("Headwater-Min-Position", position.as_str())];
        api.document("product", &sku, &fresh).await.expect(200);
        is_unauthenticated(&api.list("sales", json!({}), &[]).await);
        // A token is what counts, where there is one: the more so when it is not taken.
        let headers = [("Authorization", may_else.as_str())];
        is_forbidden(
            &api.document("product", &sku, &headers).await,
            "qry:product",
        );
        let headers = [("Authorization", "Bearer a.b.c")];
        is_unauthenticated(&api.document("product", &sku, &headers).await);
    }
    let description = world
        .service
        .http()
        .get("/openapi.json", &[])
        .await
        .expect(200)
        .json();
    assert_eq!(
        description["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
    let operation = |path: &str, method: &str| description["paths"][path][method].clone();
    let register = operation("/commands/product/{id}/register", "post");
    assert_eq!(
        register["security"],
        json!([{"bearer": ["cmd:product:register"]}, {}])
    );
    for (path, scope) in [
        ("/views/sales", "qry:sales"),
        ("/views/sales/{id}", "qry:sales"),
        ("/views/sales/live", "qry:sales"),
        ("/metrics", "ops:read"),
    ] {
        let operation = operation(path, "get");
        assert_eq!(
            operation["security"],
            json!([{"bearer": [scope]}]),
            "{path}"
        );
        assert!(operation["responses"]["403"].is_object(), "{path}");
    }
    assert!(operation("/healthz", "get")["security"].is_null());
}

/// Who may give a command on one replica may give it wherever its home is.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_passed_on_keeps_who_gives_it() {
    let world = World::start(&["--roles", "command"]);
    let more = [
        &world.flags[..6],
        &["--roles".to_owned(), "command".to_owned()],
    ]
    .concat();
    let gateway = [
        &world.flags[..6],
        &["--roles".to_owned(), "projector,gateway".to_owned()],
    ]
    .concat();
    let _home = serve(&world.nats, &more);
    let gateway = serve(&world.nats, &gateway);
    let apis = [
        Api::Http(gateway.http()),
        Api::Nats(NatsApi::connect(&world.nats.url()).await),
    ];
    let (may, may_not) = (
        world.token("cmd:product:* staff"),
        world.token("cmd:stock:* staff"),
    );
    eventually("the replicas know each other", || async {
        let headers = [("Authorization", may.as_str())];
        (register(&apis[0], &unique("known"), &headers).await.status == 200).then_some(())
    })
    .await;
    for api in &apis {
        for _ in 0..20 {
            let headers = [("Authorization", may.as_str())];
            register(api, &unique("passed"), &headers).await.expect(200);
            let headers = [("Authorization", may_not.as_str())];
            is_forbidden(
                &register(api, &unique("passed"), &headers).await,
                "cmd:product:register",
            );
        }
    }
    // What replicas tell each other means nothing from a client.
    let told = "eyJzdWIiOiJhIiwic2NvcGVzIjpbImNtZDoqIl19";
    for api in &apis {
        is_unauthenticated(&register(api, &unique("told"), &[("Headwater-Caller", told)]).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_show_a_token_too_and_what_they_do_is_on_record() {
    let world = World::start(&["--log", "warn,headwater::audit=info"]);
    let views = |action: &[&str], scopes: Option<&str>| {
        let mut command = headwater(["views"]);
        command.args(action).args(["--nats", &world.nats.url()]);
        if let Some(scopes) = scopes {
            command.env("HEADWATER_TOKEN", world.signer.token("operator", scopes));
        }
        let output = run(&mut command);
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    for (action, scopes, code, said) in [
        (&["list"][..], None, 1, "say who asks"),
        (
            &["list"],
            Some("qry:* cmd:*"),
            1,
            "it takes the scope ops:read",
        ),
        (&["list"], Some("ops:read"), 0, "product"),
        (
            &["rebuild", "product"],
            Some("ops:read"),
            1,
            "it takes the scope ops:write",
        ),
        (&["rebuild", "product"], None, 1, "say who asks"),
        (&["rebuild", "product"], Some("ops:write"), 0, ""),
    ] {
        let (ended, told) = views(action, scopes);
        assert_eq!(ended, Some(code), "{action:?} {scopes:?}: {told}");
        assert!(told.contains(said), "{action:?} {scopes:?}: {told}");
    }
    let said = world.service.transcript();
    let audit: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("headwater::audit"))
        .collect();
    let has = |words: &[&str]| {
        audit
            .iter()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    assert!(has(&["operator", "rebuild", "product"]), "{audit:?}");
    assert!(has(&["operator", "rebuild", "forbidden"]), "{audit:?}");
    assert!(
        has(&["nobody known", "rebuild", "unauthenticated"]),
        "{audit:?}"
    );
}

/// A stream is no way around the end of a token.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let world = World::start(&["--auth-leeway-seconds", "0"]);
    let token = bearer(&world.signer.lasting("m-1", "qry:product", 3));
    let headers = [("Authorization", token.as_str())];
    let http = world.service.http();
    let mut live = Live::open(&http, "/views/product/live", &headers).await;
    let event = live.next().await;
    assert_eq!(event.kind, "problem");
    assert_eq!(event.data["code"], "unauthenticated");
    assert!(live.try_next().await.is_none());
    is_unauthenticated(&http.get("/views/product/a", &headers).await);
}

#[test]
fn what_others_can_reach_is_not_served_openly_by_accident() {
    for (command, address) in [
        ("serve", "0.0.0.0:0"),
        ("serve", "[::]:0"),
        ("dev", "0.0.0.0:0"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let mut command = headwater([command, "--http-addr", address]);
        let output = run(command.arg("--data-dir").arg(temp.path().join("data")));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("--auth-jwks") && said.contains("--insecure"),
            "{said}"
        );
    }
    let nats = Nats::start();
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let mut command = headwater(["serve", "--http-addr", "0.0.0.0:0", "--insecure"]);
    command
        .args(["--nats", &nats.url(), "--data-dir"])
        .arg(&folder);
    Service::start_until(command, folder, temp, "http://0.0.0.0:");
}

/// No token gets to where others can read it, and no name but of who is refused, in the audit.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_written_anywhere() {
    let world = World::start(&["--log", "trace"]);
    let token = world.signer.token("canary-subject", "qry:product cmd:*");
    let headers =
        [("Authorization", &*bearer(&token))].map(|(name, value)| (name, value.to_owned()));
    let headers = [(headers[0].0, headers[0].1.as_str())];
    let wrong = format!("{token}x");
    let wrong = [("Authorization", &*bearer(&wrong))].map(|(name, value)| (name, value.to_owned()));
    let wrong = [(wrong[0].0, wrong[0].1.as_str())];
    let mut answers = String::new();
    for api in world.both().await {
        for headers in [&headers, &wrong] {
            let replies = [
                register(&api, &unique("canary"), headers).await,
                api.document("product", "a", headers).await,
                api.list("product", json!({}), headers).await,
                api.list("sales", json!({}), headers).await,
            ];
            answers.push_str(&format!("{replies:?}"));
        }
    }
    let (_, signature) = token.rsplit_once('.').unwrap();
    let transcript = world.service.transcript();
    assert!(!transcript.contains(signature));
    // Who was refused is what the audit is for.
    let logged = transcript
        .lines()
        .filter(|line| !line.contains("headwater::audit"));
    for said in [answers, logged.collect()] {
        assert!(!said.contains(signature) && !said.contains("canary-subject"));
    }
    assert!(world.folder.path().exists());
}

/// The same key and the same body do not make somebody else's command one's own.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_told_again_to_whom_it_was_told_first() {
    let world = World::start(&[]);
    let token = |subject: &str| bearer(&world.signer.token(subject, "cmd:* staff"));
    let (ann, bob) = (token("ann"), token("bob"));
    for (api, other) in world
        .both()
        .await
        .iter()
        .zip(world.both().await.iter().rev())
    {
        let sku = unique("theirs");
        let give = async |api: &Api, who: &str, key: &str| {
            let headers = [("Authorization", who), ("Idempotency-Key", key)];
            register(api, &sku, &headers).await
        };
        let first = give(api, &ann, "k-1").await.expect(200).json();
        assert_eq!(first["replayed"], false);
        // Over the other surface as well, and with another of her tokens.
        for (api, who) in [(api, &ann), (other, &ann), (other, &token("ann"))] {
            let again = give(api, who, "k-1").await.expect(200).json();
            assert_eq!(
                (&again["replayed"], &again["position"]),
                (&json!(true), &first["position"])
            );
        }
        for api in [api, other] {
            let problem = give(api, &bob, "k-1").await.problem(409, "key_reused");
            assert_eq!(problem["field"], "Idempotency-Key");
            assert!(problem.get("version").is_none(), "{problem}");
        }
    }
    // Nor does it after a crash, when the log alone knows.
    let sku = unique("theirs");
    let headers = |who| [("Authorization", who), ("Idempotency-Key", "k-2")];
    let [http, _] = world.both().await;
    register(&http, &sku, &headers(&ann)).await.expect(200);
    world.service.signal("KILL");
    let service = serve(&world.nats, &world.flags);
    let http = Api::Http(service.http());
    eventually("the other one is refused", || async {
        let reply = register(&http, &sku, &headers(&bob)).await;
        (reply.status != 503).then(|| reply.problem(409, "key_reused"))
    })
    .await;
    let again = register(&http, &sku, &headers(&ann)).await.expect(200);
    assert_eq!(again.json()["replayed"], true);
}
