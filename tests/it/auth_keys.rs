//! The keys of an issuer: asked for when they are needed, and no more often than that.

use crate::harness::{
    api::{Api, Http, NatsApi},
    certificates::Authority,
    nats::Nats,
    poll::{DEADLINE, eventually},
    service::{Service, headwater},
    tokens::{self, Published, Signer, bearer},
    unique,
};
use async_nats::rustls::{
    self, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use futures::{StreamExt, stream};
use serde_json::json;
use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

fn serve(nats: &Nats, keys: &Published) -> Service {
    let flags = tokens::flags(&keys.url);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Service::serve(&nats.url(), &flags)
}

async fn status(api: &Api, token: &str) -> u16 {
    let headers = [("Authorization", &*bearer(token))].map(|(name, it)| (name, it.to_owned()));
    let headers = [(headers[0].0, headers[0].1.as_str())];
    api.document("product", "none", &headers).await.status
}

async fn apis(nats: &Nats, service: &Service) -> [Api; 2] {
    [
        Api::Http(service.http()),
        Api::Nats(NatsApi::connect(&nats.url()).await),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_unknown_keys_ask_the_issuer_once_in_ten_seconds() {
    let signer = Signer::new("k-1");
    let keys = Published::start(&[&signer]);
    let nats = Nats::start();
    let service = serve(&nats, &keys);
    let good = signer.token("m-1", "qry:*");
    let [http, over_nats] = apis(&nats, &service).await;
    eventually("the keys are there", || async {
        (status(&http, &good).await == 404).then_some(())
    })
    .await;
    let (begun, before) = (Instant::now(), keys.asked());
    // Ours by all it says, and signed by a key of its own.
    let strangers: Vec<String> = (0..10_000)
        .map(|number| {
            let token = Signer::new("x").token("m-1", "qry:*");
            let (_, rest) = token.split_once('.').unwrap();
            let header = json!({"alg": "ES256", "kid": format!("{number}")}).to_string();
            let header = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, header);
            format!("{header}.{rest}")
        })
        .collect();
    let answers = stream::iter(strangers.iter().enumerate().map(|(number, token)| {
        let api = if number % 2 == 0 { &http } else { &over_nats };
        status(api, token)
    }));
    let answers: Vec<u16> = answers.buffer_unordered(64).collect().await;
    assert!(answers.iter().all(|status| *status == 401), "{answers:?}");
    let most = 1 + begun.elapsed().as_secs() as usize / 10;
    let asked = keys.asked() - before;
    assert!(
        asked <= most,
        "asked {asked} times in {:?}",
        begun.elapsed()
    );
    assert_eq!(status(&http, &good).await, 404);
}

/// From the moment that the issuer publishes a key, no good token is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_under_load_without_a_wrong_refusal() {
    let [old, new] = ["old", "new"].map(Signer::new);
    let keys = Published::start(&[&old]);
    let nats = Nats::start();
    let service = serve(&nats, &keys);
    let [http, over_nats] = apis(&nats, &service).await;
    let known = old.token("m-1", "qry:*");
    eventually("the keys are there", || async {
        (status(&http, &known).await == 404).then_some(())
    })
    .await;
    keys.publish(&[&old, &new]);
    let asked = keys.asked();
    let tokens: Vec<String> = (0..2_000)
        .map(|number| {
            let signer = if number % 3 == 0 { &new } else { &old };
            signer.token(&format!("m-{}", number % 100), "qry:*")
        })
        .collect();
    let answers = stream::iter(tokens.iter().enumerate().map(|(number, token)| {
        let api = if number % 2 == 0 { &http } else { &over_nats };
        status(api, token)
    }));
    let answers: Vec<u16> = answers.buffer_unordered(64).collect().await;
    assert!(answers.iter().all(|status| *status == 404), "{answers:?}");
    assert_eq!(keys.asked(), asked + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_keys_stay_while_the_issuer_is_away() {
    let [signer, stranger] = ["k-1", "k-2"].map(Signer::new);
    let keys = Published::start(&[&signer]);
    keys.set_away(true);
    let nats = Nats::start();
    let service = serve(&nats, &keys);
    let [http, over_nats] = apis(&nats, &service).await;
    let good = signer.token("m-1", "qry:* cmd:* staff");
    // It cannot be told whether it is good.
    for api in [&http, &over_nats] {
        assert_eq!(status(api, &good).await, 503);
        assert_eq!(status(api, "a.b.c").await, 401);
    }
    keys.set_away(false);
    let begun = Instant::now();
    while status(&http, &good).await != 404 {
        assert!(begun.elapsed() < DEADLINE, "the keys are not there");
        tokio::task::yield_now().await;
    }
    keys.set_away(true);
    for api in [&http, &over_nats] {
        assert_eq!(status(api, &stranger.token("m-1", "qry:*")).await, 401);
        assert_eq!(status(api, &good).await, 404);
        let headers = [("Authorization", &*bearer(&good))].map(|(name, it)| (name, it.to_owned()));
        let headers = [(headers[0].0, headers[0].1.as_str())];
        let body = json!({"name": "kept", "price": 1, "category": "fruit"});
        let reply = api
            .command_with("product", &unique("kept"), "register", body, &headers)
            .await;
        assert_eq!(reply.status, 200);
    }
    assert_eq!(
        Http::new(service.http_url())
            .get("/healthz", &[])
            .await
            .status,
        200
    );
}

/// Passes what it is asked over TLS on to an issuer without, with this certificate.
fn over_tls(plain: &Published, [certificate, key]: &[PathBuf; 2]) -> String {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
        .unwrap()
        .collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.unwrap(), key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let issuer = plain.url.clone();
    let issuer = issuer
        .trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    // It ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            // A client that does not believe it is gone.
            let _ = pass_on(StreamOwned::new(session, stream), &issuer);
        }
    });
    format!("https://localhost:{port}/keys")
}

fn pass_on(mut client: StreamOwned<ServerConnection, TcpStream>, issuer: &str) -> io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut chunk)? {
            0 => return Ok(()),
            read => head.extend_from_slice(&chunk[..read]),
        }
    }
    let mut issuer = TcpStream::connect(issuer)?;
    issuer.write_all(&head)?;
    let mut answer = Vec::new();
    issuer.read_to_end(&mut answer)?;
    client.write_all(&answer)?;
    client.conn.send_close_notify();
    client.flush()
}

/// Keys come over https from an issuer whose authority the system believes, and from no other.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_believed_by_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let [believed, other] = ["believed", "other"].map(|name| Authority::new(folder.path(), name));
    let (signer, nats) = (Signer::new("k-1"), Nats::start());
    let published = Published::start(&[&signer]);
    let token = signer.token("m-1", "qry:*");
    for (authority, name, expected) in [(&believed, "good", 404), (&other, "bad", 503)] {
        let keys = over_tls(&published, &authority.sign(name));
        let data = tempfile::tempdir().unwrap();
        let mut command = headwater(["serve", "--http-addr", "127.0.0.1:0", "--nats"]);
        command
            .arg(nats.url())
            .arg("--data-dir")
            .arg(data.path().join("data"));
        command.args(tokens::flags(&keys));
        command.env("SSL_CERT_FILE", folder.path().join("believed.pem"));
        let asked = published.asked();
        let service = Service::start(command, data.path().join("data"), data);
        let api = Api::Http(service.http());
        eventually("it is known whether it is believed", || async {
            (status(&api, &token).await == expected).then_some(())
        })
        .await;
        assert_eq!(published.asked() > asked, expected == 404, "{name}");
    }
}
