//! What every backend does, whatever it stands on. Where backends differ, each declares how, in
//! [`Subject`], and the clause holds it to that; nothing is skipped.

/// Hands all clauses of the contract to a macro that makes a test of each, for one backend.
macro_rules! every_clause {
    ($on:ident) => {
        $on! {
            signs_by_every_algorithm,
            signs_with_larger_rsa_keys,
            signs_long_messages,
            eddsa_signs_no_digest,
            refuses_a_second_key_of_one_id,
            finds_nothing_where_nothing_is,
            refuses_a_key_of_another_kind,
            destroys_once_and_for_all,
            a_disabled_key_signs_no_more,
            lists_what_it_made,
            refuses_to_sign_with_a_key_other_than_the_one_meant,
            a_deadline_that_has_passed_is_late,
            a_stopped_backend_refuses,
        }
    };
}

#[cfg(feature = "aws-kms")]
mod kms;
mod softhsm;

use crate::harness::eventually;
use aws_lc_rs::signature as verify;
use bytes::Bytes;
use signkeep::backend::{Backend, Error, Input, KeyRef, Kind, Material, Order};
use signkeep::key::{Algorithm, KeySpec, MaterialId, PublicKey, RsaBits};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MESSAGE: &[u8] = b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9";

/// A backend, and all in which it may differ from others.
pub(crate) struct Subject {
    /// The backend.
    pub(crate) backend: Arc<dyn Backend>,
    /// What it is declared not to do.
    pub(crate) lacks: &'static [Algorithm],
    /// The longest message that it signs by EdDSA; none: any.
    pub(crate) eddsa_message_max: Option<usize>,
    /// How long not finding a key proves nothing: until then it is
    /// [`Kind::Unavailable`].
    pub(crate) absence: Duration,
}

/// An id that ends in `number`.
pub(crate) fn material(number: u8) -> MaterialId {
    let mut bytes = [0x5a; 16];
    bytes[15] = number;
    MaterialId::from_bytes(bytes)
}

/// An order for the key set `payments`.
pub(crate) fn order(number: u8, spec: KeySpec) -> Order {
    Order { material: material(number), key_set: "payments".parse().unwrap(), spec }
}

/// A reference to a key that was generated.
pub(crate) fn key_ref(number: u8, algorithm: Algorithm, made: &Material) -> Arc<KeyRef> {
    Arc::new(KeyRef {
        material: material(number),
        object: made.object.clone(),
        algorithm,
        public: made.public.clone(),
    })
}

/// A deadline that a working token keeps.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// [`MESSAGE`] to sign.
pub(crate) fn message() -> Input {
    Input::Message(Bytes::from_static(MESSAGE))
}

/// Whether `signature` is one of [`MESSAGE`], by a library that shares no code with the service.
pub(crate) fn verifies(algorithm: Algorithm, public: &PublicKey, signature: &[u8]) -> bool {
    match public {
        PublicKey::Rsa { n, e } => {
            let parameters = match algorithm {
                Algorithm::Rs256 => &verify::RSA_PKCS1_2048_8192_SHA256,
                Algorithm::Rs384 => &verify::RSA_PKCS1_2048_8192_SHA384,
                Algorithm::Rs512 => &verify::RSA_PKCS1_2048_8192_SHA512,
                Algorithm::Ps256 => &verify::RSA_PSS_2048_8192_SHA256,
                Algorithm::Ps384 => &verify::RSA_PSS_2048_8192_SHA384,
                Algorithm::Ps512 => &verify::RSA_PSS_2048_8192_SHA512,
                other => panic!("{other} is not RSA"),
            };
            verify::RsaPublicKeyComponents { n, e }.verify(parameters, MESSAGE, signature).is_ok()
        }
        PublicKey::Ec { x, y, .. } => {
            let parameters = match algorithm {
                Algorithm::Es256 => &verify::ECDSA_P256_SHA256_FIXED,
                Algorithm::Es384 => &verify::ECDSA_P384_SHA384_FIXED,
                Algorithm::Es512 => &verify::ECDSA_P521_SHA512_FIXED,
                other => panic!("{other} is not ECDSA"),
            };
            let point = [&[4][..], x, y].concat();
            verify::UnparsedPublicKey::new(parameters, point).verify(MESSAGE, signature).is_ok()
        }
        PublicKey::Ed25519(key) => {
            verify::UnparsedPublicKey::new(&verify::ED25519, key).verify(MESSAGE, signature).is_ok()
        }
    }
}

