//! The command line: one file a command.
//!
//! `dev`, `serve`, `doctor` and `audit` work on this machine; all other verbs speak gRPC to a running
//! service and decide nothing themselves. Results go to standard output, everything else to
//! standard error, so that a program can read the former.

mod anew;
mod audit;
mod client;
mod configuration;
mod consent;
mod dev;
mod doctor;
mod failure;
mod jwks;
mod key_sets;
mod keys;
mod message;
mod output;
mod random;
mod serve;
mod sign;

pub use dev::softhsm_module;
pub use failure::{Exit, Failure};

use clap::{CommandFactory, Parser, Subcommand};
use std::io;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed; the message says why, and what to do
  2  the command line is wrong
  3  the service cannot be reached

Environment:
  SIGNKEEP_SERVER, SIGNKEEP_HTTP_URL, SIGNKEEP_CONFIG  as --server, --http-url, --config
  SIGNKEEP_<SECTION>__<SETTING>                        settings, see `signkeep config defaults`
  NO_COLOR                                             no colours";

/// A signing-key service: private keys in an HSM, signatures over gRPC, a JWKS over HTTP.
#[derive(Debug, Parser)]
#[command(name = "signkeep", version, after_help = EXIT_CODES, max_term_width = 100)]
#[command(propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a complete service on SoftHSM in ./.signkeep, with nothing to configure.
    Dev(dev::Args),
    /// Run the service.
    Serve(serve::Args),
    /// Find out what is wrong and how to mend it.
    Doctor(doctor::Args),
    /// Create, look at and change key sets.
    #[command(subcommand)]
    KeySets(key_sets::Command),
    /// Look at keys, rotate, revoke, roll back.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Sign bytes.
    Sign(sign::SignArgs),
    /// Sign claims; prints a JWT.
    SignJwt(sign::SignJwtArgs),
    /// Print the JWKS as verifiers see it, over HTTP.
    Jwks(jwks::Args),
    /// Look at the record of what was done, verify it, take it elsewhere.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Check a configuration file, compare it with the service.
    #[command(subcommand)]
    Config(configuration::Command),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print();
            let wrong = error.use_stderr() || printed.is_err();
            return if wrong { Exit::Usage } else { Exit::Done }.into();
        }
    };
    match run(cli.command) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            failure.print();
            failure.exit.into()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(args) => dev::run(args),
        Command::Serve(args) => serve::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::KeySets(command) => client::block_on(key_sets::run(command)),
        Command::Keys(command) => client::block_on(keys::run(command)),
        Command::Sign(args) => client::block_on(sign::sign(args)),
        Command::SignJwt(args) => client::block_on(sign::sign_jwt(args)),
        Command::Jwks(args) => client::block_on(jwks::run(args)),
        Command::Audit(command) => audit::run(command),
        Command::Config(command) => configuration::run(command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "signkeep", &mut io::stdout());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
