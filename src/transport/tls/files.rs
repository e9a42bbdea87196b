//! The files of a set, each read once, so that what is looked at is what comes into force. They are
//! small, and changes are found by their content: a symbolic link that is swapped, as Kubernetes
//! does with secrets, tells no watcher, and a time of change can stay the same.

use super::error::Error;
use super::{Clients, Settings};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// The largest file that is read, in bytes: more than any chain or bundle is.
const FILE_MAX: u64 = 4 << 20;
/// The largest revocation list.
const CRL_MAX: u64 = 64 << 20;

/// What stands for the content of all files of a set.
pub(super) type Digest = [u8; 32];

/// What the files of a set hold.
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_cas: Vec<u8>,
    crls: Vec<Vec<u8>>,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readable {
    ByAnyone,
    ByItsOwnerOnly,
}

impl Files {
    pub(super) fn read(settings: &Settings) -> Result<Self, Error> {
        let open = |file: &Path| read(file, FILE_MAX, Readable::ByAnyone);
        let certificate = open(&settings.certificate_file)?;
        let key = read(&settings.key_file, FILE_MAX, Readable::ByItsOwnerOnly)?;
        let (mut client_cas, mut crls) = (Vec::new(), Vec::new());
        if let Some(Clients { ca_file, crl_files, .. }) = &settings.clients {
            client_cas = open(ca_file)?;
            for file in crl_files {
                crls.push(read(file, CRL_MAX, Readable::ByAnyone)?);
            }
        }
        Ok(Self { certificate, key: Zeroizing::new(key), client_cas, crls })
    }

    pub(super) fn digest(&self) -> Digest {
        let parts = [&self.certificate, &*self.key, &self.client_cas];
        let mut hash = Sha256::new();
        for part in parts.into_iter().chain(&self.crls) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// The server's chain, at least one.
    pub(super) fn chain(&self, file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
        certificates(&self.certificate, file)
    }

    /// The server's key.
    pub(super) fn key(&self, file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => Error::new(
                file,
                "holds no private key that can be read: it must be PEM (BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or BEGIN RSA PRIVATE KEY), and not encrypted",
            ),
            error => Error::new(file, format!("is not PEM as it should be: {error}")),
        })
    }

    /// Who vouches for clients, at least one.
    pub(super) fn client_cas(&self, file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
        certificates(&self.client_cas, file)
    }

    /// The revocation lists, each with its file.
    pub(super) fn crls<'a>(
        &self,
        files: &'a [std::path::PathBuf],
    ) -> Result<Vec<(&'a Path, CertificateRevocationListDer<'static>)>, Error> {
        let mut lists = Vec::new();
        for (file, bytes) in files.iter().zip(&self.crls) {
            // DER begins with a SEQUENCE; PEM cannot begin so.
            if bytes.first() == Some(&0x30) {
                lists.push((file.as_path(), bytes.clone().into()));
                continue;
            }
            let before = lists.len();
            for list in CertificateRevocationListDer::pem_slice_iter(bytes) {
                let list = list.map_err(|error| {
                    Error::new(file, format!("is not PEM as it should be: {error}"))
                })?;
                lists.push((file.as_path(), list));
            }
            if lists.len() == before {
                return Err(Error::new(
                    file,
                    "holds no revocation list (PEM: BEGIN X509 CRL, or DER)",
                ));
            }
        }
        Ok(lists)
    }
}

fn certificates(bytes: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::new(file, format!("is not PEM as it should be: {error}")))?;
    if certificates.is_empty() {
        return Err(Error::new(file, "holds no certificate (PEM: BEGIN CERTIFICATE)"));
    }
    Ok(certificates)
}

fn read(path: &Path, most: u64, readable: Readable) -> Result<Vec<u8>, Error> {
    let cannot = |error| Error::new(path, format!("cannot be read ({error})"));
    // Before it is opened, for opening a pipe waits until somebody writes to it.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(Error::new(path, "must be a regular file"));
    }
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let mode = metadata.mode() & 0o7777;
    if readable == Readable::ByItsOwnerOnly && mode & 0o077 != 0 {
        let what = format!(
            "others than its owner have access to it (mode {mode:04o}): chmod 600 {}",
            path.display()
        );
        return Err(Error::new(path, what));
    }
    // Room for all of it at once, so that no grown-out-of buffer keeps a copy of a key.
    let room = usize::try_from(metadata.len().min(most)).unwrap_or_default() + 1;
    let mut bytes = Vec::with_capacity(room);
    file.take(most + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > most {
        return Err(Error::new(path, format!("is longer than {most} bytes")));
    }
    Ok(bytes)
}