async fn signs_by_every_algorithm(subject: &Subject) {
    let backend = &subject.backend;
    let mut number = 0;
    for algorithm in Algorithm::ALL {
        let spec = algorithm.key_spec(RsaBits::B2048);
        if subject.lacks.contains(&algorithm) {
            let error = backend.supports(algorithm, spec).await.unwrap_err();
            assert_eq!(error.kind, Kind::Unsupported);
            continue;
        }
        backend.supports(algorithm, spec).await.unwrap();
        number += 1;
        let made = backend.generate(&order(number, spec)).await.unwrap();
        assert_eq!(made.public.spec(), Some(spec));
        let key = key_ref(number, algorithm, &made);
        let signature = backend.sign(&key, message(), soon()).await.unwrap();
        assert_eq!(signature.len(), made.public.signature_len(), "{algorithm}");
        assert!(verifies(algorithm, &made.public, &signature), "{algorithm} {spec}");
        if let Some(digest) = algorithm.digest() {
            let digest = Input::Digest(digest.of(MESSAGE).into());
            let signature = backend.sign(&key, digest, soon()).await.unwrap();
            assert!(
                verifies(algorithm, &made.public, &signature),
                "{algorithm} {spec}, from a digest"
            );
        }
        let found = backend.find(material(number), spec).await.unwrap();
        assert_eq!(found, Some(made));
    }
    let listed = backend.list(&HashSet::new()).await.unwrap();
    assert_eq!(listed.len(), usize::from(number));
}

async fn signs_with_larger_rsa_keys(subject: &Subject) {
    let backend = &subject.backend;
    for (number, bits) in [(1, RsaBits::B3072), (2, RsaBits::B4096)] {
        let made = backend.generate(&order(number, KeySpec::Rsa(bits))).await.unwrap();
        for algorithm in [
            Algorithm::Rs256,
            Algorithm::Rs384,
            Algorithm::Rs512,
            Algorithm::Ps256,
            Algorithm::Ps384,
            Algorithm::Ps512,
        ] {
            backend.supports(algorithm, KeySpec::Rsa(bits)).await.unwrap();
            let key = key_ref(number, algorithm, &made);
            let signature = backend.sign(&key, message(), soon()).await.unwrap();
            assert!(verifies(algorithm, &made.public, &signature), "{algorithm}");
        }
    }
}

async fn eddsa_signs_no_digest(subject: &Subject) {
    let backend = &subject.backend;
    let made = backend.generate(&order(1, KeySpec::Ed25519)).await.unwrap();
    let key = key_ref(1, Algorithm::EdDsa, &made);
    let digest = Input::Digest(vec![0; 64].into());
    let error = backend.sign(&key, digest, soon()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported);
}

/// As long as a large token, far beyond what a device takes at once.
async fn signs_long_messages(subject: &Subject) {
    let backend = &subject.backend;
    let long = Bytes::from(vec![b'x'; 48 * 1024]);
    for (number, algorithm) in [(1, Algorithm::Es256), (2, Algorithm::EdDsa)] {
        let spec = algorithm.key_spec(RsaBits::default());
        let made = backend.generate(&order(number, spec)).await.unwrap();
        let key = key_ref(number, algorithm, &made);
        let signed = backend.sign(&key, Input::Message(long.clone()), soon()).await;
        match subject.eddsa_message_max {
            Some(max) if algorithm == Algorithm::EdDsa => {
                let error = signed.unwrap_err();
                assert_eq!(error.kind, Kind::TooLong, "{error}");
                assert!(error.message.contains(&max.to_string()), "{error}");
                let fits = long.slice(..max);
                backend.sign(&key, Input::Message(fits), soon()).await.unwrap();
            }
            _ => assert_eq!(signed.unwrap().len(), made.public.signature_len()),
        }
    }
}

async fn refuses_a_second_key_of_one_id(subject: &Subject) {
    let backend = &subject.backend;
    let spec = Algorithm::Es256.key_spec(RsaBits::default());
    let made = backend.generate(&order(1, spec)).await.unwrap();
    let error = backend.generate(&order(1, spec)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Inconsistent);
    assert_eq!(backend.find(material(1), spec).await.unwrap(), Some(made));
}

async fn finds_nothing_where_nothing_is(subject: &Subject) {
    let backend = &subject.backend;
    let spec = Algorithm::Es256.key_spec(RsaBits::default());
    assert_eq!(absent(subject, async || backend.find(material(9), spec).await).await, None);
    assert_eq!(backend.list(&HashSet::new()).await.unwrap(), []);
}

