//! Starting this command anew where SoftHSM finds its own configuration.
//!
//! SoftHSM looks for that in the environment only, and a process must not change its environment
//! once it may have threads. So the process replaces itself by the same command with
//! `SOFTHSM2_CONF` set; it stays one process.

use super::Failure;
use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What SoftHSM's configuration is called where `signkeep dev` makes it.
pub(super) const SOFTHSM_CONF_NAME: &str = "softhsm2.conf";

/// The variable that SoftHSM reads.
pub(super) const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";

/// Starts anew if SoftHSM's configuration lies beside the configuration `file` and the environment
/// names no other. Returns only if there is nothing to do, or it fails.
pub(super) fn start_anew_beside(file: &Path) -> Result<(), Failure> {
    let conf = file.canonicalize().map(|file| file.with_file_name(SOFTHSM_CONF_NAME));
    match conf {
        Ok(conf) if conf.is_file() && env::var_os(SOFTHSM2_CONF).is_none() => {
            Err(start_anew(&conf))
        }
        _ => Ok(()),
    }
}

/// Replaces this process by one of the same command that SoftHSM finds `conf` in; returns only if
/// that fails.
pub(super) fn start_anew(conf: &Path) -> Failure {
    let error = match env::current_exe() {
        Ok(program) => {
            Command::new(program).args(env::args_os().skip(1)).env(SOFTHSM2_CONF, conf).exec()
        }
        Err(error) => error,
    };
    Failure::new(format!("signkeep cannot start itself anew: {error}"))
        .mend(format!("start it with {SOFTHSM2_CONF}={} in the environment", conf.display()))
}
