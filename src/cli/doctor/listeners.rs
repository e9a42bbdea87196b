//! Whether every port and socket can be had, and what secures it.

use super::finding::{Finding, Findings};
use super::tls;
use crate::config::{Config, Listener};
use crate::transport::Address;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Looks at every listener; those of a service that `runs` are its own.
pub(super) fn run(config: &Config, runs: bool, findings: &mut Findings) {
    for (face, Listener { address, tls, .. }) in config.listeners.all() {
        findings.add(match address {
            Address::Tcp(address) => port(face, *address, runs),
            Address::Unix(path) => socket(face, path, runs),
        });
        if let Some(settings) = tls {
            tls::run(&format!("tls {address} ({face})"), settings, findings);
        }
    }
}

fn port(face: &str, address: SocketAddr, runs: bool) -> Finding {
    let about = format!("port {address} ({face})");
    match TcpListener::bind(address) {
        Ok(_listener) => Finding::ok(about, "free"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && runs => {
            Finding::ok(about, "in use, while the service runs")
        }
        Err(error) => {
            let mend =
                format!("stop what uses it, or choose another address with listeners.{face}");
            Finding::wrong(about, error.to_string(), mend)
        }
    }
}

fn socket(face: &str, path: &Path, runs: bool) -> Finding {
    let about = format!("socket {} ({face})", path.display());
    let elsewhere = format!("remove it, or choose another address with listeners.{face}");
    match path.symlink_metadata() {
        Ok(there) if !there.file_type().is_socket() => {
            Finding::wrong(about, "there is a file that is no socket", elsewhere)
        }
        Ok(_) if runs => Finding::ok(about, "in use, while the service runs"),
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let mend = format!("stop it, or choose another address with listeners.{face}");
            Finding::wrong(about, "another program listens there", mend)
        }
        Ok(_) => Finding::ok(about, "left behind by a service that is gone, and replaced at start"),
        Err(_absent) => match path.parent().map(Path::is_dir) {
            Some(true) => Finding::ok(about, "free"),
            _ => Finding::wrong(
                about,
                "its directory does not exist",
                "make the directory, for the service's user to write to",
            ),
        },
    }
}
