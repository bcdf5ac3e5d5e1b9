//! Whom a connection to NATS believes, and how it proves itself by a certificate.

use async_nats::{
    ConnectOptions,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use std::{fmt, path::PathBuf};

/// The files of TLS. They are read again for every connection, so that certificates can be renewed while
/// the program runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsTls {
    /// The certificates of the authorities that are believed, in PEM; the system's unless given.
    pub ca: Option<PathBuf>,
    /// A certificate, with those between it and its authority, and its key, in PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// True if TLS comes before anything that the server says of itself (`handshake_first`).
    pub first: bool,
}

impl NatsTls {
    /// Looks whether the files are what they should be.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.ca {
            for certificate in certificates("--nats-ca", file)? {
                let added = roots.add(certificate);
                added.map_err(|error| wrong("--nats-ca", file, &error))?;
            }
        }
        if let Some((file, key)) = &self.certificate {
            let chain = certificates("--nats-cert", file)?;
            let read = PrivateKeyDer::from_pem_file(key);
            // What the file holds instead is not for anybody's eyes.
            let private = read.map_err(|_| wrong("--nats-key", key, &"it has no private key"))?;
            ClientConfig::builder()
                .with_root_certificates(roots)
                .with_client_auth_cert(chain, private)
                .map_err(|error| wrong("--nats-cert", file, &error))?;
        }
        Ok(())
    }

    pub(super) fn applied(&self, mut options: ConnectOptions) -> ConnectOptions {
        // Otherwise who is in between could talk the client out of TLS.
        let required = self.first || self.ca.is_some() || self.certificate.is_some();
        if required {
            options = options.require_tls(true);
        }
        if self.first {
            options = options.tls_first();
        }
        if let Some(file) = &self.ca {
            options = options.add_root_certificates(file.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options
    }
}

fn certificates(flag: &str, file: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).map_err(|error| wrong(flag, file, &error))?;
    let read: Result<Vec<_>, _> = read.collect();
    let read = read.map_err(|error| wrong(flag, file, &error))?;
    match read.is_empty() {
        true => Err(wrong(flag, file, &"it has no certificate")),
        false => Ok(read),
    }
}

fn wrong(flag: &str, file: &std::path::Path, reason: &dyn fmt::Display) -> String {
    format!("{flag} {}: {reason}", file.display())
}
