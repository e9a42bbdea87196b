//! `[backends.<name>]`: where private keys live.

use super::document::{Document, Error};
use crate::key::BackendName;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::thread;

/// More threads than that never help a token, and each holds a session.
const WORKERS_MAX: usize = 256;
const QUEUE_MAX: usize = 1 << 20;

/// A PKCS#11 token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11 {
    /// The module, a shared library.
    pub module: PathBuf,
    /// Which of its tokens.
    pub token: Token,
    /// The file that holds the user PIN.
    pub pin_file: PathBuf,
    /// How many sessions sign side by side: 1 to 256.
    pub workers: usize,
    /// How many signatures may wait before more are refused: 1 to 1,048,576.
    pub queue: usize,
}

/// How a token is found. Never by slot number: those change when tokens come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// By CK_TOKEN_INFO.label.
    Label(String),
    /// By CK_TOKEN_INFO.serialNumber.
    Serial(String),
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    kind: Kind,
    module: PathBuf,
    token_label: Option<String>,
    token_serial: Option<String>,
    pin_file: PathBuf,
    workers: Option<usize>,
    queue: Option<usize>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
enum Kind {
    #[serde(rename = "pkcs11")]
    Pkcs11,
}

impl Section {
    pub(super) fn build(
        self,
        document: &Document<'_>,
        name: &BackendName,
        directory: &Path,
    ) -> Result<Pkcs11, Error> {
        let wrong = |field: &str, what: &str| {
            Err(document.wrong(&format!("backends.{name}.{field}"), what))
        };
        let token = match (self.token_label, self.token_serial) {
            (Some(label), None) if (1..=32).contains(&label.len()) => Token::Label(label),
            (Some(_), None) => return wrong("token_label", "must have 1 to 32 bytes"),
            (None, Some(serial)) if (1..=16).contains(&serial.len()) => Token::Serial(serial),
            (None, Some(_)) => return wrong("token_serial", "must have 1 to 16 bytes"),
            (None, None) => {
                return wrong("token_label", "either this or token_serial must say which token");
            }
            (Some(_), Some(_)) => {
                return wrong("token_serial", "stands beside token_label; only one of them may");
            }
        };
        let workers = self.workers.unwrap_or_else(cores);
        if !(1..=WORKERS_MAX).contains(&workers) {
            return wrong("workers", "must be between 1 and 256");
        }
        let queue = self.queue.unwrap_or(1024);
        if !(1..=QUEUE_MAX).contains(&queue) {
            return wrong("queue", "must be between 1 and 1048576");
        }
        Ok(Pkcs11 {
            module: directory.join(self.module),
            token,
            pin_file: directory.join(self.pin_file),
            workers,
            queue,
        })
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}
