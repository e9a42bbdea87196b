//! The other end of one connection, and who that was found to be.
//!
//! A certificate is read once for each connection and not for each call, unless other rules come
//! into force in between.

use super::caller::{self, Caller, Unknown};
use super::certificate::NameKind;
use crate::transport::Peer;
use arc_swap::ArcSwapOption;
use std::sync::Arc;

/// The other end of one connection.
#[derive(Debug)]
pub struct Visitor {
    peer: Arc<Peer>,
    seen: ArcSwapOption<Seen>,
}

/// Who it was under one state of the rules.
#[derive(Debug)]
struct Seen {
    rules: u64,
    caller: Caller,
}

impl Visitor {
    /// Somebody at the other end of `peer`.
    pub fn new(peer: Arc<Peer>) -> Self {
        Self { peer, seen: ArcSwapOption::empty() }
    }

    /// The connection's other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        caller::is_local(&self.peer)
    }

    /// Who it is by what the connection alone shows, under the rules of that number.
    pub(super) fn caller(&self, rules: u64, kinds: &[NameKind]) -> Result<Caller, Unknown> {
        let seen = self.seen.load();
        if let Some(seen) = seen.as_ref().filter(|seen| seen.rules == rules) {
            return Ok(seen.caller.clone());
        }
        let caller = Caller::of(&self.peer, kinds)?;
        self.seen.store(Some(Arc::new(Seen { rules, caller: caller.clone() })));
        Ok(caller)
    }
}

impl From<Peer> for Visitor {
    fn from(peer: Peer) -> Self {
        Self::new(Arc::new(peer))
    }
}
