//! What a file says of a key set that exists, beside what the service has.

use super::{Seed, words};
use crate::key::Policy;
use std::time::Duration;

/// A key set as the service has it, as far as a file describes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// JWA name.
    pub algorithm: String,
    /// The backend's name.
    pub backend: String,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// How long things last.
    pub policy: Policy,
}

/// One thing that the file and the service say differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The setting.
    pub field: &'static str,
    /// What the file says.
    pub file: String,
    /// What the service has.
    pub service: String,
    /// Whether `config apply` can carry it over.
    pub remedy: Remedy,
}

/// What can be done about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// `config apply` carries it over.
    Apply,
    /// The API does not change it in a key set: mend the file, or create another key set.
    MendTheFile,
}

/// Everything that differs, in the order of the manual.
pub fn differences(seed: &Seed, present: &Present) -> Vec<Difference> {
    let (file, service) = (&seed.policy, &present.policy);
    let never = |span: Option<Duration>| span.map_or_else(|| "not set".to_owned(), words);
    let fixed = Remedy::MendTheFile;
    let applied = Remedy::Apply;
    let settings = [
        ("algorithm", seed.algorithm.name().to_owned(), present.algorithm.clone(), fixed),
        ("backend", seed.backend.to_string(), present.backend.clone(), fixed),
        ("issuer", seed.issuer.to_string(), present.issuer.clone(), fixed),
        (
            "propagation_delay",
            words(file.propagation_delay),
            words(service.propagation_delay),
            applied,
        ),
        ("max_token_ttl", words(file.max_token_ttl), words(service.max_token_ttl), applied),
        ("retention", never(file.retention), never(service.retention), applied),
        ("rotation_period", never(file.rotation_period), never(service.rotation_period), applied),
        ("destroy_after", words(file.destroy_after), words(service.destroy_after), applied),
        (
            "rsa_bits",
            file.rsa_bits.bits().to_string(),
            service.rsa_bits.bits().to_string(),
            applied,
        ),
    ];
    settings
        .into_iter()
        .filter(|(_, file, service, _)| file != service)
        .map(|(field, file, service, remedy)| Difference { field, file, service, remedy })
        .collect()
}
