//! The API for Auth0's clients: whether the clients' files can be used, and whether verifiers find
//! under each domain the issuer that its tokens have.

use super::finding::{Finding, Findings};
use crate::config::Config;
use crate::management;

pub(super) fn run(config: &Config, findings: &mut Findings) {
    let Some(settings) = &config.management else {
        return;
    };
    match management::check(settings) {
        Ok(()) => {
            let what = format!("the files of {} clients can be used", settings.clients.len());
            findings.add(Finding::ok("management", what));
        }
        Err(error) => {
            let mend = "write it anew with `signkeep management hash-secret`, or correct the path";
            findings.add(Finding::wrong("management", error.to_string(), mend));
        }
    }
    for (domain, key_set) in &settings.domains {
        let Some(seed) = config.key_sets.get(key_set) else { continue };
        let wanted = format!("https://{domain}/");
        if seed.issuer.as_str() != wanted {
            let what = format!(
                "the tokens of {key_set} have the issuer {}, which verifiers that look under {domain} refuse",
                seed.issuer
            );
            let mend = format!("give {domain} a key set whose issuer is {wanted}");
            findings.add(Finding::warning(format!("domain {domain}"), what, mend));
        }
    }
}
