//! Rules for tests that are not about rules.

use signkeep::access::{Access, Binding, Role, Settings};
use signkeep::clock::SystemClock;
use std::sync::Arc;

/// A binding that gives `callers` these roles on `key_sets`.
pub(crate) fn binding(callers: &str, key_sets: &str, roles: &[Role]) -> Binding {
    Binding {
        callers: vec![callers.parse().unwrap()],
        key_sets: vec![key_sets.parse().unwrap()],
        roles: roles.to_vec(),
        ..Binding::default()
    }
}

/// Rules of these bindings.
pub(crate) fn access(policy: Vec<Binding>) -> Access {
    Access::new(Settings { policy, ..Settings::default() }, Arc::new(SystemClock)).unwrap()
}

/// Whoever comes over loopback may do everything.
pub(crate) fn open() -> Access {
    access(vec![binding("anonymous@loopback", "*", &[Role::Signer, Role::Admin])])
}
