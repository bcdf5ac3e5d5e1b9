//! HTTP over TLS: the certificate that is shown, and its renewal while requests go on.

use crate::harness::{
    certificates::Authority,
    nats::Nats,
    poll::eventually,
    service::{Service, headwater, run},
};
use async_nats::rustls::{
    self, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use http_client::{Certificate, Client, RequestBuilder};
use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};
use tempfile::TempDir;

/// How many clients ask on while the certificate is renewed.
const CLIENTS: usize = 4;

/// A folder with the certificates of an authority, and the files that a replica shows.
struct World {
    folder: TempDir,
    authority: Authority,
    files: [PathBuf; 2],
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "authority");
        let files = authority.sign("shown");
        Self {
            folder,
            authority,
            files,
        }
    }

    fn flags(&self) -> [&str; 4] {
        let [certificate, key] = &self.files;
        let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
        ["--tls-cert", certificate, "--tls-key", key]
    }

    fn serve(&self, nats: &Nats, more: &[&str]) -> Service {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path().join("data");
        let mut command = headwater(["serve", "--http-addr", "127.0.0.1:0", "--nats"]);
        command.arg(nats.url()).arg("--data-dir").arg(&data);
        command.args(self.flags()).args(more);
        Service::start_until(command, data, temp, "https://127.0.0.1:")
    }

    fn believed(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A client that believes this authority alone, with a connection of its own for each request.
    fn client(&self, address: &str) -> SecureClient {
        let pem = std::fs::read(self.believed()).unwrap();
        let client = Client::builder()
            .tls_built_in_root_certs(false)
            .add_root_certificate(Certificate::from_pem(&pem).unwrap())
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        SecureClient {
            base: address.to_owned(),
            client,
        }
    }

    /// Puts another certificate in the place of the one that is shown: the key first, so that for a moment they do
    /// not belong together.
    fn renew(&self, name: &str) -> Vec<u8> {
        let [certificate, key] = self.authority.sign(name);
        let [shown, shown_key] = &self.files;
        std::fs::copy(&key, shown_key).unwrap();
        std::fs::copy(&certificate, shown).unwrap();
        first_of(&certificate)
    }
}

/// A client over TLS.
#[derive(Clone)]
struct SecureClient {
    base: String,
    client: Client,
}

impl SecureClient {
    /// The status of an answer.
    async fn get(&self, path: &str) -> u16 {
        let request = self.client.get(format!("{}{path}", self.base));
        answered(request).await
    }

    async fn post(&self, path: &str, body: &'static str) -> u16 {
        let request = self.client.post(format!("{}{path}", self.base));
        answered(
            request
                .header("Content-Type", "application/json")
                .body(body),
        )
        .await
    }
}

/// Reads an answer to its end, and panics where there is none.
async fn answered(request: RequestBuilder) -> u16 {
    let response = request.send().await.expect("it is answered");
    let status = response.status().as_u16();
    response.bytes().await.expect("the answer is whole");
    status
}

/// The address of a line that is printed, from `https://` to the port.
fn address(service: &Service, of: &str) -> String {
    service.tells(of);
    let printed = service.output();
    let mut lines = printed.iter().filter(|line| line.contains(of));
    let line = lines.find_map(|line| line.split_once("https://"));
    let (_, rest) = line.unwrap_or_else(|| panic!("{printed:?}"));
    format!("https://{}", rest.trim())
}

fn first_of(file: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(file).unwrap().to_vec()
}

/// The certificate that a server shows.
fn shown(address: &str, believed: &Path) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(believed).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(address.trim_start_matches("https://")).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
    session.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_under_load_and_no_request_fails() {
    let (world, nats) = (World::new(), Nats::start());
    let service = world.serve(&nats, &[]);
    let address = address(&service, "HTTP");
    let client = world.client(&address);
    assert_eq!(client.get("/readyz").await, 200);
    let (going, answered) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let asking: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (going, answered) = (Arc::clone(&going), Arc::clone(&answered));
            let client = client.clone();
            tokio::spawn(async move {
                while going.load(SeqCst) {
                    assert_eq!(client.get("/views/product/none").await, 404);
                    answered.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for round in 0..3 {
        let before = answered.load(SeqCst);
        let new = world.renew(&format!("renewed-{round}"));
        if round == 1 {
            service.signal("HUP");
        }
        let (at, believed) = (address.clone(), world.believed());
        eventually("the new certificate is shown", || {
            let (at, believed, new) = (at.clone(), believed.clone(), new.clone());
            async move {
                let shown = tokio::task::spawn_blocking(move || shown(&at, &believed)).await;
                (shown.unwrap() == new).then_some(())
            }
        })
        .await;
        eventually("requests go on", || async {
            (answered.load(SeqCst) > before + 20).then_some(())
        })
        .await;
    }
    going.store(false, SeqCst);
    for asking in asking {
        asking.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_pair_changes_nothing_and_is_told() {
    let (world, nats) = (World::new(), Nats::start());
    let service = world.serve(&nats, &[]);
    let address = address(&service, "HTTP");
    std::fs::write(&world.files[1], "no key").unwrap();
    eventually("it is told", || async {
        let told = service.transcript();
        told.contains("the new certificate is not taken")
            .then_some(told)
    })
    .await;
    assert!(service.transcript().contains("--tls-key"));
    let client = world.client(&address);
    assert_eq!(client.get("/healthz").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_no_tls_is_not_answered_and_holds_up_nobody() {
    let (world, nats) = (World::new(), Nats::start());
    let service = world.serve(&nats, &["--admin-addr", "127.0.0.1:0"]);
    let (http, admin) = (address(&service, "HTTP"), address(&service, "admin"));
    // One that says nothing at all stays.
    let plain = http.trim_start_matches("https://").to_owned();
    let _silent = TcpStream::connect(&plain).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(&plain).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        // Closed or reset, with what TLS says of it or nothing.
        let _ = stream.read_to_end(&mut answer);
        answer
    })
    .await
    .unwrap();
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    let client = world.client(&http);
    assert_eq!(client.get("/healthz").await, 200);
    let body = r#"{"name": "a", "price": 1, "category": "b"}"#;
    let given = client.post("/commands/product/tls-1/register", body).await;
    assert_eq!(given, 200);
    assert_eq!(world.client(&admin).get("/metrics").await, 200);
}

#[test]
fn files_that_cannot_work_are_refused_before_anything_is_begun() {
    let world = World::new();
    let [certificate, key] = &world.files;
    for (certificate, key, said) in [
        (certificate, certificate, "--tls-key"),
        (key, key, "--tls-cert"),
        (certificate, &world.folder.path().join("none"), "--tls-key"),
    ] {
        let mut command = headwater(["serve", "--tls-cert"]);
        command.arg(certificate).arg("--tls-key").arg(key);
        let output = run(&mut command);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said), "{error}");
    }
    let alone = run(headwater(["serve", "--tls-cert"]).arg(certificate));
    assert_eq!(alone.status.code(), Some(2));
}
