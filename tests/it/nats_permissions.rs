//! Users of NATS by their parts: the whole table on a real server, and a system that runs with it.

use crate::harness::{
    api::Api,
    nats::{DEV, Nats},
    poll::eventually,
    service::{Service, headwater, run},
    unique,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use headwater::permissions::{CLIENT_INBOX, Doing, TABLE, User, allows};
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
};
use tempfile::TempDir;

/// What `headwater nats-config` writes, and a server with it.
fn written() -> (TempDir, Nats) {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("nats");
    let output = run(headwater(["nats-config", "--out"]).arg(&folder));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let config = fs::read_to_string(folder.join("headwater.conf")).unwrap();
    let nats = Nats::start_with(&format!("{DEV}\n{config}"));
    (temp, nats)
}

fn seed(temp: &TempDir, user: &str) -> String {
    let file = temp.path().join("nats").join(format!("{user}.nk"));
    file.to_str().unwrap().to_owned()
}

/// A connection on which each line is sent and answered by itself, so that it is known what was refused.
struct Raw(BufReader<TcpStream>);

impl Raw {
    fn connect(nats: &Nats, seed: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", nats.port())).unwrap();
        let mut raw = Self(BufReader::new(stream));
        let info = raw.line();
        let info: Value = serde_json::from_str(info.strip_prefix("INFO ").unwrap()).unwrap();
        let key = KeyPair::from_seed(fs::read_to_string(seed).unwrap().trim()).unwrap();
        let signature = key
            .sign(info["nonce"].as_str().unwrap().as_bytes())
            .unwrap();
        let connect = json!({
            "verbose": false, "pedantic": false, "lang": "test", "version": "0", "protocol": 1,
            "nkey": key.public_key(), "sig": URL_SAFE_NO_PAD.encode(signature),
        });
        assert!(raw.allows(&format!("CONNECT {connect}")));
        raw
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the server has closed the connection");
        line
    }

    /// Returns whether the server takes something.
    fn allows(&mut self, what: &str) -> bool {
        write!(self.0.get_mut(), "{what}\r\nPING\r\n").unwrap();
        let mut allowed = true;
        loop {
            let line = self.line();
            match line.split_whitespace().next().unwrap_or_default() {
                "PONG" => return allowed,
                "PING" => self.0.get_mut().write_all(b"PONG\r\n").unwrap(),
                "-ERR" => {
                    assert!(line.contains("Permissions Violation"), "{what}: {line}");
                    allowed = false;
                }
                _ => {}
            }
        }
    }
}

/// Subjects of every rule, and some that nobody is to have.
fn subjects() -> BTreeSet<String> {
    let of_rules = TABLE.iter().flat_map(|rule| {
        let filled = |rest: &str| rule.subject.replace('*', "x").replace('>', rest);
        [filled("a"), filled("a.b"), filled("order.o-1.place")]
    });
    let others = [
        "evt",
        "cmd",
        "foo",
        "foo.bar",
        "$SYS.REQ.SERVER.PING",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.PURGE.EVENTS",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.MSG.DELETE.EVENTS",
        "$JS.API.STREAM.SNAPSHOT.EVENTS",
        "$JS.API.STREAM.RESTORE.EVENTS",
        "$JS.API.CONSUMER.CREATE.KV_snapshots.x",
        "$JS.API.STREAM.MSG.GET.KV_snapshots",
        "$JS.API.CONSUMER.DELETE.KV_snapshots.x",
        "$KV.other.x",
        "cmd.order.o-1.confirm",
        "cmd.order.o-1.place.more",
        "cmd.stock.s-1.receive",
        "cmds",
        "cmds.order",
        "cmds.order.place",
        "qry.sales",
        "qry.sales.x",
        "qry.order.o-1.x",
        "_INBOX_other.a",
        "_INBOX.other.a",
        "_R_.a",
        "log.excluded.order.o-1",
        "log.secret",
        "member.r1.x",
        "applied.order.x",
        "evt.order.o-1",
    ];
    of_rules.chain(others.map(str::to_owned)).collect()
}

/// What can be subscribed besides: more than one subject at once.
const WIDE: [&str; 13] = [
    ">",
    "*",
    "_INBOX.>",
    "_INBOX_client.>",
    "cmd.>",
    "cmds.*",
    "evt.>",
    "own.>",
    "qry.>",
    "$JS.>",
    "$SYS.>",
    "member.*",
    "ctl.>",
];

