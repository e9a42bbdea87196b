//! `kind = "pkcs11"`: a token, by the module that leads to it.

use super::super::document::Error;
use super::{At, Section};
use std::path::PathBuf;
use std::thread;

/// More threads than that never help a token, and each holds a session.
const WORKERS_MAX: usize = 256;

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

pub(super) fn build(section: Section, queue: usize, at: &At<'_>) -> Result<Pkcs11, Error> {
    let wrong = |field: &str, what: &str| Err(at.wrong(field, what));
    let Some(module) = section.module else {
        return wrong("module", "is missing: the shared library that came with the HSM");
    };
    let Some(pin_file) = section.pin_file else {
        return wrong("pin_file", "is missing: the file that holds the user PIN");
    };
    let token = match (section.token_label, section.token_serial) {
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
    let workers = section.workers.unwrap_or_else(cores);
    if !(1..=WORKERS_MAX).contains(&workers) {
        return wrong("workers", "must be between 1 and 256");
    }
    Ok(Pkcs11 {
        module: at.directory.join(module),
        token,
        pin_file: at.directory.join(pin_file),
        workers,
        queue,
    })
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}
