//! Objects that are not what a search makes them look like: two of one id, half a key, someone
//! else's, or invisible to a session that is logged out.

use super::{P256, P256_OID, keys, raw, raw_find, raw_session, raw_user, signs};
use crate::contract::backend::{key_ref, material, order};
use crate::harness::softhsm::{block_on, isolated};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use signkeep::backend::{Backend, Kind};
use signkeep::key::Algorithm;
use std::collections::HashSet;
use std::sync::Arc;

#[test]
fn two_keys_of_one_id_are_an_error_and_not_a_choice() {
    isolated("hazards::objects::two_keys_of_one_id_are_an_error_and_not_a_choice", |token| {
        token.provision();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let keys = keys(&backend, 2).await;
            let pkcs11 = raw();
            let session = raw_user(&pkcs11);
            let id = || Attribute::Id(material(1).as_bytes().to_vec());
            let p256 = P256_OID.to_vec();
            let ours = || Attribute::Label(b"signkeep:payments".to_vec());
            session
                .generate_key_pair(
                    &Mechanism::EccKeyPairGen,
                    &[Attribute::Token(true), Attribute::EcParams(p256), id(), ours()],
                    &[Attribute::Token(true), Attribute::Sign(true), id(), ours()],
                )
                .unwrap();
            assert_eq!(signs(&backend, &keys[0]).await, Err(Kind::Inconsistent));
            let error = backend.find(material(1), P256).await.unwrap_err();
            assert_eq!(error.kind, Kind::Inconsistent);
            assert!(error.message.contains("there must be one"), "{error}");
            signs(&backend, &keys[1]).await.unwrap();
            backend.destroy(material(1), None).await.unwrap();
            assert_eq!(raw_find(&session, ObjectClass::PRIVATE_KEY, 1), []);
            assert_eq!(raw_find(&session, ObjectClass::PUBLIC_KEY, 1), []);
        });
    });
}

#[test]
fn half_a_key_is_no_key() {
    isolated("hazards::objects::half_a_key_is_no_key", |token| {
        token.provision();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let keys = keys(&backend, 2).await;
            let pkcs11 = raw();
            let session = raw_user(&pkcs11);
            let destroy = |class, number| {
                let object = raw_find(&session, class, number)[0];
                session.destroy_object(object).unwrap();
            };
            // A public key alone is what a crash in the middle of a generation leaves.
            destroy(ObjectClass::PRIVATE_KEY, 1);
            assert_eq!(backend.find(material(1), P256).await.unwrap(), None);
            let made = backend.generate(&order(1, P256)).await.unwrap();
            assert_ne!(made.public, keys[0].public);
            let anew = key_ref(1, Algorithm::Es256, &made);
            signs(&backend, &anew).await.unwrap();

            destroy(ObjectClass::PUBLIC_KEY, 2);
            let error = backend.find(material(2), P256).await.unwrap_err();
            assert_eq!(error.kind, Kind::Inconsistent);
            backend.destroy(material(2), None).await.unwrap();
            assert_eq!(raw_find(&session, ObjectClass::PRIVATE_KEY, 2), []);
        });
    });
}

#[test]
fn a_key_is_whole_or_gone_when_someone_logs_the_process_out() {
    isolated(
        "hazards::objects::a_key_is_whole_or_gone_when_someone_logs_the_process_out",
        |token| {
            token.provision();
            block_on(async {
                let backend = token.open(&Arc::default()).await;
                let keys = keys(&backend, 2).await;
                let pkcs11 = raw();
                let log_out = || raw_session(&pkcs11).logout().unwrap();

                log_out();
                // What a search comes to then: the public half alone.
                let session = raw_session(&pkcs11);
                assert_eq!(raw_find(&session, ObjectClass::PRIVATE_KEY, 1), []);
                assert_eq!(raw_find(&session, ObjectClass::PUBLIC_KEY, 1).len(), 1);
                assert!(backend.find(material(1), P256).await.unwrap().is_some());

                log_out();
                let error = backend.generate(&order(1, P256)).await.unwrap_err();
                assert_eq!(error.kind, Kind::Inconsistent, "{error}");
                assert_eq!(raw_find(&session, ObjectClass::PUBLIC_KEY, 1).len(), 1);

                log_out();
                assert_eq!(backend.list(&HashSet::new()).await.unwrap().len(), 2);
                log_out();
                signs(&backend, &keys[0]).await.unwrap();

                log_out();
                backend.destroy(material(1), None).await.unwrap();
                let session = raw_user(&pkcs11);
                assert_eq!(raw_find(&session, ObjectClass::PRIVATE_KEY, 1), []);
                assert_eq!(raw_find(&session, ObjectClass::PUBLIC_KEY, 1), []);

                // With no way to log in again, nothing is destroyed and nothing is called destroyed.
                std::fs::remove_file(token.pin_file()).unwrap();
                log_out();
                let error = backend.destroy(material(2), None).await.unwrap_err();
                assert_eq!(error.kind, Kind::Denied, "{error}");
                let session = raw_user(&pkcs11);
                assert_eq!(raw_find(&session, ObjectClass::PRIVATE_KEY, 2).len(), 1);
                assert_eq!(raw_find(&session, ObjectClass::PUBLIC_KEY, 2).len(), 1);
            });
        },
    );
}

#[test]
fn a_key_of_someone_else_under_our_id_is_not_destroyed() {
    isolated("hazards::objects::a_key_of_someone_else_under_our_id_is_not_destroyed", |token| {
        token.provision();
        block_on(async {
            let backend = token.open(&Arc::default()).await;
            let pkcs11 = raw();
            let session = raw_user(&pkcs11);
            let id = || Attribute::Id(material(1).as_bytes().to_vec());
            let label = || Attribute::Label(b"payroll".to_vec());
            let p256 = P256_OID.to_vec();
            let (_, private) = session
                .generate_key_pair(
                    &Mechanism::EccKeyPairGen,
                    &[Attribute::Token(true), Attribute::EcParams(p256), id(), label()],
                    &[Attribute::Token(true), Attribute::Sign(true), id(), label()],
                )
                .unwrap();
            let error = backend.destroy(material(1), None).await.unwrap_err();
            assert_eq!(error.kind, Kind::Inconsistent);
            assert!(error.message.contains("signkeep:"), "{error}");
            assert_eq!(raw_find(&session, ObjectClass::PRIVATE_KEY, 1), [private]);

            // Nor is a public key that stands alone, to make room for one of ours.
            session.destroy_object(private).unwrap();
            let error = backend.generate(&order(1, P256)).await.unwrap_err();
            assert_eq!(error.kind, Kind::Inconsistent);
            assert_eq!(raw_find(&session, ObjectClass::PUBLIC_KEY, 1).len(), 1);
        });
    });
}