#[test]
fn every_user_may_what_the_table_says_on_a_real_server_and_nothing_else() {
    let (temp, nats) = written();
    let (subjects, mut cells, mut wrong) = (subjects(), 0, Vec::new());
    for (user, parties) in User::names() {
        let mut raw = Raw::connect(&nats, &seed(&temp, &user));
        let mut check = |doing: Doing, subject: &str| {
            let what = match doing {
                Doing::Publish => format!("PUB {subject} 0\r\n"),
                Doing::Subscribe => format!("SUB {subject} 1\r\nUNSUB 1"),
            };
            let expected = allows(&parties, doing, subject);
            cells += 1;
            if raw.allows(&what) != expected {
                wrong.push(format!("{user} {doing:?} {subject}: expected {expected}"));
            }
        };
        for subject in &subjects {
            check(Doing::Publish, subject);
            check(Doing::Subscribe, subject);
        }
        for subject in WIDE {
            check(Doing::Subscribe, subject);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cells >= 400, "{cells}");
}

#[cfg(unix)]
#[test]
fn seeds_are_for_nobody_else_and_stay() {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("nats");
    let write = || run(headwater(["nats-config", "--out"]).arg(&folder));
    assert_eq!(write().status.code(), Some(0));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let all = || {
        let files = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files
            .map(|file| (fs::read_to_string(&file).unwrap(), file))
            .collect();
        files.sort();
        files
    };
    let first = all();
    let is_seed = |file: &Path| file.extension().is_some_and(|kind| kind == "nk");
    let seeds: Vec<&str> = first
        .iter()
        .filter(|(_, file)| is_seed(file))
        .map(|(seed, _)| seed.trim())
        .collect();
    assert_eq!(seeds.len(), User::names().len());
    for (content, file) in &first {
        match is_seed(file) {
            true => assert_eq!(mode(file), 0o600, "{file:?}"),
            false => assert!(seeds.iter().all(|seed| !content.contains(seed))),
        }
    }
    let again = write();
    assert_eq!(all(), first);
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(said.contains("kept") && !said.contains("made"), "{said}");
    assert!(seeds.iter().all(|seed| !said.contains(seed)), "{said}");
    let gateway = folder.join("gateway.nk");
    let before = fs::read_to_string(&gateway).unwrap();
    fs::remove_file(&gateway).unwrap();
    assert_eq!(write().status.code(), Some(0));
    assert_ne!(fs::read_to_string(&gateway).unwrap(), before);
    fs::write(&gateway, "no seed").unwrap();
    let refused = write();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("gateway.nk"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_runs_with_these_users_and_a_client_does_what_it_may() {
    let (temp, nats) = written();
    let operator = seed(&temp, "operator");
    let operate = |arguments: &[&str]| {
        let mut command = headwater(arguments);
        let output = run(command.args(["--nats", &nats.url(), "--nats-nkey", &operator]));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        said
    };
    operate(&["topology", "apply"]);
    operate(&["topology", "verify"]);
    let serve = |user: &str, roles: &str| {
        let seed = seed(&temp, user);
        let flags = [
            "--nats-nkey",
            &seed,
            "--roles",
            roles,
            "--inbox-prefix",
            CLIENT_INBOX,
        ];
        Service::serve(&nats.url(), &flags)
    };
    let command = serve("command", "command");
    let replica = serve("replica", "command,projector,gateway,process");
    let http = replica.http();
    eventually("the replica is ready", || async {
        (http.get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    // Some are decided here, and some passed on.
    let api = Api::Http(http);
    let mut position = String::new();
    let mut skus = Vec::new();
    for _ in 0..20 {
        let sku = unique("permitted");
        let body = json!({"name": "permitted", "price": 1, "category": "fruit"});
        let reply = api
            .command("product", &sku, "register", body)
            .await
            .expect(200);
        reply.header("Headwater-Position").clone_into(&mut position);
        skus.push(sku);
    }
    let fresh = [("Headwater-Min-Position", position.as_str())];
    api.document("product", &skus[0], &fresh).await.expect(200);

    let options = async_nats::ConnectOptions::with_nkey(
        fs::read_to_string(seed(&temp, "client"))
            .unwrap()
            .trim()
            .to_owned(),
    );
    let client = options
        .custom_inbox_prefix(CLIENT_INBOX)
        .connect(nats.url())
        .await
        .unwrap();
    let ask = async |subject: String, body: Value| {
        let reply = client
            .request(subject, body.to_string().into())
            .await
            .unwrap();
        serde_json::from_slice::<Value>(&reply.payload).unwrap()
    };
    let lines = json!([{"sku": skus[0], "quantity": 1, "unit_price": 1}]);
    let order = unique("permitted");
    let body = json!({"member": "m-1", "branch": "gangnam", "lines": lines});
    let placed = ask(format!("cmd.order.{order}.place"), body).await;
    assert_eq!(placed["version"], 1, "{placed}");
    let product = ask(format!("qry.product.{}", skus[0]), json!({})).await;
    assert_eq!(product["id"], skus[0], "{product}");
    // Nobody hears what it may not send.
    client
        .publish(format!("cmd.order.{order}.confirm"), "{}".into())
        .await
        .unwrap();
    client.flush().await.unwrap();

    for action in [
        &["views", "list"][..],
        &["views", "rebuild", "product"],
        &["views", "verify", "product"],
    ] {
        operate(action);
    }
    let shown = operate(&["events", "show", "order", &order]);
    assert!(
        shown.contains("order.placed.v1") && !shown.contains("order.confirmed"),
        "{shown}"
    );
    for service in [&command, &replica] {
        let said = service.transcript();
        assert!(!said.contains("Permissions Violation"), "{said}");
    }
}
