//! Key objects: templates, searches, and public keys read back.
//!
//! A key is found by its CKA_ID, which is its material id, and by nothing else; two objects of one
//! class under one id are an error, never a choice. Defaults of CKA_* differ from token to token and
//! are lax on some, so every attribute that matters is written down, and read back afterwards.

use super::error::{Fault, refuses_template};
use super::mechanism;
use crate::backend::{Error, Kind, Listed, Material, ObjectRef, Order};
use crate::key::{Curve, KeySetId, KeySpec, MaterialId, PublicKey};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

/// What our labels begin with; the key set follows.
const LABEL_PREFIX: &str = "signkeep:";

/// The name of an Edwards curve as PKCS#11 v3.0 writes it, a PrintableString.
const EDWARDS25519_NAME: [u8; 14] = *b"\x13\x0cedwards25519";
/// The same curve as RFC 8410 writes it, the OID 1.3.101.112.
const ED25519_OID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// The handles that carry one id.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pair {
    pub(super) private: Option<ObjectHandle>,
    pub(super) public: Option<ObjectHandle>,
}

/// Finds both halves of a key; two of one half are an error.
pub(super) fn find(session: &Session, material: MaterialId) -> Result<Pair, Fault> {
    Ok(Pair {
        private: only(material, "private", search(session, ObjectClass::PRIVATE_KEY, material)?)?,
        public: only(material, "public", search(session, ObjectClass::PUBLIC_KEY, material)?)?,
    })
}

/// The private key's handle and the public key that stands beside it.
pub(super) fn read(
    session: &Session,
    material: MaterialId,
    spec: KeySpec,
) -> Result<Option<(ObjectHandle, PublicKey)>, Fault> {
    match find(session, material)? {
        // A public key alone is what a crash in the middle of a generation leaves; it signs
        // nothing.
        Pair { private: None, .. } => Ok(None),
        Pair { public: None, .. } => Err(inconsistent(
            "C_FindObjects",
            format!("there is a private key with CKA_ID {material} but no public key"),
        )),
        Pair { private: Some(private), public: Some(public) } => {
            let kinds = [key_type(session, private)?, key_type(session, public)?];
            if kinds.iter().any(|kind| *kind != Some(expected_key_type(spec))) {
                return Err(inconsistent(
                    "C_GetAttributeValue",
                    format!(
                        "the key with CKA_ID {material} is not an {spec} key by its CKA_KEY_TYPE"
                    ),
                ));
            }
            Ok(Some((private, public_key(session, public, spec)?)))
        }
    }
}

/// Generates a key pair and reads back that the token made what was asked for. What it made
/// otherwise is destroyed.
pub(super) fn generate(session: &Session, order: &Order) -> Result<Material, Fault> {
    let (public, private) = generate_pair(session, order)?;
    let checked = is_as_ordered(session, private)
        .and_then(|()| public_key(session, public, order.spec))
        .and_then(|key| match key.spec() {
            Some(spec) if spec == order.spec => Ok(key),
            _ => Err(inconsistent(
                "C_GenerateKeyPair",
                format!("the token generated something other than {}", order.spec),
            )),
        });
    match checked {
        Ok(public) => Ok(Material { object: reference(order.material), public }),
        Err(fault) => {
            for object in [private, public] {
                if let Err(error) = session.destroy_object(object) {
                    tracing::error!(material = %order.material, %error,
                        "a key that the token did not make as ordered could not be destroyed");
                }
            }
            Err(fault)
        }
    }
}

/// Destroys every object under that id, the private ones first.
pub(super) fn destroy(session: &Session, material: MaterialId) -> Result<(), Fault> {
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for object in search(session, class, material)? {
            session.destroy_object(object)?;
        }
    }
    Ok(())
}

/// Every key that carries our label, each id once.
pub(super) fn list(session: &Session) -> Result<Vec<Listed>, Fault> {
    let mut listed = Vec::<Listed>::new();
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let template = [Attribute::Class(class), Attribute::Token(true)];
        for object in session.find_objects(&template)? {
            let (mut id, mut label) = (Vec::new(), Vec::new());
            for attribute in
                session.get_attributes(object, &[AttributeType::Id, AttributeType::Label])?
            {
                match attribute {
                    Attribute::Id(bytes) => id = bytes,
                    Attribute::Label(bytes) => label = bytes,
                    _ => {}
                }
            }
            let label = String::from_utf8_lossy(&label);
            let Some(key_set) = label.strip_prefix(LABEL_PREFIX) else {
                continue;
            };
            let entry = Listed {
                material: <[u8; 16]>::try_from(id.as_slice()).ok().map(MaterialId::from_bytes),
                object: ObjectRef::new(format!("pkcs11:id={}", hex(&id))),
                key_set: key_set.parse::<KeySetId>().ok(),
            };
            if !listed.iter().any(|other| other.object == entry.object) {
                listed.push(entry);
            }
        }
    }
    Ok(listed)
}

