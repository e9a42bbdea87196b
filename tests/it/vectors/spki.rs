//! SubjectPublicKeyInfo against aws-lc-rs, which writes and reads its own.

use super::{RFC_7515_A3_X, RFC_7515_A3_Y, RFC_7638_N, RFC_8037_X, ec, ed25519, rsa};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use proptest::prelude::*;
use signkeep::jose::spki::{Error, from_der, to_der, to_pem};
use signkeep::key::Curve;

#[test]
fn what_another_library_writes_is_read_and_written_the_same() {
    let ec = |algorithm| {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        pair.public_key().as_der().unwrap().as_ref().to_vec()
    };
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    for der in [
        ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
        ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
        ec(&ECDSA_P521_SHA512_FIXED_SIGNING),
        Ed25519KeyPair::generate().unwrap().public_key().as_der().unwrap().as_ref().to_vec(),
        rsa.public_key().as_der().unwrap().as_ref().to_vec(),
    ] {
        assert_eq!(to_der(&from_der(&der).unwrap()).unwrap(), der);
    }
}

#[test]
fn pem_is_labelled_public_key_and_ends_its_lines_with_lf() {
    let pem = to_pem(&ed25519(RFC_8037_X)).unwrap();
    assert_eq!(
        pem,
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n"
    );
}

#[test]
fn every_truncation_and_anything_after_the_end_is_refused() {
    for public in
        [rsa(RFC_7638_N), ec(Curve::P256, RFC_7515_A3_X, RFC_7515_A3_Y), ed25519(RFC_8037_X)]
    {
        let der = to_der(&public).unwrap();
        for end in 0..der.len() {
            assert!(from_der(&der[..end]).is_err(), "{public:?} cut at {end}");
        }
        assert!(from_der(&[der, vec![0]].concat()).is_err());
    }
}

#[test]
fn a_curve_or_key_type_that_is_not_offered_is_named_by_its_object_identifier() {
    let mut der = to_der(&ec(Curve::P256, RFC_7515_A3_X, RFC_7515_A3_Y)).unwrap();
    let p256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let at = der.windows(8).position(|window| window == p256).unwrap();
    der[at + 7] = 0x01;
    let refused = from_der(&der).unwrap_err();
    assert!(
        matches!(refused, Error::Unsupported { oid } if oid.to_string() == "1.2.840.10045.3.1.1")
    );

    let mut der = to_der(&ed25519(RFC_8037_X)).unwrap();
    der[8] = 0x71;
    let refused = from_der(&der).unwrap_err();
    assert!(matches!(refused, Error::Unsupported { oid } if oid.to_string() == "1.3.101.113"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic_and_what_it_accepts_it_writes_the_same(
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        which in 0..3,
    ) {
        let public = match which {
            0 => rsa(RFC_7638_N),
            1 => ec(Curve::P256, RFC_7515_A3_X, RFC_7515_A3_Y),
            _ => ed25519(RFC_8037_X),
        };
        let mut der = to_der(&public).unwrap();
        let at = at.index(der.len());
        der[at] = byte;
        if let Ok(read) = from_der(&der) {
            prop_assert_eq!(to_der(&read).unwrap(), der);
        }
    }
}
