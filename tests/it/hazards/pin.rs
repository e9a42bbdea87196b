//! Wrong PINs, and processes that end while they try one: no token is to be locked by either.

use super::{keys, raw, raw_user, signs};
use crate::harness::softhsm::{LABEL, Memory, Outage, PIN, block_on, isolated, module};
use signkeep::backend::pkcs11::{PinState, inspect};
use signkeep::backend::{Backend, Kind};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

fn pin_state() -> PinState {
    let inspection = inspect(&module()).unwrap();
    let mut tokens = inspection.tokens.into_iter();
    tokens.find(|token| token.label == LABEL).unwrap().pin
}

#[test]
fn a_wrong_pin_is_tried_once_across_restarts() {
    isolated("hazards::pin::a_wrong_pin_is_tried_once_across_restarts", |token| {
        token.provision();
        token.write_pin("wrong");
        block_on(async {
            let memory = Arc::new(Memory::default());
            let backend = token.open(&memory).await;
            assert_eq!(backend.probe().await.unwrap_err().kind, Kind::Denied);
            assert_eq!(memory.refusals(), 1);
            assert!(!memory.hashes().concat().contains("wrong"));
            assert_eq!(pin_state(), PinState::CountLow);
            backend.stop().await;

            // A good login clears the mark that a wrong one sets: so the next try would show.
            drop(raw_user(&raw()));
            assert_eq!(pin_state(), PinState::Good);
            for _ in 0..3 {
                let backend = token.open(&memory).await;
                let error = backend.probe().await.unwrap_err();
                assert_eq!(error.kind, Kind::Denied);
                assert!(error.message.contains("doctor --retry-pin"), "{error}");
                assert_eq!(pin_state(), PinState::Good);
                backend.stop().await;
            }
            assert_eq!(memory.refusals(), 1);

            let backend = token.open(&memory).await;
            let error = backend.retry_pin().await.unwrap_err();
            assert_eq!(error.kind, Kind::Denied);
            assert_eq!(memory.refusals(), 2, "an operator may have it tried again");
            assert_eq!(pin_state(), PinState::CountLow);

            token.write_pin(&format!("{PIN}\n"));
            backend.probe().await.unwrap();
            assert!(memory.hashes().is_empty());
            assert_eq!(pin_state(), PinState::Good);
            signs(&backend, &keys(&backend, 1).await[0]).await.unwrap();
        });
    });
}

#[test]
fn no_login_is_tried_while_the_memory_of_refused_pins_is_out() {
    isolated("hazards::pin::no_login_is_tried_while_the_memory_of_refused_pins_is_out", |token| {
        token.provision();
        token.write_pin("wrong");
        block_on(async {
            let memory = Arc::new(Memory::default());
            for outage in [Outage::All, Outage::Writing] {
                memory.fail(outage);
                let backend = token.open(&memory).await;
                let error = backend.probe().await.unwrap_err();
                assert_eq!(error.kind, Kind::Unavailable);
                assert!(error.message.contains("the disk is full"), "{error}");
                assert_eq!(pin_state(), PinState::Good, "no PIN was tried");
                backend.stop().await;
            }
            token.write_pin(PIN);
            let backend = token.open(&memory).await;
            memory.fail(Outage::None);
            backend.probe().await.unwrap();
        });
    });
}

#[test]
fn a_refusal_that_could_not_be_written_costs_one_more_try_and_no_third() {
    const NAME: &str =
        "hazards::pin::a_refusal_that_could_not_be_written_costs_one_more_try_and_no_third";
    isolated(NAME, |token| {
        token.provision();
        token.write_pin("wrong");
        block_on(async {
            let memory = Arc::new(Memory::default());
            memory.fail(Outage::Refusals);
            for state in [PinState::CountLow, PinState::CountLow, PinState::Good] {
                // A good login clears the mark that a wrong one sets: so each try shows.
                drop(raw_user(&raw()));
                let backend = token.open(&memory).await;
                let error = backend.probe().await.unwrap_err();
                assert_eq!(error.kind, Kind::Denied, "{error}");
                assert_eq!(pin_state(), state);
                backend.stop().await;
                memory.fail(Outage::None);
            }
        });
    });
}

#[test]
fn a_good_pin_is_not_held_against_its_owner_after_one_crash_in_a_login() {
    const NAME: &str =
        "hazards::pin::a_good_pin_is_not_held_against_its_owner_after_one_crash_in_a_login";
    isolated(NAME, |token| {
        token.provision();
        block_on(async {
            let memory = Arc::new(Memory::default());
            let start = async || {
                let backend = token.open(&memory).await;
                let result = backend.probe().await.map_err(|error| error.kind);
                backend.stop().await;
                result
            };
            // What a process leaves that ends between the login and what follows it.
            memory.fail(Outage::Forgetting);
            assert_eq!(start().await, Ok(()));
            assert_eq!(memory.hashes().len(), 1);
            memory.fail(Outage::None);
            assert_eq!(start().await, Ok(()));
            assert!(memory.hashes().is_empty(), "the login went well");

            memory.fail(Outage::Forgetting);
            assert_eq!(start().await, Ok(()));
            assert_eq!(start().await, Ok(()));
            assert_eq!(start().await, Err(Kind::Denied), "two crashes count as a refusal");
            memory.fail(Outage::None);
            let backend = token.open(&memory).await;
            backend.retry_pin().await.unwrap();
            assert!(memory.hashes().is_empty());

            // Its own mark does not stop a process that goes on.
            memory.fail(Outage::Forgetting);
            for _ in 0..4 {
                backend.reinitialise().await.unwrap();
            }
        });
    });
}

#[test]
fn a_pin_file_open_to_others_is_refused_until_it_is_closed() {
    isolated("hazards::pin::a_pin_file_open_to_others_is_refused_until_it_is_closed", |token| {
        token.provision();
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(token.pin_file(), mode(0o644)).unwrap();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let error = backend.probe().await.unwrap_err();
            assert_eq!(error.kind, Kind::Denied);
            assert!(error.message.contains("chmod 600"), "{error}");
            std::fs::set_permissions(token.pin_file(), mode(0o600)).unwrap();
            backend.probe().await.unwrap();
        });
    });
}
