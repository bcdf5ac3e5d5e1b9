//! TLS for HTTP: the certificate that is shown to clients, and its renewal.
//!
//! The certificate and its key are two files in PEM. They are looked at again each second, and at once on
//! SIGHUP; a new pair is shown to whoever connects from then on, and nothing is interrupted. A pair that is
//! broken, or of which only one half has been replaced so far, changes nothing: the one before stays, and a
//! line of the log says why.

use sha2::{Digest, Sha256};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    signal::unix::{SignalKind, signal},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
    server::TlsStream,
};
use zeroize::Zeroizing;

/// The pause between two looks at the files.
const EVERY: Duration = Duration::from_secs(1);
/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The certificate of a server, renewed as its files are. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
    looked: Mutex<Looked>,
}

/// The certificate that is shown now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

/// The contents that were found in the files.
struct Looked {
    /// The content of the certificate that is shown.
    shown: Content,
    /// The contents that were found last and are not taken, and whether that was told.
    broken: Option<(Content, bool)>,
}

/// The hash of what the files have in them.
type Content = [u8; 32];

/// The result of a look at the files.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Unchanged,
    Renewed,
    /// Not taken, for this reason.
    Broken(String),
    /// Not taken, as was told before, or is not worth telling yet.
    StillBroken,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificate", &self.0.certificate)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&shown))
    }
}

impl Tls {
    /// Reads a certificate, with those between it and its authority, and its key.
    ///
    /// # Errors
    ///
    /// Returns which file is wrong, and why; nothing of what is in it.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let files = Files::read(certificate, key)?;
        let first = files.certified(&provider)?;
        let shown = Arc::new(Shown(RwLock::new(Arc::new(first))));
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = config
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(Shared {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            provider,
            shown,
            config: Arc::new(config),
            looked: Mutex::new(Looked {
                shown: files.content(),
                broken: None,
            }),
        })))
    }

    /// Renews the certificate as its files are, for as long as it is awaited.
    pub async fn keep(self) {
        let mut hung_up = match signal(SignalKind::hangup()) {
            Ok(hung_up) => Some(hung_up),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP is not listened to; certificates are renewed all the same");
                None
            }
        };
        loop {
            let asked = async {
                match &mut hung_up {
                    Some(hung_up) => hung_up.recv().await.is_some(),
                    None => std::future::pending().await,
                }
            };
            let asked = tokio::select! {
                asked = asked => asked,
                () = tokio::time::sleep(EVERY) => false,
            };
            let tls = self.clone();
            // Files may be on a disk that does not answer.
            let _ = tokio::task::spawn_blocking(move || tls.look(asked)).await;
        }
    }

    /// Shakes hands with a client.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(Arc::clone(&self.0.config))
            .accept(stream)
            .await
    }

    /// Looks at the files, and tells what has come of it; always where it was asked for.
    fn look(&self, asked: bool) {
        let file = self.0.certificate.display();
        match self.0.look(asked) {
            Found::Unchanged if asked => {
                tracing::info!(%file, "the certificate is as it was");
            }
            Found::Unchanged | Found::StillBroken => {}
            Found::Renewed => {
                metrics::counter!("headwater_tls_renewals_total", "outcome" => "renewed")
                    .increment(1);
                tracing::info!(%file, "the certificate is renewed");
            }
            Found::Broken(reason) => {
                metrics::counter!("headwater_tls_renewals_total", "outcome" => "refused")
                    .increment(1);
                tracing::error!(%reason, "the new certificate is not taken; the one before stays");
            }
        }
    }
}

impl Shared {
    fn look(&self, asked: bool) -> Found {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let files = Files::read(&self.certificate, &self.key);
        let content = match &files {
            Ok(files) => files.content(),
            Err(reason) => Sha256::digest(reason).into(),
        };
        if content == looked.shown {
            looked.broken = None;
            return Found::Unchanged;
        }
        match files.and_then(|files| files.certified(&self.provider)) {
            Ok(certified) => {
                let mut shown = (self.shown.0.write()).unwrap_or_else(PoisonError::into_inner);
                *shown = Arc::new(certified);
                looked.shown = content;
                looked.broken = None;
                Found::Renewed
            }
            Err(reason) => {
                // The other half may be about to be written.
                let before = looked.broken.filter(|(broken, _)| *broken == content);
                let tell = asked || before.is_some_and(|(_, told)| !told);
                let told = tell || before.is_some_and(|(_, told)| told);
                looked.broken = Some((content, told));
                match tell {
                    true => Found::Broken(reason),
                    false => Found::StillBroken,
                }
            }
        }
    }
}

