//! `signkeep doctor`: what is wrong, and how to mend it.
//!
//! Each check is one line. A PIN that the token has refused is not tried again; `--retry-pin` alone
//! forgets it, and tries it once. Since that memory is in the store, a store that is not there yet is made; nothing
//! else is changed.

mod audit;
mod checks;
mod finding;
#[cfg(feature = "aws-kms")]
mod kms;
mod listeners;
mod management;
mod tls;

use super::anew::start_anew_beside;
use super::dev::{CONFIG_NAME, DIRECTORY};
use super::{Failure, client, output};
use crate::config::{self, Config};
use finding::{Finding, Findings};
use std::path::{Path, PathBuf};

/// Find out what is wrong and how to mend it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration; without it, that of `signkeep dev` in ./.signkeep.
    #[arg(long, env = "SIGNKEEP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Try the PIN once more although the token has refused it; stop the service first.
    #[arg(long)]
    retry_pin: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let file = match &args.config {
        Some(file) => file.clone(),
        None => Path::new(DIRECTORY).join(CONFIG_NAME),
    };
    if args.config.is_none() && !file.exists() {
        return Err(Failure::new("there is no configuration to look at")
            .mend("name one with --config, or go where `signkeep dev` was started"));
    }
    start_anew_beside(&file)?;
    let mut findings = Findings::default();
    match Config::load(&file, config::environment()) {
        Err(error) => findings.add(Finding::wrong(
            "configuration",
            error.to_string(),
            "correct it; `signkeep config defaults` prints the manual",
        )),
        Ok(config) => {
            findings.add(Finding::ok("configuration", format!("{} is well", file.display())));
            if config.policy.is_empty() {
                findings.add(Finding::warning(
                    "policy",
                    "there is no [[policy]]: nobody may do anything",
                    "write one; `signkeep config defaults` shows how, `signkeep policy check` what it gives",
                ));
            }
            client::block_on(async {
                let retry = checks::Retry::from_flag(args.retry_pin);
                checks::run(&config, retry, &mut findings).await;
                Ok(())
            })?;
        }
    }
    for line in findings.lines() {
        output::line(&line)?;
    }
    match findings.wrong() {
        0 => Ok(()),
        1 => Err(Failure::new("1 thing is wrong; its line says how to mend it")),
        many => {
            Err(Failure::new(format!("{many} things are wrong; their lines say how to mend them")))
        }
    }
}
