//! What PKCS#11 modules do to those who trust them, each met on SoftHSM. Where a hazard can be shown
//! without the backend, the test shows it first, so that it fails when it no longer tests anything.

mod objects;
mod pin;

use crate::contract::backend::{key_ref, material, message, order, soon, verifies};
use crate::harness::softhsm::{
    LABEL, Memory, PIN, Softhsm, block_on, eventually, isolated, module,
};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Answer, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use futures_util::future::join_all;
use secrecy::SecretString;
use signkeep::backend::pkcs11::{
    PinState, Pkcs11Backend, Provisioned, Settings, TokenSelector, inspect, provision,
};
use signkeep::backend::{Backend, KeyRef, Kind, Material, Outcome};
use signkeep::key::{Algorithm, Curve, KeySpec, RsaBits};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const P256: KeySpec = KeySpec::Ec(Curve::P256);
const P256_OID: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

fn raw() -> Pkcs11 {
    let pkcs11 = Pkcs11::new(module()).unwrap();
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Answer::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => pkcs11,
        Err(error) => panic!("{error}"),
    }
}

/// A session of the test's own, not logged in.
fn raw_session(pkcs11: &Pkcs11) -> Session {
    let slots = pkcs11.get_slots_with_token().unwrap();
    let labelled = |slot: &cryptoki::slot::Slot| {
        let token = pkcs11.get_token_info(*slot).unwrap();
        token.label() == LABEL
    };
    let slot = slots.into_iter().find(labelled).unwrap();
    pkcs11.open_rw_session(slot).unwrap()
}