/// The contents of the two files.
struct Files<'a> {
    certificate: (&'a Path, Vec<u8>),
    key: (&'a Path, Zeroizing<Vec<u8>>),
}

impl<'a> Files<'a> {
    fn read(certificate: &'a Path, key: &'a Path) -> Result<Self, String> {
        Ok(Self {
            certificate: (certificate, read("--tls-cert", certificate)?),
            key: (key, Zeroizing::new(read("--tls-key", key)?)),
        })
    }

    fn content(&self) -> Content {
        let mut hash = Sha256::new();
        // The length keeps what is in one file from being taken for what is in the other.
        hash.update((self.certificate.1.len() as u64).to_le_bytes());
        hash.update(&self.certificate.1);
        hash.update(&*self.key.1);
        hash.finalize().into()
    }

    fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let (file, bytes) = &self.certificate;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        let chain = chain.map_err(|error| wrong("--tls-cert", file, &error))?;
        if chain.is_empty() {
            return Err(wrong("--tls-cert", file, &"it has no certificate"));
        }
        let (key_file, bytes) = &self.key;
        // What the file holds instead is not for anybody's eyes.
        let key = PrivateKeyDer::from_pem_slice(bytes)
            .map_err(|_| wrong("--tls-key", key_file, &"it has no private key"))?;
        CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| wrong("--tls-cert", file, &error))
    }
}

fn read(flag: &str, file: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let read = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(file)?;
        file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > LARGEST {
            true => Err(io::Error::other("the file is too large")),
            false => Ok(bytes),
        }
    };
    read().map_err(|error| wrong(flag, file, &error))
}

fn wrong(flag: &str, file: &Path, reason: &dyn fmt::Display) -> String {
    format!("{flag} {}: {reason}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};
    use tempfile::TempDir;

    struct Pair {
        folder: TempDir,
    }

    impl Pair {
        fn new() -> Self {
            let pair = Self {
                folder: tempfile::tempdir().unwrap(),
            };
            pair.write("cert", &made().0);
            pair
        }

        fn file(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, content: &str) {
            std::fs::write(self.file(name), content).unwrap();
        }

        fn renew(&self, (certificate, key): &(String, String)) {
            self.write("cert", certificate);
            self.write("key", key);
        }

        fn open(&self) -> Result<Tls, String> {
            Tls::open(&self.file("cert"), &self.file("key"))
        }
    }

    fn made() -> (String, String) {
        let Made { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    fn shown(tls: &Tls) -> Vec<u8> {
        let shown = tls.0.shown.0.read().unwrap();
        shown.cert[0].to_vec()
    }

    #[test]
    fn a_pair_that_cannot_work_is_said_without_its_content() {
        let pair = Pair::new();
        let error = pair.open().unwrap_err();
        assert!(error.starts_with("--tls-key"), "{error}");
        let (certificate, key) = made();
        pair.write("key", &certificate);
        let error = pair.open().unwrap_err();
        assert!(error.contains("it has no private key"), "{error}");
        pair.write("key", &key);
        let error = pair.open().unwrap_err();
        assert!(error.starts_with("--tls-cert"), "of another: {error}");
        pair.write("cert", "");
        let error = pair.open().unwrap_err();
        assert!(error.contains("it has no certificate"), "{error}");
        let secret = key.lines().nth(1).unwrap();
        assert!(!error.contains(secret), "{error}");
        pair.write("cert", &certificate);
        assert!(pair.open().is_ok());
    }

    #[test]
    fn a_new_pair_is_shown_and_a_broken_one_changes_nothing() {
        let pair = Pair::new();
        let (first, second) = (made(), made());
        pair.renew(&first);
        let tls = pair.open().unwrap();
        let before = shown(&tls);
        assert_eq!(tls.0.look(false), Found::Unchanged);
        // One half, as when the other is about to be written.
        pair.write("cert", &second.0);
        assert_eq!(tls.0.look(false), Found::StillBroken);
        assert_eq!(shown(&tls), before);
        let Found::Broken(reason) = tls.0.look(false) else {
            panic!("it stays broken");
        };
        assert!(reason.starts_with("--tls-cert"), "{reason}");
        assert_eq!(tls.0.look(false), Found::StillBroken, "told once");
        assert!(matches!(tls.0.look(true), Found::Broken(_)), "it was asked");
        pair.write("key", &second.1);
        assert_eq!(tls.0.look(false), Found::Renewed);
        let after = shown(&tls);
        assert_ne!(after, before);
        std::fs::remove_file(pair.file("key")).unwrap();
        assert_eq!(tls.0.look(false), Found::StillBroken);
        assert!(matches!(tls.0.look(false), Found::Broken(_)));
        assert_eq!(shown(&tls), after);
        pair.renew(&second);
        assert_eq!(tls.0.look(false), Found::Unchanged);
        pair.renew(&first);
        assert_eq!(tls.0.look(false), Found::Renewed);
        assert_eq!(shown(&tls), before);
    }
}
