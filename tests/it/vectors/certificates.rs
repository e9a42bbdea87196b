//! Certificates for every algorithm, judged by the `openssl` command.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use jiff::Timestamp;
use signkeep::jose::{jwk, spki};
use signkeep::key::{Algorithm, PublicKey};
use signkeep::x509::certificate::{Draft, Error, Shape};
use signkeep::x509::{bundle, fingerprint, pem};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SERIAL: [u8; 16] = [0xff; 16];

/// A key outside any HSM, to sign certificates with.
enum Pair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    fn generate(algorithm: Algorithm) -> Self {
        let rsa = |encoding| Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), encoding);
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| {
            Self::Ec(EcdsaKeyPair::generate(algorithm).unwrap())
        };
        match algorithm {
            Algorithm::Rs256 => rsa(&RSA_PKCS1_SHA256),
            Algorithm::Rs384 => rsa(&RSA_PKCS1_SHA384),
            Algorithm::Rs512 => rsa(&RSA_PKCS1_SHA512),
            Algorithm::Ps256 => rsa(&RSA_PSS_SHA256),
            Algorithm::Ps384 => rsa(&RSA_PSS_SHA384),
            Algorithm::Ps512 => rsa(&RSA_PSS_SHA512),
            Algorithm::Es256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => ec(&ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDsa => Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
        }
    }

    fn public(&self) -> PublicKey {
        let der = match self {
            Self::Rsa(pair, _) => pair.public_key().as_der(),
            Self::Ec(pair) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
        };
        spki::from_der(der.unwrap().as_ref()).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    fn certificate(&self, algorithm: Algorithm, common_name: &str) -> Vec<u8> {
        let draft = Draft::new(&self.public(), algorithm, common_name, SERIAL, not_before());
        let draft = draft.unwrap();
        let signature = self.sign(draft.to_be_signed());
        draft.finish(&signature).unwrap()
    }
}

fn not_before() -> Timestamp {
    "2026-01-02T03:04:05.678901Z".parse().unwrap()
}

fn openssl(arguments: &[&str]) -> Output {
    Command::new("openssl")
        .args(arguments)
        .output()
        .expect("the openssl command must be installed to run this test")
}

fn text(arguments: &[&str]) -> String {
    let output = openssl(arguments);
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Whether openssl holds the signature for good, a month into the certificate's life.
fn verifies(folder: &Path, certificate: &[u8]) -> bool {
    let path = write(folder, "certificate.pem", pem(certificate));
    let path = path.to_str().unwrap();
    openssl(&[
        "verify",
        "-attime",
        "1770000000",
        "-check_ss_sig",
        "-x509_strict",
        "-CAfile",
        path,
        path,
    ])
    .status
    .success()
}

#[test]
fn openssl_verifies_a_certificate_of_every_algorithm_and_refuses_it_when_a_bit_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in Algorithm::ALL {
        let pair = Pair::generate(algorithm);
        let mut certificate = pair.certificate(algorithm, "issuer.example");
        assert!(verifies(folder.path(), &certificate), "{algorithm}");
        *certificate.last_mut().unwrap() ^= 1;
        assert!(!verifies(folder.path(), &certificate), "{algorithm}");
    }
}