/// The backend's name for the key of that id.
pub(super) fn reference(material: MaterialId) -> ObjectRef {
    ObjectRef::new(format!("pkcs11:id={material}"))
}

fn search(
    session: &Session,
    class: ObjectClass,
    material: MaterialId,
) -> Result<Vec<ObjectHandle>, Fault> {
    Ok(session.find_objects(&[
        Attribute::Class(class),
        Attribute::Token(true),
        Attribute::Id(material.as_bytes().to_vec()),
    ])?)
}

fn only(
    material: MaterialId,
    half: &str,
    found: Vec<ObjectHandle>,
) -> Result<Option<ObjectHandle>, Fault> {
    match found.as_slice() {
        [] => Ok(None),
        [object] => Ok(Some(*object)),
        many => Err(inconsistent(
            "C_FindObjects",
            format!("{} {half} keys have the CKA_ID {material}; there must be one", many.len()),
        )),
    }
}

fn generate_pair(
    session: &Session,
    order: &Order,
) -> Result<(ObjectHandle, ObjectHandle), cryptoki::error::Error> {
    let mechanism = mechanism::generation(order.spec);
    let mut refused = None;
    // From the strictest template to the one that no token may refuse.
    for parameters in parameters(order.spec) {
        for strictness in [Strictness::Full, Strictness::Plain] {
            let public = public_template(order, parameters.clone(), strictness);
            let private = private_template(order, strictness);
            match session.generate_key_pair(&mechanism, &public, &private) {
                Err(error) if refuses_template(&error) => refused = Some(error),
                result => return result,
            }
        }
    }
    Err(refused.unwrap_or(cryptoki::error::Error::NotSupported))
}

/// How much a template says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strictness {
    /// Every usage that is not wanted is forbidden, and the object cannot be modified.
    Full,
    /// Only what must be; the rest is read back.
    Plain,
}

fn private_template(order: &Order, strictness: Strictness) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Id(order.material.as_bytes().to_vec()),
        Attribute::Label(label(order)),
    ];
    if strictness == Strictness::Full {
        template.extend([
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
            Attribute::SignRecover(false),
            Attribute::Derive(false),
            Attribute::Modifiable(false),
        ]);
    }
    template
}

fn public_template(
    order: &Order,
    parameters: Vec<Attribute>,
    strictness: Strictness,
) -> Vec<Attribute> {
    let mut template = parameters;
    template.extend([
        Attribute::Token(true),
        Attribute::Verify(true),
        Attribute::Id(order.material.as_bytes().to_vec()),
        Attribute::Label(label(order)),
    ]);
    if strictness == Strictness::Full {
        template.extend([
            Attribute::Private(false),
            Attribute::Encrypt(false),
            Attribute::Wrap(false),
            Attribute::VerifyRecover(false),
            Attribute::Derive(false),
            Attribute::Modifiable(false),
        ]);
    }
    template
}

fn label(order: &Order) -> Vec<u8> {
    format!("{LABEL_PREFIX}{}", order.key_set).into_bytes()
}

/// What makes a key of that kind, in the forms that tokens accept, the usual one first.
fn parameters(spec: KeySpec) -> Vec<Vec<Attribute>> {
    match spec {
        KeySpec::Rsa(bits) => vec![vec![
            Attribute::ModulusBits(u64::from(bits.bits()).into()),
            Attribute::PublicExponent(vec![1, 0, 1]),
        ]],
        KeySpec::Ec(curve) => vec![vec![Attribute::EcParams(curve_oid(curve).to_vec())]],
        KeySpec::Ed25519 => [&EDWARDS25519_NAME[..], &ED25519_OID[..]]
            .map(|parameters| vec![Attribute::EcParams(parameters.to_vec())])
            .into(),
    }
}

/// DER of the curve's OID (RFC 5480 section 2.1.1.1).
const fn curve_oid(curve: Curve) -> &'static [u8] {
    match curve {
        Curve::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
        Curve::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
        Curve::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
    }
}

/// Whether the private key is what the template asked for.
fn is_as_ordered(session: &Session, private: ObjectHandle) -> Result<(), Fault> {
    let (must, must_not) = (
        [
            AttributeType::Token,
            AttributeType::Private,
            AttributeType::Sensitive,
            AttributeType::Sign,
        ],
        [
            AttributeType::Extractable,
            AttributeType::Decrypt,
            AttributeType::Unwrap,
            AttributeType::SignRecover,
            AttributeType::Derive,
        ],
    );
    // One at a time: a token that lacks one attribute may answer none of a larger request.
    for attribute in must {
        if flag(session, private, attribute)? != Some(true) {
            return Err(dishonoured(attribute));
        }
    }
    for attribute in must_not {
        let value = flag(session, private, attribute)?;
        if value == Some(true) || (value.is_none() && attribute == AttributeType::Extractable) {
            return Err(dishonoured(attribute));
        }
    }
    Ok(())
}

