//! Whatever the policy, a request that it refuses reaches no backend, and one that it allows is
//! answered.

use super::{Guarded, let_through};
use crate::harness::access::binding;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use signkeep::access::{Action, Binding, Role};

const CALLERS: [&str; 4] = ["a", "b", "ab", ""];
const KEY_SETS: [&str; 2] = ["default", "other"];

/// A binding in terms that need no matching to be understood.
#[derive(Clone, Debug)]
struct Plain {
    /// None: everybody.
    caller: Option<usize>,
    /// None: all of them.
    key_set: Option<usize>,
    role: Role,
}

#[derive(Clone, Debug)]
struct Asked {
    caller: usize,
    key_set: usize,
    jwt: bool,
}

fn plain() -> impl Strategy<Value = Plain> {
    let role = prop::sample::select(&Role::ALL[..]);
    (prop::option::of(0..CALLERS.len()), prop::option::of(0..KEY_SETS.len()), role)
        .prop_map(|(caller, key_set, role)| Plain { caller, key_set, role })
}

fn asked() -> impl Strategy<Value = Asked> {
    (0..CALLERS.len(), 0..KEY_SETS.len(), any::<bool>()).prop_map(|(caller, key_set, jwt)| Asked {
        caller,
        key_set,
        jwt,
    })
}

impl Plain {
    fn bound(&self) -> Binding {
        let caller = match self.caller.map(|at| CALLERS[at]) {
            None => "**".to_owned(),
            Some("") => "anonymous@loopback".to_owned(),
            Some(sub) => format!("jwt:ci:{sub}"),
        };
        binding(&caller, self.key_set.map_or("*", |at| KEY_SETS[at]), &[self.role])
    }

    fn allows(&self, asked: &Asked) -> bool {
        let role = match self.role {
            Role::Signer => true,
            Role::JwtSigner => asked.jwt,
            Role::Viewer | Role::Operator | Role::Admin => false,
        };
        role && self.caller.is_none_or(|caller| caller == asked.caller)
            && self.key_set.is_none_or(|key_set| key_set == asked.key_set)
    }
}

#[test]
fn no_request_that_the_policy_refuses_reaches_a_backend() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let guarded = runtime.block_on(Guarded::by(Vec::new()));
    let mut runner =
        TestRunner::new(Config { cases: 96, failure_persistence: None, ..Config::default() });
    let cases = (prop::collection::vec(plain(), 0..4), prop::collection::vec(asked(), 1..8));
    let outcome = runner.run(&cases, |(bindings, requests)| {
        guarded.rule(bindings.iter().map(Plain::bound).collect());
        for asked in &requests {
            let before = guarded.world.vault.signatures();
            let (caller, key_set) = (CALLERS[asked.caller], KEY_SETS[asked.key_set]);
            let passed = runtime.block_on(async {
                if asked.jwt {
                    let action = Action::SignJwt;
                    let_through(&super::table::ask(&guarded, caller, action, key_set).await)
                } else {
                    let_through(&guarded.sign(caller, key_set).await)
                }
            });
            let reached = guarded.world.vault.signatures() - before;
            let allowed = bindings.iter().any(|binding| binding.allows(asked));
            prop_assert_eq!(passed, allowed, "{:?} by {:?}", asked, bindings);
            prop_assert_eq!(reached, usize::from(allowed));
        }
        Ok(())
    });
    outcome.unwrap();
}