#[test]
fn a_certificate_says_what_it_should_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    for (algorithm, name) in [
        (Algorithm::Rs256, "sha256WithRSAEncryption"),
        (Algorithm::Rs384, "sha384WithRSAEncryption"),
        (Algorithm::Rs512, "sha512WithRSAEncryption"),
        (Algorithm::Ps256, "rsassaPss"),
        (Algorithm::Ps384, "rsassaPss"),
        (Algorithm::Ps512, "rsassaPss"),
        (Algorithm::Es256, "ecdsa-with-SHA256"),
        (Algorithm::Es384, "ecdsa-with-SHA384"),
        (Algorithm::Es512, "ecdsa-with-SHA512"),
        (Algorithm::EdDsa, "ED25519"),
    ] {
        let certificate = Pair::generate(algorithm).certificate(algorithm, "issuer.example");
        let path = write(folder.path(), "certificate.pem", pem(&certificate));
        let said = text(&["x509", "-noout", "-text", "-in", path.to_str().unwrap()]);
        for wanted in [
            "Version: 3 (0x2)",
            "7f:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff",
            &format!("Signature Algorithm: {name}"),
            "Issuer: CN = issuer.example",
            "Subject: CN = issuer.example",
            "Not Before: Jan  2 03:04:05 2026 GMT",
            "Not After : Jan  2 03:04:05 2036 GMT",
            "X509v3 Basic Constraints: critical\n                CA:FALSE",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "X509v3 Subject Key Identifier: \n",
        ] {
            assert!(said.contains(wanted), "{algorithm}: {wanted:?} in\n{said}");
        }
        assert!(!said.contains("Alternative Name"), "{algorithm}");
        if let Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 = algorithm {
            let digest = algorithm.digest().unwrap();
            let hash = format!("sha{}", 8 * digest.output_len());
            for wanted in [
                "Public Key Algorithm: rsaEncryption".to_owned(),
                format!("Hash Algorithm: {hash}"),
                format!("Mask Algorithm: mgf1 with {hash}"),
                format!("Salt Length: 0x{:X}", digest.output_len()),
            ] {
                assert!(said.contains(&wanted), "{algorithm}: {wanted:?} in\n{said}");
            }
        }
    }
}

#[test]
fn a_certificate_of_auth0s_shape_is_a_cas_for_5000_days() {
    let folder = tempfile::tempdir().unwrap();
    let algorithm = Algorithm::Rs256;
    let pair = Pair::generate(algorithm);
    let at = "2026-01-02T03:04:05Z".parse().unwrap();
    let (public, name) = (pair.public(), "tenant.example");
    let draft = Draft::of_shape(Shape::Auth0, &public, algorithm, name, SERIAL, at).unwrap();
    let signature = pair.sign(draft.to_be_signed());
    let path = write(folder.path(), "certificate.pem", pem(&draft.finish(&signature).unwrap()));
    let said = text(&["x509", "-noout", "-text", "-in", path.to_str().unwrap()]);
    for wanted in [
        "Signature Algorithm: sha256WithRSAEncryption",
        "Subject: CN = tenant.example",
        "Not After : Sep 11 03:04:05 2039 GMT",
        "X509v3 Basic Constraints: critical\n                CA:TRUE\n",
        "X509v3 Key Usage: critical\n                Digital Signature, Certificate Sign\n",
        "X509v3 Subject Key Identifier: \n",
    ] {
        assert!(said.contains(wanted), "{wanted:?} in\n{said}");
    }
}

#[test]
fn the_subject_key_identifier_is_the_one_that_openssl_derives() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::generate(Algorithm::Es256);
    let certificate = pair.certificate(Algorithm::Es256, "issuer.example");
    let PublicKey::Ec { x, y, .. } = pair.public() else { panic!("not an EC key") };
    let point = write(folder.path(), "point", [vec![4], x, y].concat());
    let hash = text(&["sha1", "-r", point.to_str().unwrap()]);
    let path = write(folder.path(), "certificate.pem", pem(&certificate));
    let said =
        text(&["x509", "-noout", "-ext", "subjectKeyIdentifier", "-in", path.to_str().unwrap()]);
    let said = said.lines().nth(1).unwrap().trim().replace(':', "");
    assert_eq!(said.to_lowercase(), hash.split(' ').next().unwrap());
}

#[test]
fn a_host_name_over_64_characters_is_cut_in_the_subject_and_whole_in_the_alternative_name() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::generate(Algorithm::EdDsa);
    for (name, wanted) in [
        (format!("{}.example", "a".repeat(60)), Some("DNS:")),
        (format!("urn:example:{}", "a".repeat(60)), Some("URI:")),
        ("ü".repeat(70), None),
    ] {
        let certificate = pair.certificate(Algorithm::EdDsa, &name);
        assert!(verifies(folder.path(), &certificate), "{name}");
        let path = folder.path().join("certificate.pem");
        let path = path.to_str().unwrap();
        let said = text(&["x509", "-noout", "-text", "-nameopt", "utf8", "-in", path]);
        let cut: String = name.chars().take(64).collect();
        assert!(said.contains(&format!("Subject: CN={cut}\n")), "{said}");
        match wanted {
            Some(form) => assert!(said.contains(&format!("{form}{name}\n")), "{said}"),
            None => assert!(!said.contains("Alternative Name"), "{said}"),
        }
    }
}

