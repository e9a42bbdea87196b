//! The barrier between those who call a PKCS#11 module and the one who re-initialises it.
//!
//! C_Finalize while another thread is inside the module crashes the process. So every call is made
//! by someone who has [entered](Gate::enter), and C_Finalize by the one who has
//! [shut](Gate::shut) the gate and waited until nobody was inside. Both waits have a deadline. A
//! call that never returns keeps the module from being re-initialised, and keeps everyone else out
//! once, for as long as the first attempt to shut the gate waits: after that the call is known to be
//! stuck, and until it returns the gate stays open.
//!
//! Nobody may enter twice at once on one thread: the second entry would wait for a gate that waits
//! for the first.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    shut: bool,
    /// How often the gate could not be shut.
    failures: u64,
    /// How many of those inside were there when it could not be shut last.
    stuck: usize,
}

/// Proof that its holder is inside; ends when dropped.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    gate: &'a Gate,
    /// [`State::failures`] when it entered.
    failures: u64,
}

/// Proof that nobody is inside and nobody can enter; ends when dropped.
#[derive(Debug)]
pub(super) struct Shut<'a>(&'a Gate);

impl Gate {
    /// Enters as soon as the gate is open; none if it was not until `deadline`.
    pub(super) fn enter(&self, deadline: Instant) -> Option<Entered<'_>> {
        let mut state = self.wait_while(self.lock(), deadline, |state| state.shut)?;
        state.inside += 1;
        Some(Entered { gate: self, failures: state.failures })
    }

    /// Shuts the gate and waits until all have left; if they have not by `deadline`, opens it again
    /// and answers none. Answers none at once, with the gate open, while someone is inside for whom
    /// it has been waited in vain.
    pub(super) fn shut(&self, deadline: Instant) -> Option<Shut<'_>> {
        let mut state = self.wait_while(self.lock(), deadline, |state| state.shut)?;
        if state.stuck > 0 {
            return None;
        }
        state.shut = true;
        drop(state);
        let shut = Shut(self);
        match self.wait_while(self.lock(), deadline, |state| state.inside > 0) {
            Some(empty) => drop(empty),
            None => {
                let mut state = self.lock();
                state.failures += 1;
                state.stuck = state.inside;
                return None;
            }
        }
        Some(shut)
    }

    fn wait_while<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        deadline: Instant,
        blocked: impl Fn(&State) -> bool,
    ) -> Option<MutexGuard<'a, State>> {
        while blocked(&state) {
            let left = deadline.checked_duration_since(Instant::now())?;
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        Some(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.inside = state.inside.saturating_sub(1);
        if self.failures < state.failures {
            state.stuck = state.stuck.saturating_sub(1);
        }
        if state.inside == 0 && state.shut {
            self.gate.changed.notify_all();
        }
    }
}

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.0.lock().shut = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn a_gate_does_not_shut_while_someone_is_inside() {
        let gate = Gate::default();
        let inside = gate.enter(soon());
        assert!(inside.is_some());
        assert!(gate.shut(soon()).is_none());
        drop(inside);
        assert!(gate.shut(soon()).is_some());
    }

    #[test]
    fn nobody_enters_a_shut_gate() {
        let gate = Gate::default();
        let shut = gate.shut(soon());
        assert!(shut.is_some());
        assert!(gate.enter(soon()).is_none());
        drop(shut);
        assert!(gate.enter(soon()).is_some());
    }

    #[test]
    fn a_gate_that_could_not_be_shut_is_open_again() {
        let gate = Gate::default();
        let first = gate.enter(soon());
        assert!(first.is_some());
        assert!(gate.shut(soon()).is_none());
        assert!(gate.enter(soon()).is_some());
    }

    #[test]
    fn a_call_that_hangs_shuts_everyone_out_once() {
        let gate = Gate::default();
        let hung = gate.enter(soon());
        assert!(hung.is_some());
        assert!(gate.shut(soon()).is_none());
        // From now on nobody waits for it, and nobody is kept out meanwhile.
        let later = Instant::now() + Duration::from_secs(60);
        let other = gate.enter(soon());
        assert!(gate.shut(later).is_none());
        assert!(Instant::now() + Duration::from_secs(30) < later, "it did not wait");
        drop(other);
        assert!(gate.shut(later).is_none());
        drop(hung);
        assert!(gate.shut(later).is_some(), "all have returned");
        assert!(gate.enter(soon()).is_some());
    }
}
