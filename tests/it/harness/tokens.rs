//! An issuer of tokens, and where it publishes its keys.

use super::{nats::Nats, service::Service};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use rcgen::KeyPair;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "mart";

/// A key that signs tokens.
pub struct Signer {
    key: EncodingKey,
    pub id: String,
}

impl Signer {
    pub fn new(id: &str) -> Self {
        let pem = KeyPair::generate().unwrap().serialize_pem();
        Self {
            key: EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
            id: id.to_owned(),
        }
    }

    fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = self.id.clone().into();
        jwk
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    /// A token of a subject with these scopes, good for ten minutes.
    pub fn token(&self, subject: &str, scopes: &str) -> String {
        self.lasting(subject, scopes, 600)
    }

    /// As [`Signer::token`], good for so many seconds.
    pub fn lasting(&self, subject: &str, scopes: &str, seconds: u64) -> String {
        let exp = now() + seconds;
        self.sign(
            &json!({"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "scope": scopes, "exp": exp}),
        )
    }
}

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The value of the header with this token.
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The set of these keys.
pub fn set(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// The flags of a replica that takes tokens of these keys, which are written to a file.
pub fn flags(keys: &str) -> Vec<String> {
    let flags = [
        "--auth-jwks",
        keys,
        "--auth-issuer",
        ISSUER,
        "--auth-audience",
        AUDIENCE,
    ];
    flags.map(str::to_owned).to_vec()
}

/// A replica that takes tokens of this signer, with these flags more. The folder holds the keys.
pub fn serve(nats: &Nats, signer: &Signer, more: &[&str]) -> (Service, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let flags = flags(&written(folder.path(), signer));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let service = Service::serve(&nats.url(), &[&flags[..], more].concat());
    (service, folder)
}

/// Writes the set of a signer into a folder; returns the file's name.
pub fn written(folder: &Path, signer: &Signer) -> String {
    let file = folder.join("keys.json");
    std::fs::write(&file, set(&[signer])).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Where an issuer publishes its keys. It counts how often it is asked.
pub struct Published {
    pub url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    set: Mutex<String>,
    asked: AtomicUsize,
    unchanged: AtomicUsize,
    away: AtomicBool,
}

impl Published {
    pub fn start(signers: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let state = Arc::<State>::default();
        *state.set.lock().unwrap() = set(signers);
        let serving = Arc::clone(&state);
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serving.answer(stream);
            }
        });
        Self { url, state }
    }

    pub fn publish(&self, signers: &[&Signer]) {
        *self.state.set.lock().unwrap() = set(signers);
    }

    /// Whether it answers with an error.
    pub fn set_away(&self, away: bool) {
        self.state.away.store(away, Ordering::SeqCst);
    }

    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl State {
    fn answer(&self, mut stream: std::net::TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut head = Vec::new();
        let mut chunk = [0; 1024];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut chunk) {
                Ok(read) if read > 0 => head.extend_from_slice(&chunk[..read]),
                _ => return,
            }
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let set = self.set.lock().unwrap().clone();
        let tag = format!("\"{}\"", set.len());
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let (status, body) = if self.away.load(Ordering::SeqCst) {
            ("503 Service Unavailable", "")
        } else if head.contains(&format!("if-none-match: {tag}")) {
            self.unchanged.fetch_add(1, Ordering::SeqCst);
            ("304 Not Modified", "")
        } else {
            ("200 OK", set.as_str())
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\nCache-Control: max-age=3600\r\n\r\n{body}"
        );
        let _ = stream.write_all(answer.as_bytes());
    }
}
