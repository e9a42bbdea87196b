//! Which signatures are recorded where not all of them are.
//!
//! The distance to the next one is drawn at random, so that nobody can time a signature to be
//! passed over; each record says how many signatures it stands for, so the sum is exact.

use super::Signatures;
use std::sync::{Mutex, PoisonError};

pub(super) struct Sampler {
    signatures: Signatures,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Signatures since the last one that was drawn.
    since: u64,
    /// Signatures up to and including the next one that is drawn; nought: not drawn yet.
    left: u64,
}

impl Sampler {
    pub(super) fn new(signatures: Signatures) -> Self {
        Self { signatures, state: Mutex::default() }
    }

    /// How many signatures the record of this one stands for; nought: it is not recorded.
    pub(super) fn draw(&self) -> u64 {
        let one_in = match self.signatures {
            Signatures::All => return 1,
            Signatures::None => return 0,
            Signatures::OneIn(one_in) => u64::from(one_in.get()),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.since += 1;
        if state.left == 0 {
            state.left = distance(one_in);
        }
        state.left -= 1;
        if state.left == 0 { std::mem::take(&mut state.since) } else { 0 }
    }

    /// Takes back a draw whose signature was not made.
    pub(super) fn put_back(&self, stands_for: u64) {
        if !matches!(self.signatures, Signatures::OneIn(_)) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if stands_for == 0 {
            state.since = state.since.saturating_sub(1);
        } else {
            state.since += stands_for - 1;
            state.left = 1;
        }
    }

    /// Signatures since the last one that was drawn.
    pub(super) fn passed_over(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).since
    }
}

/// From 1 to `2 * mean - 1`, each as likely.
fn distance(mean: u64) -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the distance is what it is on average.
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes) % (2 * mean - 1) + 1,
        Err(_) => mean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn one_in(number: u32) -> Sampler {
        Sampler::new(Signatures::OneIn(NonZeroU32::new(number).unwrap()))
    }

    #[test]
    fn what_the_drawn_ones_stand_for_and_what_was_passed_over_is_all_there_was() {
        let sampler = one_in(10);
        let drawn: Vec<u64> = (0..10_000).map(|_| sampler.draw()).filter(|n| *n > 0).collect();
        assert_eq!(drawn.iter().sum::<u64>() + sampler.passed_over(), 10_000);
        assert!((700..1400).contains(&drawn.len()), "{} of 10000 were drawn", drawn.len());
        assert!(drawn.iter().any(|n| *n != drawn[0]), "the distances are drawn, not fixed");
    }

    #[test]
    fn a_signature_that_was_not_made_is_not_counted() {
        let sampler = one_in(4);
        for _ in 0..1000 {
            let stands_for = sampler.draw();
            sampler.put_back(stands_for);
        }
        assert_eq!(sampler.passed_over(), 0);
    }

    #[test]
    fn all_and_none_are_what_they_say() {
        assert!((0..100).all(|_| Sampler::new(Signatures::All).draw() == 1));
        assert!((0..100).all(|_| Sampler::new(Signatures::None).draw() == 0));
        assert!((0..100).all(|_| one_in(1).draw() == 1));
    }
}