#[test]
fn validity_that_ends_after_2049_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::generate(Algorithm::EdDsa);
    let start = "2045-06-07T08:09:10Z".parse().unwrap();
    let draft = Draft::new(&pair.public(), Algorithm::EdDsa, "x", SERIAL, start).unwrap();
    let signature = pair.sign(draft.to_be_signed());
    let certificate = draft.finish(&signature).unwrap();
    let path = write(folder.path(), "certificate.pem", pem(&certificate));
    let said = text(&["x509", "-noout", "-dates", "-in", path.to_str().unwrap()]);
    assert_eq!(said, "notBefore=Jun  7 08:09:10 2045 GMT\nnotAfter=Jun  7 08:09:10 2055 GMT\n");
}

#[test]
fn what_cannot_become_a_certificate_is_refused_in_words() {
    let public = Pair::generate(Algorithm::Es256).public();
    let draft = |algorithm, name, at| Draft::new(&public, algorithm, name, SERIAL, at);
    assert_eq!(
        draft(Algorithm::Rs256, "x", not_before()).unwrap_err(),
        Error::Algorithm { algorithm: Algorithm::Rs256 }
    );
    assert_eq!(draft(Algorithm::Es256, "", not_before()).unwrap_err(), Error::CommonName);
    let before = "1969-12-31T23:59:58Z".parse().unwrap();
    let refused = draft(Algorithm::Es256, "x", before);
    assert_eq!(refused.unwrap_err(), Error::Time);
    for given in [0, 63, 65, 72] {
        let draft = draft(Algorithm::Es256, "x", not_before()).unwrap();
        assert_eq!(
            draft.finish(&vec![1; given]),
            Err(Error::SignatureLength { given, wanted: 64 })
        );
    }
}

#[test]
fn openssl_reads_the_pkcs7_bundle_and_finds_the_certificate_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in [Algorithm::Ps384, Algorithm::Es512, Algorithm::EdDsa] {
        let certificate = Pair::generate(algorithm).certificate(algorithm, "issuer.example");
        let bundle_pem = bundle::to_pem(&certificate).unwrap();
        let path = write(folder.path(), "bundle.pem", &bundle_pem);
        let said = text(&["pkcs7", "-print_certs", "-in", path.to_str().unwrap()]);
        assert!(said.contains(&pem(&certificate)), "{algorithm}:\n{said}");
        let der = bundle::to_der(&certificate).unwrap();
        let path = write(folder.path(), "bundle.der", der);
        let path = path.to_str().unwrap();
        let said = text(&["pkcs7", "-inform", "DER", "-in", path]);
        assert_eq!(said, bundle_pem, "{algorithm}");
    }
    assert!(bundle::to_der(b"no certificate").is_err());
}

#[test]
fn fingerprints_and_x5_members_are_those_of_openssl() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Pair::generate(Algorithm::Es256).certificate(Algorithm::Es256, "x");
    let path = write(folder.path(), "certificate.pem", pem(&certificate));
    let path = path.to_str().unwrap();
    let said = |hash| text(&["x509", "-noout", "-fingerprint", hash, "-in", path]);
    let sha1 = said("-sha1");
    let sha256 = said("-sha256");
    let sha1 = sha1.trim_end().split('=').nth(1).unwrap();
    let sha256 = sha256.trim_end().split('=').nth(1).unwrap();
    assert_eq!(fingerprint::sha1(&certificate), sha1);
    assert_eq!(fingerprint::sha256(&certificate), sha256);
    assert_eq!(fingerprint::sha1_plain(&certificate), sha1.replace(':', ""));
    assert_eq!(fingerprint::sha256_plain(&certificate), sha256.replace(':', ""));

    let hex = |base64url: &str| {
        let bytes = super::bytes(base64url);
        let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    };
    assert_eq!(hex(&jwk::x5t(&certificate)), sha1);
    assert_eq!(hex(&jwk::x5t_s256(&certificate)), sha256);
    let lines = text(&["x509", "-in", path]);
    let body: String = lines.lines().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(jwk::x5c(&certificate), body);
}