fn raw_user(pkcs11: &Pkcs11) -> Session {
    let session = raw_session(pkcs11);
    match session.login(UserType::User, Some(&SecretString::from(PIN))) {
        Ok(()) | Err(Answer::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
        Err(error) => panic!("{error}"),
    }
}

fn raw_find(session: &Session, class: ObjectClass, number: u8) -> Vec<ObjectHandle> {
    let id = material(number).as_bytes().to_vec();
    session.find_objects(&[Attribute::Class(class), Attribute::Id(id)]).unwrap()
}

/// Generates P-256 keys under the ids 1 to `count`.
async fn keys(backend: &Pkcs11Backend, count: u8) -> Vec<Arc<KeyRef>> {
    let mut keys = Vec::new();
    for number in 1..=count {
        let made = backend.generate(&order(number, P256)).await.unwrap();
        keys.push(key_ref(number, Algorithm::Es256, &made));
    }
    keys
}

async fn signs(backend: &Pkcs11Backend, key: &Arc<KeyRef>) -> Result<(), Kind> {
    let signature = match backend.sign(key, message(), soon()).await {
        Ok(signature) => signature,
        Err(error) => return Err(error.kind),
    };
    assert!(verifies(key.algorithm, &key.public, &signature));
    Ok(())
}

#[test]
fn a_handle_of_before_a_re_initialisation_never_signs_with_another_key() {
    isolated(
        "hazards::a_handle_of_before_a_re_initialisation_never_signs_with_another_key",
        |token| {
            token.provision();
            block_on(async {
                let backend = token.open(&Arc::default()).await;
                let keys = keys(&backend, 6).await;
                backend.stop().await;
                drop(backend);

                // The module itself signs with key 2 under the handle that was key 1's.
                let pkcs11 = raw();
                pkcs11.clone().finalize().unwrap();
                let pkcs11 = raw();
                let session = raw_user(&pkcs11);
                let stale = raw_find(&session, ObjectClass::PRIVATE_KEY, 1)[0];
                drop(session);
                pkcs11.clone().finalize().unwrap();
                let pkcs11 = raw();
                let session = raw_user(&pkcs11);
                let other = raw_find(&session, ObjectClass::PRIVATE_KEY, 2)[0];
                assert_eq!(stale, other, "SoftHSM gives handles out anew");
                let digest = Algorithm::Es256.digest().unwrap();
                let digest = digest.of(b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9");
                let signature = session.sign(&Mechanism::Ecdsa, stale, &digest).unwrap();
                assert!(verifies(Algorithm::Es256, &keys[1].public, &signature));
                drop(session);

                // The backend finds each key again, in whatever order.
                let backend = token.open(&Arc::default()).await;
                for key in &keys {
                    signs(&backend, key).await.unwrap();
                }
                for round in 0..6 {
                    backend.reinitialise().await.unwrap();
                    for step in 0..keys.len() {
                        signs(&backend, &keys[(round * 5 + step * 5) % 6]).await.unwrap();
                    }
                }
            });
        },
    );
}

#[test]
fn re_initialising_while_eight_threads_sign_crashes_nothing_and_loses_nothing() {
    isolated(
        "hazards::re_initialising_while_eight_threads_sign_crashes_nothing_and_loses_nothing",
        |token| {
            token.provision();
            block_on(async {
                let settings = Settings { workers: 8, ..token.settings() };
                let memory = Arc::new(Memory::default());
                let backend = Arc::new(Pkcs11Backend::open(settings, memory).await.unwrap());
                let keys = keys(&backend, 4).await;
                let done = Arc::new(AtomicBool::new(false));
                let mut signers = Vec::new();
                for number in 0..8 {
                    let key = Arc::clone(&keys[number % 4]);
                    let (backend, done) = (Arc::clone(&backend), Arc::clone(&done));
                    signers.push(tokio::spawn(async move {
                        let mut count = 0;
                        while !done.load(Ordering::Relaxed) {
                            signs(&backend, &key).await.unwrap();
                            count += 1;
                        }
                        count
                    }));
                }
                for _ in 0..50 {
                    backend.reinitialise().await.unwrap();
                }
                done.store(true, Ordering::Relaxed);
                for signer in signers {
                    assert!(signer.await.unwrap() > 0);
                }
            });
        },
    );
}

#[test]
fn a_session_closed_late_closes_no_other_session() {
    isolated("hazards::a_session_closed_late_closes_no_other_session", |token| {
        token.provision();
        block_on(async {
            let first = token.open(&Arc::default()).await;
            let second = token.open(&Arc::default()).await;
            let keys = keys(&first, 2).await;
            for backend in [&first, &second] {
                signs(backend, &keys[0]).await.unwrap();
            }
            first.reinitialise().await.unwrap();
            // Nothing of the old generation is left to be closed late.
            assert_eq!(second.sessions_open(), 0);
            signs(&second, &keys[0]).await.unwrap();
            let open = second.sessions_open();
            assert!(open >= 2, "an anchor and a signer");
            first.stop().await;
            assert_eq!(first.sessions_open(), 0);
            drop(first);
            assert_eq!(second.sessions_open(), open);
            // With the PIN out of reach, a session that had been closed would show.
            std::fs::remove_file(token.pin_file()).unwrap();
            for key in &keys {
                signs(&second, key).await.unwrap();
            }
        });
    });
}

#[test]
fn the_login_survives_every_session_but_the_anchor() {
    isolated("hazards::the_login_survives_every_session_but_the_anchor", |token| {
        token.provision();
        block_on(async {
            let first = token.open(&Arc::default()).await;
            let second = token.open(&Arc::default()).await;
            let keys = keys(&first, 1).await;
            std::fs::remove_file(token.pin_file()).unwrap();
            first.stop().await;
            signs(&second, &keys[0]).await.unwrap();
            second.stop().await;
            assert_eq!(first.sessions_open() + second.sessions_open(), 0);
            // With the last session the login ended.
            let state = raw_session(&raw()).get_session_info().unwrap();
            assert!(matches!(state.session_state(), SessionState::RwPublic));
        });
    });
}

#[test]
fn a_failed_signature_leaves_nothing_active_for_the_next() {
    const NAME: &str = "hazards::a_failed_signature_leaves_nothing_active_for_the_next";
    isolated(NAME, |token| {
        if token.role() == "destroyer" {
            return destroy_key_1(token);
        }
        token.provision();
        block_on(async {
            let settings = Settings { workers: 1, ..token.settings() };
            let backend = Pkcs11Backend::open(settings, Arc::<Memory>::default()).await.unwrap();
            let keys = keys(&backend, 2).await;
            for key in &keys {
                signs(&backend, key).await.unwrap();
            }
            {
                // What an operation left active does to a session.
                let pkcs11 = raw();
                let session = raw_user(&pkcs11);
                let private = raw_find(&session, ObjectClass::PRIVATE_KEY, 2)[0];
                session.sign_init(&Mechanism::Ecdsa, private).unwrap();
                let again = session.sign_init(&Mechanism::Ecdsa, private);
                assert!(matches!(again, Err(Answer::Pkcs11(RvError::OperationActive, _))));
            }
            token.elsewhere(NAME, "destroyer");
            for _ in 0..3 {
                assert!(signs(&backend, &keys[0]).await.is_err());
                signs(&backend, &keys[1]).await.unwrap();
            }
        });
    });
}

#[test]
fn a_key_that_another_process_destroys_is_not_found_and_the_others_sign_on() {
    const NAME: &str =
        "hazards::a_key_that_another_process_destroys_is_not_found_and_the_others_sign_on";
    isolated(NAME, |token| {
        if token.role() == "destroyer" {
            return destroy_key_1(token);
        }
        token.provision();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let keys = keys(&backend, 2).await;
            for key in &keys {
                signs(&backend, key).await.unwrap();
            }
            token.elsewhere(NAME, "destroyer");
            eventually("the key is known to be gone", async || {
                match signs(&backend, &keys[0]).await {
                    Err(Kind::NotFound) => true,
                    // It may not be called lost before the token was re-initialised.
                    Err(Kind::Unavailable) => false,
                    other => panic!("{other:?}"),
                }
            })
            .await;
            signs(&backend, &keys[1]).await.unwrap();
            backend.probe().await.unwrap();
            assert_eq!(backend.find(material(1), P256).await.unwrap(), None);
        });
    });
}