fn dishonoured(attribute: AttributeType) -> Fault {
    Error::new(
        Kind::Unsupported,
        "C_GenerateKeyPair",
        format!(
            "the token did not set {attribute} as asked for; the key was destroyed, \
             since it might leave the token or do more than sign"
        ),
    )
    .into()
}

fn flag(
    session: &Session,
    object: ObjectHandle,
    attribute: AttributeType,
) -> Result<Option<bool>, Fault> {
    let values = session.get_attributes(object, &[attribute])?;
    Ok(match values.first() {
        Some(
            Attribute::Token(value)
            | Attribute::Private(value)
            | Attribute::Sensitive(value)
            | Attribute::Extractable(value)
            | Attribute::Sign(value)
            | Attribute::SignRecover(value)
            | Attribute::Decrypt(value)
            | Attribute::Unwrap(value)
            | Attribute::Derive(value),
        ) => Some(*value),
        _ => None,
    })
}

const fn expected_key_type(spec: KeySpec) -> KeyType {
    match spec {
        KeySpec::Rsa(_) => KeyType::RSA,
        KeySpec::Ec(_) => KeyType::EC,
        KeySpec::Ed25519 => KeyType::EC_EDWARDS,
    }
}

fn key_type(session: &Session, object: ObjectHandle) -> Result<Option<KeyType>, Fault> {
    let values = session.get_attributes(object, &[AttributeType::KeyType])?;
    Ok(match values.first() {
        Some(Attribute::KeyType(key_type)) => Some(*key_type),
        _ => None,
    })
}

fn public_key(session: &Session, public: ObjectHandle, spec: KeySpec) -> Result<PublicKey, Fault> {
    let wanted: &[AttributeType] = match spec {
        KeySpec::Rsa(_) => &[AttributeType::Modulus, AttributeType::PublicExponent],
        KeySpec::Ec(_) | KeySpec::Ed25519 => &[AttributeType::EcPoint, AttributeType::EcParams],
    };
    let (mut n, mut e, mut point, mut parameters) = (vec![], vec![], vec![], vec![]);
    for attribute in session.get_attributes(public, wanted)? {
        match attribute {
            Attribute::Modulus(bytes) => n = bytes,
            Attribute::PublicExponent(bytes) => e = bytes,
            Attribute::EcPoint(bytes) => point = bytes,
            Attribute::EcParams(bytes) => parameters = bytes,
            _ => {}
        }
    }
    let key = match spec {
        KeySpec::Rsa(_) => PublicKey::rsa(&n, &e),
        KeySpec::Ec(curve) if parameters == curve_oid(curve) => {
            PublicKey::ec(curve, octets(&point, 1 + 2 * curve.coordinate_len()))
        }
        KeySpec::Ed25519 if parameters == EDWARDS25519_NAME || parameters == ED25519_OID => {
            PublicKey::ed25519(octets(&point, 32))
        }
        KeySpec::Ec(_) | KeySpec::Ed25519 => {
            return Err(inconsistent(
                "C_GetAttributeValue",
                format!("the CKA_EC_PARAMS of the public key do not name {spec}"),
            ));
        }
    };
    key.map_err(|error| inconsistent("C_GetAttributeValue", error.to_string()))
}

/// A point of `len` bytes, whether it comes bare or wrapped in a DER OCTET STRING as PKCS#11
/// prescribes. Told apart by length, since an uncompressed point begins with the tag's own byte.
fn octets(point: &[u8], len: usize) -> &[u8] {
    if point.len() == len {
        return point;
    }
    match point {
        [0x04, short, rest @ ..] if *short < 0x80 && usize::from(*short) == rest.len() => rest,
        [0x04, 0x81, long, rest @ ..] if *long >= 0x80 && usize::from(*long) == rest.len() => rest,
        other => other,
    }
}

fn inconsistent(op: &'static str, message: String) -> Fault {
    Error::new(Kind::Inconsistent, op, message).into()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_the_same_bare_and_wrapped() {
        for len in [32, 65, 97, 133] {
            let mut bare = vec![4; len];
            bare[1] = u8::try_from(len - 2).unwrap_or(0x81);
            let mut wrapped = vec![4];
            if len >= 0x80 {
                wrapped.push(0x81);
            }
            wrapped.push(u8::try_from(len).unwrap());
            wrapped.extend(&bare);
            assert_eq!(octets(&bare, len), bare);
            assert_eq!(octets(&wrapped, len), bare);
        }
    }

    #[test]
    fn a_point_with_a_false_length_is_not_unwrapped() {
        assert_eq!(octets(&[4, 3, 1, 2], 2), [4, 3, 1, 2]);
        assert!(PublicKey::ec(Curve::P256, octets(&[4, 2, 1, 2], 65)).is_err());
    }

    #[test]
    fn the_curve_name_is_a_printable_string_of_twelve_letters() {
        assert_eq!(EDWARDS25519_NAME[0], 0x13);
        assert_eq!(usize::from(EDWARDS25519_NAME[1]), EDWARDS25519_NAME.len() - 2);
    }
}
