//! RFC 7515 appendix A, RFC 7638 section 3.1, RFC 8037 appendix A.

use super::{
    RFC_7515_A3_X, RFC_7515_A3_Y, RFC_7515_A4_X, RFC_7515_A4_Y, RFC_7638_N, RFC_8037_X, bytes, ec,
    ed25519, rsa,
};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P521_SHA512_ASN1,
    ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use signkeep::jose::{base64url, jws, signature, thumbprint};
use signkeep::key::{Algorithm, Curve};

/// The claims of RFC 7515 appendices A.2 and A.3.
const CLAIMS: &str =
    "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
const CLAIMS_ENCODED: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

#[test]
fn the_kid_of_an_rsa_key_is_the_thumbprint_of_rfc_7638_section_3_1() {
    let kid = thumbprint::kid(&rsa(RFC_7638_N));
    assert_eq!(kid.to_string(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn the_kid_of_an_ed25519_key_is_the_thumbprint_of_rfc_8037_appendix_a_3() {
    let kid = thumbprint::kid(&ed25519(RFC_8037_X));
    assert_eq!(kid.to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn the_kid_of_an_ec_key_is_what_jsonwebtoken_computes() {
    for (curve, x, y) in
        [(Curve::P256, RFC_7515_A3_X, RFC_7515_A3_Y), (Curve::P521, RFC_7515_A4_X, RFC_7515_A4_Y)]
    {
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(serde_json::json!({
            "kty": "EC", "crv": curve.name(), "x": x, "y": y,
        }))
        .unwrap();
        let theirs = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256);
        let ours = thumbprint::kid(&ec(curve, x, y)).to_string();
        assert_eq!(ours, theirs.unwrap());
    }
}

#[test]
fn an_rs256_jws_is_put_together_as_in_rfc_7515_appendix_a_2() {
    let n = bytes(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    );
    let encoded = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let input = jws::signing_input(&base64url(br#"{"alg":"RS256"}"#), CLAIMS.as_bytes());
    assert_eq!(input, format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS_ENCODED}"));
    assert_eq!(jws::compact(&input, &bytes(encoded)), format!("{input}.{encoded}"));
    RsaPublicKeyComponents { n, e: vec![1, 0, 1] }
        .verify(&RSA_PKCS1_2048_8192_SHA256, input.as_bytes(), &bytes(encoded))
        .unwrap();
}

#[test]
fn an_es256_jws_is_put_together_as_in_rfc_7515_appendix_a_3_and_its_signature_has_both_forms() {
    let input = jws::signing_input(&base64url(br#"{"alg":"ES256"}"#), CLAIMS.as_bytes());
    assert_eq!(input, format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS_ENCODED}"));
    let fixed = bytes(
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    );
    let point = [vec![4], bytes(RFC_7515_A3_X), bytes(RFC_7515_A3_Y)].concat();
    let verify = |form, signature: &[u8]| {
        UnparsedPublicKey::new(form, &point).verify(input.as_bytes(), signature)
    };
    let der = signature::to_der(Curve::P256, &fixed).unwrap();
    verify(&ECDSA_P256_SHA256_FIXED, &fixed).unwrap();
    verify(&ECDSA_P256_SHA256_ASN1, &der).unwrap();
    assert_eq!(signature::from_der(Curve::P256, &der).unwrap(), fixed);
}

#[test]
fn an_es512_jws_is_put_together_as_in_rfc_7515_appendix_a_4_and_its_signature_has_both_forms() {
    let input = jws::signing_input(&base64url(br#"{"alg":"ES512"}"#), b"Payload");
    assert_eq!(input, "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA");
    let fixed = bytes(
        "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
    );
    let point = [vec![4], bytes(RFC_7515_A4_X), bytes(RFC_7515_A4_Y)].concat();
    let verify = |form, signature: &[u8]| {
        UnparsedPublicKey::new(form, &point).verify(input.as_bytes(), signature)
    };
    let der = signature::to_der(Curve::P521, &fixed).unwrap();
    verify(&ECDSA_P521_SHA512_FIXED, &fixed).unwrap();
    verify(&ECDSA_P521_SHA512_ASN1, &der).unwrap();
    assert_eq!(signature::from_der(Curve::P521, &der).unwrap(), fixed);
}

#[test]
fn an_eddsa_jws_is_put_together_as_in_rfc_8037_appendix_a_4() {
    let encoded =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let input =
        jws::signing_input(&base64url(br#"{"alg":"EdDSA"}"#), b"Example of Ed25519 signing");
    assert_eq!(
        jws::compact(&input, &bytes(encoded)),
        format!("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.{encoded}")
    );
    UnparsedPublicKey::new(&ED25519, bytes(RFC_8037_X))
        .verify(input.as_bytes(), &bytes(encoded))
        .unwrap();
}

#[test]
fn the_protected_header_is_alg_kid_typ_and_escapes_the_typ() {
    let kid = thumbprint::kid(&ed25519(RFC_8037_X));
    let header = jws::protected(Algorithm::EdDsa, &kid, "at+jwt", &[]);
    assert_eq!(
        String::from_utf8(bytes(&header)).unwrap(),
        format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"at+jwt"}}"#)
    );
    let header = jws::protected(Algorithm::EdDsa, &kid, "a\",\"alg\":\"none", &[]);
    let parsed: serde_json::Value = serde_json::from_slice(&bytes(&header)).unwrap();
    assert_eq!(parsed["alg"], "EdDSA");
    assert_eq!(parsed["typ"], "a\",\"alg\":\"none");
}