fn destroy_key_1(token: &Softhsm) {
    block_on(async {
        let backend = token.open(&Arc::default()).await;
        assert!(backend.find(material(1), P256).await.unwrap().is_some());
        backend.destroy(material(1), None).await.unwrap();
        backend.stop().await;
    });
}

#[test]
fn a_token_that_vanishes_is_unavailable_and_heals_when_it_is_back() {
    isolated("hazards::a_token_that_vanishes_is_unavailable_and_heals_when_it_is_back", |token| {
        token.provision();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let keys = keys(&backend, 2).await;
            signs(&backend, &keys[0]).await.unwrap();
            let away = token.tokens().with_extension("away");
            std::fs::rename(token.tokens(), &away).unwrap();

            // Never "not found": the key was there, so the token is what is missing.
            for key in keys.iter().chain(&keys) {
                assert_eq!(signs(&backend, key).await, Err(Kind::Unavailable));
            }
            eventually("the probe says so", async || match backend.probe().await {
                Ok(()) => false,
                Err(error) => error.kind == Kind::Unavailable,
            })
            .await;
            let error = backend.generate(&order(3, P256)).await.unwrap_err();
            assert_eq!(error.kind, Kind::Unavailable);
            let error = backend.find(material(1), P256).await.unwrap_err();
            assert_eq!(error.kind, Kind::Unavailable);
            let error = backend.destroy(material(1), None).await.unwrap_err();
            assert_eq!(error.kind, Kind::Unavailable);

            std::fs::rename(&away, token.tokens()).unwrap();
            eventually("the token is back", async || backend.probe().await.is_ok()).await;
            assert!(backend.find(material(1), P256).await.unwrap().is_some());
            signs(&backend, &keys[1]).await.unwrap();
        });
    });
}

