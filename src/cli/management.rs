//! `signkeep management …`: what setting up the API for Auth0's clients takes.

use super::{Failure, output, random};
use crate::app::write_whole;
use crate::management::SecretHash;
use clap::Subcommand;
use secrecy::{ExposeSecret, SecretString};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The most that is read from standard input, in bytes.
const INPUT_MAX: u64 = 4096;

/// Set up the API for clients that were written for Auth0.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the hash of a client's secret, for secret_hash_file; reads the secret from standard
    /// input, or makes one.
    HashSecret {
        /// Make a secret and write it to this file, for its owner alone.
        #[arg(long, value_name = "FILE")]
        new: Option<PathBuf>,
    },
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let Command::HashSecret { new } = command;
    let secret = match new {
        Some(file) => made(file)?,
        None => given()?,
    };
    let hash = SecretHash::of(&secret).map_err(|error| {
        Failure::new(error.to_string()).mend("let --new FILE make a secret that nobody guesses")
    })?;
    output::line(&hash.to_string())
}

/// A new secret, once it is written down.
fn made(file: &Path) -> Result<SecretString, Failure> {
    let shown = file.display();
    if file.exists() {
        let failure = Failure::new(format!("{shown} is there already"));
        return Err(failure.mend("name a file that does not exist yet"));
    }
    let secret = SecretString::from(format!("{}{}", random::hex()?, random::hex()?));
    let line = Zeroizing::new(format!("{}\n", secret.expose_secret()));
    write_whole(file, line.as_bytes())
        .map_err(|error| Failure::new(format!("{shown} cannot be written: {error}")))?;
    Ok(secret)
}

fn given() -> Result<SecretString, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        let failure = Failure::usage("a secret typed in here would stay on the screen");
        return Err(failure
            .mend("pass it on standard input: signkeep management hash-secret < FILE")
            .mend("or let --new FILE make one"));
    }
    let mut text = Zeroizing::new(String::new());
    input
        .take(INPUT_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("standard input cannot be read: {error}")))?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}
