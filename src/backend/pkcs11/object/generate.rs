//! Generating a key pair that can sign and nothing else.
//!
//! Defaults of CKA_* differ from token to token and are lax on some, so every attribute that matters
//! is written down in the template, and read back afterwards.

use super::super::error::{Fault, refuses_template, says_nothing};
use super::super::mechanism;
use super::public::{ED25519_OID, EDWARDS25519_NAME, curve_oid, public_key};
use super::{LABEL_PREFIX, inconsistent, reference};
use crate::backend::{Error, Kind, Material, Order};
use crate::key::KeySpec;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;

/// Generates a key pair and reads back that the token made what was asked for. What it made
/// otherwise is destroyed.
pub(in super::super) fn generate(session: &Session, order: &Order) -> Result<Material, Fault> {
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
            let attempt = || session.generate_key_pair(&mechanism, &public, &private);
            // Some tokens refuse a template with CKR_GENERAL_ERROR; SoftHSM answers so as well when
            // another session gets in its way. Twice is a refusal.
            let result = attempt().or_else(|error| match says_nothing(&error) {
                true => attempt(),
                false => Err(error),
            });
            match result {
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