#[test]
fn a_token_that_vanishes_unnoticed_is_noticed_by_the_probe() {
    isolated("hazards::a_token_that_vanishes_unnoticed_is_noticed_by_the_probe", |token| {
        token.provision();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let keys = keys(&backend, 1).await;
            signs(&backend, &keys[0]).await.unwrap();
            backend.probe().await.unwrap();
            let away = token.tokens().with_extension("away");
            std::fs::rename(token.tokens(), &away).unwrap();
            eventually("the probe notices", async || backend.probe().await.is_err()).await;
            std::fs::rename(&away, token.tokens()).unwrap();
            eventually("the probe recovers", async || backend.probe().await.is_ok()).await;
            signs(&backend, &keys[0]).await.unwrap();
        });
    });
}

#[test]
fn a_token_that_is_not_there_at_the_start_is_found_when_it_comes() {
    const NAME: &str = "hazards::a_token_that_is_not_there_at_the_start_is_found_when_it_comes";
    isolated(NAME, |token| {
        if token.role() == "provisioner" {
            return token.provision();
        }
        token.write_pin(PIN);
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let error = backend.probe().await.unwrap_err();
            assert_eq!(error.kind, Kind::Unavailable);
            assert!(error.message.contains(LABEL), "{error}");
            token.elsewhere(NAME, "provisioner");
            eventually("the token is found", async || backend.probe().await.is_ok()).await;
            signs(&backend, &keys(&backend, 1).await[0]).await.unwrap();
        });
    });
}

#[test]
fn a_private_key_can_sign_and_nothing_else() {
    isolated("hazards::a_private_key_can_sign_and_nothing_else", |token| {
        token.provision();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let specs = [P256, KeySpec::Ed25519, KeySpec::Rsa(RsaBits::B2048)];
            for (number, spec) in (1..).zip(specs) {
                backend.generate(&order(number, spec)).await.unwrap();
                let pkcs11 = raw();
                let session = raw_user(&pkcs11);
                let private = raw_find(&session, ObjectClass::PRIVATE_KEY, number)[0];
                let wanted = [
                    Attribute::Token(true),
                    Attribute::Private(true),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(false),
                    Attribute::NeverExtractable(true),
                    Attribute::AlwaysSensitive(true),
                    Attribute::Modifiable(false),
                    Attribute::Sign(true),
                    Attribute::SignRecover(false),
                    Attribute::Decrypt(false),
                    Attribute::Unwrap(false),
                    Attribute::Derive(false),
                    Attribute::Label(b"signkeep:payments".to_vec()),
                    Attribute::Id(material(number).as_bytes().to_vec()),
                ];
                let types: Vec<AttributeType> =
                    wanted.iter().map(Attribute::attribute_type).collect();
                assert_eq!(session.get_attributes(private, &types).unwrap(), wanted);
            }
        });
    });
}

#[test]
fn a_full_queue_is_throttled_at_once_and_a_probe_still_gets_through() {
    isolated(
        "hazards::a_full_queue_is_throttled_at_once_and_a_probe_still_gets_through",
        |token| {
            token.provision();
            block_on(async {
                let settings = Settings { workers: 1, queue_max: 1, ..token.settings() };
                let memory = Arc::new(Memory::default());
                let backend = Pkcs11Backend::open(settings, memory).await.unwrap();
                let spec = KeySpec::Rsa(RsaBits::B4096);
                let made: Material = backend.generate(&order(1, spec)).await.unwrap();
                let key = key_ref(1, Algorithm::Rs256, &made);
                let many = join_all((0..200).map(|_| signs(&backend, &key)));
                let (answers, probe) = tokio::join!(many, backend.probe());
                probe.unwrap();
                let throttled = answers.iter().filter(|answer| **answer == Err(Kind::Throttled));
                assert!(throttled.count() > 0);
                assert!(answers.iter().any(Result::is_ok));
                let other =
                    |answer: &Result<(), Kind>| !matches!(answer, Ok(()) | Err(Kind::Throttled));
                assert!(!answers.iter().any(other));
                assert_eq!((backend.queue_depth(), backend.workers_busy()), (0, 0));
            });
        },
    );
}

