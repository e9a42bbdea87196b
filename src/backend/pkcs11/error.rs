//! CKR codes, sorted by what cures them, and the errors that callers see.
//!
//! A code names what went wrong inside a module, and modules differ in which one they choose. What
//! they agree on well enough is what to do next, so that is what codes are sorted by here; whoever
//! runs a call applies the cure (see `token`), and what cannot be cured becomes a
//! [`backend::Error`](Error). A fault of the token is never turned into a fault of the caller.

use crate::backend::{Error, Kind};
use cryptoki::context::Function;
use cryptoki::error::RvError;

/// A setting with which no token will ever be reached: it does not mend itself.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Misconfigured {
    /// The field of [`Settings`](super::Settings).
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

/// What a piece of work inside the module ended with.
#[derive(Debug)]
pub(super) enum Fault {
    /// The module's answer.
    Token(cryptoki::error::Error),
    /// A search came out empty for a key that should be there.
    Absent,
    /// Something that we found out ourselves, and that trying again will not change.
    Ours(Error),
}

/// What may put an answer of the module right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Another session, with its handles found again: the session or the handle is spoiled.
    NewSession,
    /// Logging in again, once for all sessions.
    Login,
    /// C_Finalize, C_Initialize, login: token or link is out.
    Reinitialise,
    /// Once more; if that fails too, as [`Cure::Reinitialise`]: the code says little.
    OnceMore,
    /// An empty search for a key that was there is a fault of the token until it has been
    /// re-initialised and the key is still missing.
    Confirm,
    /// Nothing.
    None,
}

