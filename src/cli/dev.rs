//! `signkeep dev`: a complete service on SoftHSM, with nothing to configure.
//!
//! SoftHSM reads its own configuration from the environment when it is loaded. So `dev` makes its
//! directory, starts itself anew with that in the environment, and goes on from there.

mod directory;
mod greeting;

use super::anew::{SOFTHSM2_CONF, start_anew};
use super::{Failure, serve};
use crate::backend::pkcs11;
use crate::config::{self, Config};
use crate::transport::Limits;
use directory::Directory;
use std::env;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub(super) use directory::{CONFIG_NAME, DIRECTORY};

/// The label of the token that `dev` makes.
const TOKEN_LABEL: &str = "signkeep-dev";
/// Where distributions put SoftHSM's module.
const MODULES: [&str; 9] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/local/lib/softhsm/libsofthsm2.so",
];

/// Run a complete service on SoftHSM.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where token, PINs, database and configuration are kept; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    dir: PathBuf,
    /// Where gRPC listens, instead of what the configuration says; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    grpc: Option<SocketAddr>,
    /// Where HTTP listens.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    http: Option<SocketAddr>,
    /// Where metrics listen.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    metrics: Option<SocketAddr>,
    /// Where to write the addresses that are really listened on, as JSON, once the service answers.
    #[arg(long, value_name = "FILE")]
    addresses_file: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let module = softhsm_module()?;
    let directory = Directory::prepare(&args.dir)?;
    let softhsm_conf = directory.softhsm_conf();
    if env::var_os(SOFTHSM2_CONF).as_deref() != Some(softhsm_conf.as_os_str()) {
        return Err(start_anew(&softhsm_conf));
    }
    // Held until the process ends: two services in one directory would write over each other.
    let lock = directory.lock()?;
    let file = directory.config(&module, TOKEN_LABEL, args.http)?;
    let mut config = Config::load(&file, config::environment())?;
    let database = match &config.store {
        config::Store::Sqlite(path) => Some(path.as_path()),
        config::Store::Postgres(_) => None,
    };
    directory.nothing_is_lost(database, || has_token(&module, directory.path()))?;
    let so_pin = directory.so_pin()?;
    let pin = directory.user_pin()?;
    directory.clear_half_made()?;
    pkcs11::provision(&module, TOKEN_LABEL, &so_pin, &pin)
        .map_err(|error| no_token(&error, directory.path()))?;
    directory.mark_provisioned()?;

    let listeners = &mut config.listeners;
    for (wanted, configured, limits) in [
        (args.grpc, &mut listeners.grpc, Limits::GRPC),
        (args.http, &mut listeners.http, Limits::HTTP),
        (args.metrics, &mut listeners.metrics, Limits::HTTP),
    ] {
        if let Some(address) = wanted {
            *configured = vec![config::Listener::plain(address, limits)];
        }
    }
    let served =
        serve::serve(config, &file, args.addresses_file.as_deref(), |addresses, outage| {
            directory.mark_in_use()?;
            greeting::print(addresses, directory.path(), outage.as_deref())
        });
    drop(lock);
    served
}

/// SoftHSM's module: the one that SIGNKEEP_SOFTHSM_MODULE names, else where distributions put it.
pub fn softhsm_module() -> Result<PathBuf, Failure> {
    find_module(env::var_os("SIGNKEEP_SOFTHSM_MODULE").as_deref(), &MODULES)
}

/// The module that is asked for, else the first that there is.
fn find_module(asked: Option<&OsStr>, known: &[&str]) -> Result<PathBuf, Failure> {
    if let Some(asked) = asked {
        let module = PathBuf::from(asked);
        return if module.is_file() {
            Ok(module)
        } else {
            Err(Failure::new(format!(
                "SIGNKEEP_SOFTHSM_MODULE names {}, and there is no such file",
                module.display()
            )))
        };
    }
    known
        .iter()
        .map(Path::new)
        .find(|module| module.is_file())
        .map(Path::to_owned)
        .ok_or_else(|| {
            Failure::new("SoftHSM is not installed: libsofthsm2.so was found nowhere")
                .mend("Debian, Ubuntu: apt-get install softhsm2; Fedora: dnf install softhsm; macOS: brew install softhsm")
                .mend("if it is elsewhere, name the module in SIGNKEEP_SOFTHSM_MODULE")
        })
}

/// Whether the token that `dev` made is there.
fn has_token(module: &Path, directory: &Path) -> Result<bool, Failure> {
    let seen = pkcs11::inspect(module).map_err(|error| no_token(&error, directory))?;
    Ok(seen.tokens.iter().any(|token| token.is_initialised && token.label == TOKEN_LABEL))
}

fn no_token(error: &pkcs11::InspectError, directory: &Path) -> Failure {
    Failure::new(format!("the token cannot be made or read: {error}"))
        .mend(format!("look at {}, or start over with an empty directory", directory.display()))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    config::loopback(text).map_err(|what| format!("it {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_asked_for_must_be_there() {
        let failure =
            find_module(Some(OsStr::new("/nonexistent/module.so")), &MODULES).unwrap_err();
        assert!(failure.what.contains("/nonexistent/module.so"), "{failure:?}");
    }

    #[test]
    fn without_softhsm_it_says_what_to_install() {
        let failure = find_module(None, &["/nonexistent/libsofthsm2.so"]).unwrap_err();
        let mend = failure.mend.join(" ");
        assert!(mend.contains("apt-get install softhsm2") && mend.contains("brew"), "{mend}");
    }

    #[test]
    fn only_loopback_addresses_are_taken() {
        assert!(address("127.0.0.1:0").is_ok());
        assert!(address("0.0.0.0:0").unwrap_err().contains("not a loopback address"));
    }
}