#[test]
fn a_signature_that_waits_past_its_deadline_is_late() {
    isolated("hazards::a_signature_that_waits_past_its_deadline_is_late", |token| {
        token.provision();
        block_on(async {
            let settings = Settings { workers: 1, queue_max: 1000, ..token.settings() };
            let memory = Arc::new(Memory::default());
            let backend = Pkcs11Backend::open(settings, memory).await.unwrap();
            let spec = KeySpec::Rsa(RsaBits::B4096);
            let made = backend.generate(&order(1, spec)).await.unwrap();
            let key = key_ref(1, Algorithm::Rs256, &made);
            // 500 signatures of some milliseconds each do not fit into 100 ms.
            let deadline = Instant::now() + Duration::from_millis(100);
            let many = (0..500).map(|_| backend.sign(&key, message(), deadline));
            let answers = join_all(many).await;
            assert!(deadline.elapsed() < Duration::from_secs(5), "nobody waited on");
            let late = answers.iter().filter_map(|answer| answer.as_ref().err());
            let kinds: Vec<Kind> = late.map(|error| error.kind).collect();
            assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == Kind::Late));
            signs(&backend, &key).await.unwrap();
        });
    });
}

#[test]
fn a_second_of_two_tokens_of_one_label_is_asked_for_by_serial() {
    isolated("hazards::a_second_of_two_tokens_of_one_label_is_asked_for_by_serial", |token| {
        token.provision();
        let pkcs11 = raw();
        let so_pin = SecretString::from("0815-officer");
        let free = pkcs11.get_slots_with_token().unwrap().into_iter().find(|slot| {
            let info = pkcs11.get_token_info(*slot).unwrap();
            !info.token_initialized()
        });
        pkcs11.init_token(free.unwrap(), &so_pin, LABEL).unwrap();
        let inspection = inspect(&module()).unwrap();
        let ready = |report: &&signkeep::backend::pkcs11::TokenReport| {
            report.label == LABEL && report.pin == PinState::Good
        };
        let serial = inspection.tokens.iter().find(ready).unwrap().serial.clone();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let error = backend.probe().await.unwrap_err();
            assert_eq!(error.kind, Kind::Inconsistent);
            assert!(error.message.contains("serial number"), "{error}");
            let settings = Settings { token: TokenSelector::Serial(serial), ..token.settings() };
            let memory = Arc::new(Memory::default());
            let backend = Pkcs11Backend::open(settings, memory).await.unwrap();
            backend.probe().await.unwrap();
        });
    });
}

#[test]
fn a_module_that_cannot_be_loaded_is_an_error_at_once() {
    isolated("hazards::a_module_that_cannot_be_loaded_is_an_error_at_once", |token| {
        block_on(async {
            token.write_pin(PIN);
            let open = async |settings: Settings| {
                let memory = Arc::new(Memory::default());
                Pkcs11Backend::open(settings, memory).await.unwrap_err()
            };
            let missing =
                Settings { module: "/nonexistent/libpkcs11.so".into(), ..token.settings() };
            assert_eq!(open(missing).await.field, "module");
            let no_library = Settings { module: token.pin_file(), ..token.settings() };
            let error = open(no_library).await;
            assert_eq!(error.field, "module");
            assert!(error.message.contains("not a PKCS#11 library"), "{error}");
            let no_workers = Settings { workers: 0, ..token.settings() };
            assert_eq!(open(no_workers).await.field, "workers");
        });
    });
}

