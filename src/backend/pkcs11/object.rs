//! Key objects: how they are found, read, listed and destroyed.
//!
//! A key is found by its CKA_ID, which is its material id, and by nothing else; two objects of one
//! class under one id are an error, never a choice.

mod generate;
mod public;

pub(super) use generate::generate;

use self::public::public_key;
use super::error::Fault;
use crate::backend::{Error, Kind, Listed, ObjectRef};
use crate::key::{KeySetId, KeySpec, MaterialId, PublicKey};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

/// What our labels begin with; the key set follows.
const LABEL_PREFIX: &str = "signkeep:";

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

/// Every key object under that id, the private ones first; one that does not carry our label is an
/// error, since an id alone is no proof that a key is ours to destroy.
pub(super) fn ours(session: &Session, material: MaterialId) -> Result<Vec<ObjectHandle>, Fault> {
    let mut objects = search(session, ObjectClass::PRIVATE_KEY, material)?;
    objects.extend(search(session, ObjectClass::PUBLIC_KEY, material)?);
    for object in &objects {
        must_be_ours(session, *object, material)?;
    }
    Ok(objects)
}

/// An error unless the object carries our label.
pub(super) fn must_be_ours(
    session: &Session,
    object: ObjectHandle,
    material: MaterialId,
) -> Result<(), Fault> {
    let values = session.get_attributes(object, &[AttributeType::Label])?;
    match values.first() {
        Some(Attribute::Label(label)) if label.starts_with(LABEL_PREFIX.as_bytes()) => Ok(()),
        _ => Err(inconsistent(
            "C_GetAttributeValue",
            format!(
                "an object with CKA_ID {material} has no label that begins with {LABEL_PREFIX:?}, \
                 so someone else made it; nothing under that id was destroyed: \
                 give that object another CKA_ID or remove it by hand"
            ),
        )),
    }
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