impl From<cryptoki::error::Error> for Fault {
    fn from(error: cryptoki::error::Error) -> Self {
        Self::Token(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl Fault {
    /// What may put it right.
    pub(super) fn cure(&self) -> Cure {
        match self {
            Self::Token(cryptoki::error::Error::Pkcs11(code, _)) => cure(*code),
            Self::Absent => Cure::Confirm,
            Self::Token(_) | Self::Ours(_) => Cure::None,
        }
    }

    /// The code, if it is an answer of the module.
    pub(super) fn code(&self) -> Option<RvError> {
        match self {
            Self::Token(cryptoki::error::Error::Pkcs11(code, _)) => Some(*code),
            _ => None,
        }
    }

    /// The error for the caller, when nothing has put it right.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Token(error) => from_cryptoki(&error),
            Self::Absent => Error::new(
                Kind::NotFound,
                "C_FindObjects",
                "the token has no private key under that CKA_ID",
            ),
            Self::Ours(error) => error,
        }
    }
}

/// The cure for a code.
pub(super) fn cure(code: RvError) -> Cure {
    match code {
        RvError::SessionHandleInvalid
        | RvError::SessionClosed
        | RvError::OperationActive
        | RvError::OperationNotInitialized
        | RvError::ObjectHandleInvalid
        | RvError::KeyHandleInvalid => Cure::NewSession,
        RvError::UserNotLoggedIn => Cure::Login,
        RvError::DeviceError
        | RvError::DeviceRemoved
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid
        | RvError::CryptokiNotInitialized => Cure::Reinitialise,
        RvError::GeneralError
        | RvError::FunctionFailed
        | RvError::FunctionCanceled
        | RvError::FunctionRejected
        | RvError::MutexBad
        | RvError::VendorDefined(_)
        | RvError::UnknownErrorCode(_) => Cure::OnceMore,
        _ => Cure::None,
    }
}

/// Whether the code says that this PIN must not be tried again.
pub(super) fn refuses_pin(code: RvError) -> bool {
    matches!(
        code,
        RvError::PinIncorrect
            | RvError::PinLocked
            | RvError::PinExpired
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::UserPinNotInitialized
    )
}

/// Whether an answer to C_Login counts as a refusal of the PIN: every one does that does not say
/// that the PIN was not looked at. Tokens have many ways to refuse, codes of their vendors among
/// them, and a PIN that is tried again on a code nobody thought of locks the token.
pub(super) fn refuses_login(code: RvError) -> bool {
    !matches!(
        code,
        RvError::CryptokiNotInitialized
            | RvError::DeviceError
            | RvError::DeviceMemory
            | RvError::DeviceRemoved
            | RvError::HostMemory
            | RvError::SessionClosed
            | RvError::SessionCount
            | RvError::SessionExists
            | RvError::SessionHandleInvalid
            | RvError::SessionParallelNotSupported
            | RvError::SessionReadOnly
            | RvError::SessionReadOnlyExists
            | RvError::SessionReadWriteSoExists
            | RvError::SlotIdInvalid
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::UserAlreadyLoggedIn
            | RvError::UserAnotherAlreadyLoggedIn
            | RvError::UserTooManyTypes
    )
}

/// Whether the code objects to an attribute of a template rather than to the operation.
pub(super) fn refuses_template(error: &cryptoki::error::Error) -> bool {
    matches!(
        error,
        cryptoki::error::Error::Pkcs11(
            RvError::TemplateInconsistent
                | RvError::TemplateIncomplete
                | RvError::AttributeTypeInvalid
                | RvError::AttributeValueInvalid
                | RvError::AttributeReadOnly
                | RvError::DomainParamsInvalid
                | RvError::CurveNotSupported
                | RvError::GeneralError,
            _
        )
    )
}

/// Whether the code leaves open what it objects to.
pub(super) fn says_nothing(error: &cryptoki::error::Error) -> bool {
    matches!(error, cryptoki::error::Error::Pkcs11(RvError::GeneralError, _))
}

/// The error for the caller, with no cure tried.
pub(super) fn from_cryptoki(error: &cryptoki::error::Error) -> Error {
    match error {
        cryptoki::error::Error::Pkcs11(code, function) => {
            Error::new(kind(*code), op(*function), name(*code))
        }
        other => Error::new(Kind::Unavailable, "PKCS#11", other.to_string()),
    }
}

fn kind(code: RvError) -> Kind {
    match code {
        _ if refuses_pin(code) => Kind::Denied,
        RvError::SessionCount | RvError::DeviceMemory | RvError::HostMemory => Kind::Throttled,
        RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::KeyFunctionNotPermitted
        | RvError::KeyTypeInconsistent
        | RvError::KeySizeRange
        | RvError::CurveNotSupported
        | RvError::ActionProhibited
        | RvError::TokenWriteProtected
        | RvError::SessionReadOnly
        | RvError::TemplateInconsistent
        | RvError::TemplateIncomplete
        | RvError::AttributeTypeInvalid
        | RvError::AttributeValueInvalid
        | RvError::FunctionNotSupported
        // Lengths are checked before the token sees them, so these are ours.
        | RvError::DataLenRange
        | RvError::DataInvalid => Kind::Unsupported,
        _ => Kind::Unavailable,
    }
}

/// The code as PKCS#11 spells it, e.g. `CKR_DEVICE_ERROR`.
pub(super) fn name(code: RvError) -> String {
    match code {
        RvError::VendorDefined(number) => format!("CKR_VENDOR_DEFINED, code {number:#x}"),
        RvError::UnknownErrorCode(number) => {
            format!("a code that PKCS#11 does not know, {number:#x}")
        }
        known => {
            let mut text = String::from("CKR");
            for letter in format!("{known:?}").chars() {
                if letter.is_ascii_uppercase() {
                    text.push('_');
                }
                text.push(letter.to_ascii_uppercase());
            }
            text
        }
    }
}

fn op(function: Function) -> &'static str {
    match function {
        Function::Initialize => "C_Initialize",
        Function::Finalize => "C_Finalize",
        Function::GetInfo => "C_GetInfo",
        Function::GetSlotList => "C_GetSlotList",
        Function::GetTokenInfo => "C_GetTokenInfo",
        Function::GetMechanismList => "C_GetMechanismList",
        Function::GetMechanismInfo => "C_GetMechanismInfo",
        Function::InitToken => "C_InitToken",
        Function::InitPIN => "C_InitPIN",
        Function::OpenSession => "C_OpenSession",
        Function::GetSessionInfo => "C_GetSessionInfo",
        Function::Login => "C_Login",
        Function::DestroyObject => "C_DestroyObject",
        Function::GetAttributeValue => "C_GetAttributeValue",
        Function::FindObjectsInit => "C_FindObjectsInit",
        Function::FindObjects => "C_FindObjects",
        Function::SignInit => "C_SignInit",
        Function::Sign => "C_Sign",
        Function::GenerateKeyPair => "C_GenerateKeyPair",
        _ => "PKCS#11",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_as_the_standard_names_them() {
        assert_eq!(name(RvError::DeviceError), "CKR_DEVICE_ERROR");
        assert_eq!(name(RvError::KeyHandleInvalid), "CKR_KEY_HANDLE_INVALID");
        assert!(name(RvError::VendorDefined(0x8000_0001)).contains("0x80000001"));
    }

    #[test]
    fn a_spoiled_session_is_replaced_and_a_dead_token_re_initialised() {
        assert_eq!(cure(RvError::OperationActive), Cure::NewSession);
        assert_eq!(cure(RvError::KeyHandleInvalid), Cure::NewSession);
        assert_eq!(cure(RvError::UserNotLoggedIn), Cure::Login);
        assert_eq!(cure(RvError::TokenNotPresent), Cure::Reinitialise);
        assert_eq!(cure(RvError::VendorDefined(1)), Cure::OnceMore);
        assert_eq!(cure(RvError::PinIncorrect), Cure::None);
    }

    #[test]
    fn a_login_that_fails_counts_against_the_pin_unless_the_token_was_not_reached() {
        for code in [
            RvError::PinIncorrect,
            RvError::PinLocked,
            RvError::PinTooWeak,
            RvError::GeneralError,
            RvError::FunctionFailed,
            RvError::FunctionRejected,
            RvError::ArgumentsBad,
            RvError::VendorDefined(0x8000_0001),
            RvError::UnknownErrorCode(0x7000),
        ] {
            assert!(refuses_login(code), "{code:?}");
        }
        for code in [
            RvError::DeviceError,
            RvError::DeviceRemoved,
            RvError::TokenNotPresent,
            RvError::SessionHandleInvalid,
            RvError::CryptokiNotInitialized,
            RvError::HostMemory,
            RvError::UserAlreadyLoggedIn,
        ] {
            assert!(!refuses_login(code), "{code:?}");
        }
    }

    #[test]
    fn no_code_blames_the_caller() {
        assert_eq!(kind(RvError::DataLenRange), Kind::Unsupported);
        assert_eq!(kind(RvError::PinLocked), Kind::Denied);
        assert_eq!(kind(RvError::SessionCount), Kind::Throttled);
        assert_eq!(kind(RvError::DeviceError), Kind::Unavailable);
    }
}
