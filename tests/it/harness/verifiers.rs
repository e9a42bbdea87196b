//! Verifiers that were written by others and know nothing of Signkeep: PyJWT, `jose` and the
//! `openssl` command.

use super::tools::{Output, python, repository, run, run_command, tool};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// A token, and what a verifier ought to make of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) jwks_uri: String,
    pub(crate) algorithm: String,
    /// None: the issuer is not checked.
    pub(crate) issuer: Option<String>,
    pub(crate) jwt: String,
    pub(crate) verifies: bool,
}

impl Case {
    /// The same token with one bit of its signature flipped, which must not verify.
    pub(crate) fn with_a_flipped_bit(&self) -> Self {
        Self {
            name: format!("{}, a bit flipped", self.name),
            jwt: flipped(&self.jwt),
            verifies: false,
            ..self.clone()
        }
    }
}

/// The parts of a compact JWS (RFC 7515 section 7.1): what is signed, and the signature.
pub(crate) fn split(jwt: &str) -> (&str, Vec<u8>) {
    let (input, signature) = jwt.rsplit_once('.').unwrap();
    (input, Base64UrlUnpadded::decode_vec(signature).unwrap())
}

/// PyJWT's verdict on every case, in one process; panics where it is not the expected one.
pub(crate) async fn pyjwt(cases: &[Case]) {
    judge("PyJWT", pyjwt_command(), cases).await;
}

/// jose's verdict on every case, in one process; panics where it is not the expected one.
pub(crate) async fn jose(cases: &[Case]) {
    let library = repository("tests/clients/node/node_modules/jose");
    assert!(library.exists(), "jose is missing; ./tests/run installs it");
    judge("jose", jose_command(), cases).await;
}

/// What asks PyJWT.
pub(crate) fn pyjwt_command() -> Command {
    let mut command = Command::new(python());
    command.arg(repository("tests/clients/python/verify.py"));
    command
}

/// What asks jose.
pub(crate) fn jose_command() -> Command {
    let mut command = Command::new(tool("node"));
    command.arg(repository("tests/clients/node/verify.mjs"));
    command
}

/// The verdict of the `openssl` command on every case, by the key in `certificate` (PEM), which
/// must also be well signed by its own key; panics where it is not the expected one.
pub(crate) async fn openssl(certificate: &str, cases: &[Case]) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    fs::write(&cert, certificate).unwrap();
    let sound = run_openssl(&["verify", "-check_ss_sig", "-CAfile", &cert, &cert]).await;
    assert!(sound.success, "the certificate is unsound: {sound:?}");
    let read = run_openssl(&["x509", "-in", &cert, "-noout", "-pubkey"]).await;
    assert!(read.success, "{read:?}");
    fs::write(&key, read.stdout).unwrap();
    for case in cases {
        let (input, signature) = split(&case.jwt);
        let (input_file, signature_file) = (path("input"), path("signature"));
        fs::write(&input_file, input).unwrap();
        fs::write(&signature_file, as_openssl(&case.algorithm, signature)).unwrap();
        let output = if case.algorithm == "EdDSA" {
            let args = [
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                &key,
                "-rawin",
                "-in",
                &input_file,
                "-sigfile",
                &signature_file,
            ];
            run_openssl(&args).await
        } else {
            let hash = format!("-sha{}", &case.algorithm[2..]);
            let mut args = vec!["dgst", &hash, "-verify", &key, "-signature", &signature_file];
            if case.algorithm.starts_with("PS") {
                args.extend(["-sigopt", "rsa_padding_mode:pss"]);
                args.extend(["-sigopt", "rsa_pss_saltlen:digest"]);
            }
            args.push(&input_file);
            run_openssl(&args).await
        };
        assert_eq!(output.success, case.verifies, "openssl on {}: {output:?}", case.name);
    }
}

async fn run_openssl(args: &[&str]) -> Output {
    run(tool("openssl"), args).await
}

/// The verdict on every case of a verifier that `command` asks, in one process; panics where it is
/// not the expected one.
pub(crate) async fn judge(verifier: &str, mut command: Command, cases: &[Case]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cases.json");
    let listed: Vec<Value> = cases
        .iter()
        .map(|case| {
            json!({
                "name": case.name,
                "jwks_uri": case.jwks_uri,
                "algorithm": case.algorithm,
                "issuer": case.issuer,
                "jwt": case.jwt,
            })
        })
        .collect();
    fs::write(&file, Value::from(listed).to_string()).unwrap();
    command.arg(&file);
    let output = run_command(command).await;
    assert!(output.success, "{verifier} failed: {}", output.stderr);
    let verdicts: Vec<Value> = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(verdicts.len(), cases.len(), "{verifier} left cases out");
    let wrong: Vec<String> = cases
        .iter()
        .zip(&verdicts)
        .filter(|(case, verdict)| verdict["verified"] != case.verifies)
        .map(|(case, verdict)| format!("{}: {}", case.name, verdict["error"]))
        .collect();
    assert!(wrong.is_empty(), "{verifier} judged otherwise: {wrong:#?}");
}

/// The compact JWS with one bit of its signature flipped.
pub(crate) fn flipped(jwt: &str) -> String {
    let (input, mut signature) = split(jwt);
    let middle = signature.len() / 2;
    signature[middle] ^= 1;
    format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
}

/// A JWS signature in the form that openssl reads: ECDSA as DER (RFC 3279 section 2.2.3).
fn as_openssl(algorithm: &str, signature: Vec<u8>) -> Vec<u8> {
    if !algorithm.starts_with("ES") {
        return signature;
    }
    let (r, s) = signature.split_at(signature.len() / 2);
    tlv(0x30, &[integer(r), integer(s)].concat())
}

fn integer(big_endian: &[u8]) -> Vec<u8> {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    let mut digits = big_endian[zeros.min(big_endian.len() - 1)..].to_vec();
    if digits[0] & 0x80 != 0 {
        digits.insert(0, 0);
    }
    tlv(2, &digits)
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    let head = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
    [head, value.to_vec()].concat()
}

#[test]
fn ecdsa_signatures_become_der() {
    let raw = [&[0, 0x80][..], &[0, 1][..]].concat();
    assert_eq!(as_openssl("ES256", raw), [0x30, 7, 2, 2, 0, 0x80, 2, 1, 1]);
}