/// What `ask` answers about a key that is not there, once that can be known: until then it has to
/// say that it cannot.
async fn absent<T>(subject: &Subject, ask: impl AsyncFn() -> Result<T, Error>) -> T {
    let began = Instant::now();
    eventually("absence is certain", subject.absence + Duration::from_secs(30), async || {
        let answer = ask().await;
        if began.elapsed() < subject.absence {
            assert_eq!(answer.err().map(|error| error.kind), Some(Kind::Unavailable));
            return None;
        }
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                assert_eq!(error.kind, Kind::Unavailable, "{error}");
                assert!(!subject.absence.is_zero(), "{error}");
                None
            }
        }
    })
    .await
}

async fn refuses_a_key_of_another_kind(subject: &Subject) {
    let backend = &subject.backend;
    let spec = Algorithm::Es256.key_spec(RsaBits::default());
    backend.generate(&order(1, spec)).await.unwrap();
    let other = Algorithm::Es384.key_spec(RsaBits::default());
    let error = backend.find(material(1), other).await.unwrap_err();
    assert_eq!(error.kind, Kind::Inconsistent);
    let error = backend.find(material(1), KeySpec::Ed25519).await.unwrap_err();
    assert_eq!(error.kind, Kind::Inconsistent);
}

async fn destroys_once_and_for_all(subject: &Subject) {
    let backend = &subject.backend;
    let spec = Algorithm::Es256.key_spec(RsaBits::default());
    let made = backend.generate(&order(1, spec)).await.unwrap();
    backend.generate(&order(2, spec)).await.unwrap();
    let key = key_ref(1, Algorithm::Es256, &made);
    backend.sign(&key, message(), soon()).await.unwrap();
    backend.destroy(material(1), Some(&made.object)).await.unwrap();
    backend.destroy(material(1), Some(&made.object)).await.unwrap();
    absent(subject, async || backend.destroy(material(7), None).await).await;
    assert_eq!(backend.find(material(1), spec).await.unwrap(), None);
    let error = backend.sign(&key, message(), soon()).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert_eq!(backend.list(&HashSet::new()).await.unwrap().len(), 1);
}

async fn a_disabled_key_signs_no_more(subject: &Subject) {
    let backend = &subject.backend;
    let spec = Algorithm::Es256.key_spec(RsaBits::default());
    let made = backend.generate(&order(1, spec)).await.unwrap();
    let key = key_ref(1, Algorithm::Es256, &made);
    backend.sign(&key, message(), soon()).await.unwrap();
    backend.disable(&key).await.unwrap();
    backend.disable(&key).await.unwrap();
    let error = backend.sign(&key, message(), soon()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
}

async fn lists_what_it_made(subject: &Subject) {
    let backend = &subject.backend;
    let spec = Algorithm::Es256.key_spec(RsaBits::default());
    let made = backend.generate(&order(3, spec)).await.unwrap();
    let listed = backend.list(&HashSet::new()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].material, Some(material(3)));
    assert_eq!(listed[0].object, made.object);
    assert_eq!(listed[0].key_set.as_ref().unwrap().as_str(), "payments");
}

async fn refuses_to_sign_with_a_key_other_than_the_one_meant(subject: &Subject) {
    let backend = &subject.backend;
    let spec = Algorithm::Es256.key_spec(RsaBits::default());
    let first = backend.generate(&order(1, spec)).await.unwrap();
    let second = backend.generate(&order(2, spec)).await.unwrap();
    let confused =
        KeyRef { public: second.public, ..(*key_ref(1, Algorithm::Es256, &first)).clone() };
    let confused = Arc::new(confused);
    for _ in 0..2 {
        let error = backend.sign(&confused, message(), soon()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Inconsistent, "{error}");
        let right = key_ref(1, Algorithm::Es256, &first);
        backend.sign(&right, message(), soon()).await.unwrap();
    }
}

async fn a_deadline_that_has_passed_is_late(subject: &Subject) {
    let backend = &subject.backend;
    let spec = Algorithm::Es256.key_spec(RsaBits::default());
    let made = backend.generate(&order(1, spec)).await.unwrap();
    let key = key_ref(1, Algorithm::Es256, &made);
    let error = backend.sign(&key, message(), Instant::now()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Late);
    backend.sign(&key, message(), soon()).await.unwrap();
}

async fn a_stopped_backend_refuses(subject: &Subject) {
    let backend = &subject.backend;
    let spec = Algorithm::Es256.key_spec(RsaBits::default());
    let made = backend.generate(&order(1, spec)).await.unwrap();
    backend.stop().await;
    backend.stop().await;
    let key = key_ref(1, Algorithm::Es256, &made);
    let error = backend.sign(&key, message(), soon()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert_eq!(backend.probe().await.unwrap_err().kind, Kind::Unavailable);
}
