//! The JOSE and X.509 forms against published vectors and against other implementations.

mod certificates;
mod ecdsa_der;
mod jwks;
mod rfc;
mod spki;

use base64ct::{Base64UrlUnpadded, Encoding};
use signkeep::key::{Curve, PublicKey};

/// The RSA key of RFC 7638 section 3.1.
const RFC_7638_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
/// The EC key of RFC 7515 appendix A.3.
const RFC_7515_A3_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const RFC_7515_A3_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
/// The EC key of RFC 7515 appendix A.4.
const RFC_7515_A4_X: &str =
    "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk";
const RFC_7515_A4_Y: &str =
    "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2";
/// The Ed25519 key of RFC 8037 appendix A.2.
const RFC_8037_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn bytes(base64url: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(base64url).unwrap()
}

fn rsa(n: &str) -> PublicKey {
    PublicKey::rsa(&bytes(n), &[1, 0, 1]).unwrap()
}

fn ec(curve: Curve, x: &str, y: &str) -> PublicKey {
    PublicKey::ec(curve, &[vec![4], bytes(x), bytes(y)].concat()).unwrap()
}

fn ed25519(x: &str) -> PublicKey {
    PublicKey::ed25519(&bytes(x)).unwrap()
}