#[test]
fn provisioning_twice_leaves_the_token_as_it_is() {
    isolated("hazards::provisioning_twice_leaves_the_token_as_it_is", |token| {
        let make = |pin: &str| {
            let (so_pin, pin) = (SecretString::from("0815-officer"), SecretString::from(pin));
            provision(&module(), LABEL, &so_pin, &pin).unwrap()
        };
        assert_eq!(make(PIN), Provisioned::Made);
        token.write_pin(PIN);
        assert_eq!(make("another PIN"), Provisioned::Existed);
        block_on(async {
            token.open(&Arc::default()).await.probe().await.unwrap();
        });
        let inspection = inspect(&module()).unwrap();
        let tokens: Vec<_> =
            inspection.tokens.iter().filter(|token| token.is_initialised).collect();
        assert_eq!(tokens.len(), 1);
        assert_eq!(tokens[0].algorithms.len(), Algorithm::ALL.len());
        assert!(tokens[0].algorithms.iter().all(|(_, missing)| missing.is_none()));
        assert_eq!(inspection.manufacturer, "SoftHSM");
    });
}

#[test]
fn a_failed_generation_says_whether_something_may_have_been_made() {
    isolated("hazards::a_failed_generation_says_whether_something_may_have_been_made", |token| {
        token.provision();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            keys(&backend, 1).await;
            let error = backend.generate(&order(1, P256)).await.unwrap_err();
            assert_eq!(error.outcome, Outcome::Nothing);
            let away = token.tokens().with_extension("away");
            std::fs::rename(token.tokens(), &away).unwrap();
            let error = backend.generate(&order(2, P256)).await.unwrap_err();
            assert_eq!((error.kind, error.outcome), (Kind::Unavailable, Outcome::Unknown));
        });
    });
}

#[test]
fn a_key_that_always_fails_disturbs_no_other() {
    isolated("hazards::a_key_that_always_fails_disturbs_no_other", |token| {
        token.provision();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let good = keys(&backend, 1).await.remove(0);
            // Its public half is like another's; its private half is of no known curve, which SoftHSM
            // notices when it is to sign.
            let pkcs11 = raw();
            let session = raw_user(&pkcs11);
            let public = raw_find(&session, ObjectClass::PUBLIC_KEY, 1)[0];
            let point =
                session.get_attributes(public, &[AttributeType::EcPoint]).unwrap().remove(0);
            let shared = |curve: &[u8]| {
                [
                    Attribute::KeyType(KeyType::EC),
                    Attribute::Token(true),
                    Attribute::Id(material(2).as_bytes().to_vec()),
                    Attribute::Label(b"signkeep:payments".to_vec()),
                    Attribute::EcParams(curve.to_vec()),
                ]
            };
            let mut template = vec![Attribute::Class(ObjectClass::PUBLIC_KEY), point];
            template.extend(shared(&P256_OID));
            session.create_object(&template).unwrap();
            let mut template = vec![
                Attribute::Class(ObjectClass::PRIVATE_KEY),
                Attribute::Private(true),
                Attribute::Sign(true),
                Attribute::Value(vec![1; 32]),
            ];
            template.extend(shared(&[0x06, 0x01, 0x2a]));
            session.create_object(&template).unwrap();
            let bad = Arc::new(KeyRef { material: material(2), ..(*good).clone() });
            drop(session);

            let refused = async || {
                let error = backend.sign(&bad, message(), soon()).await.unwrap_err();
                assert_eq!(error.kind, Kind::Unavailable, "{error}");
                error.message.contains("even after it was re-initialised")
            };
            eventually("the key is known to be what is wrong", refused).await;
            // A re-initialisation would close this session.
            let witness = raw_session(&pkcs11);
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(4) {
                refused().await;
                signs(&backend, &good).await.unwrap();
            }
            witness.get_session_info().unwrap();
        });
    });
}
