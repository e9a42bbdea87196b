//! What can be wanted of a key set, and the roles that allow it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a caller can want of a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look at it, its keys and its public keys.
    View,
    /// Have bytes signed.
    Sign,
    /// Have claims signed.
    SignJwt,
    /// Rotate its keys.
    Rotate,
    /// Revoke one of its keys.
    Revoke,
    /// Undo a rotation.
    Rollback,
    /// Lift or set the hold on rotations.
    Hold,
    /// Create it.
    Create,
    /// Change its policy.
    Update,
    /// Stop it from signing.
    Disable,
    /// Let it sign again.
    Enable,
    /// End it.
    Delete,
}

/// What a binding gives. None includes another but as [`Role::allows`] says; nobody but signers
/// sign, administrators included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Has anything signed.
    Signer,
    /// Has claims signed, never bytes.
    JwtSigner,
    /// Rotates, revokes, rolls back.
    Operator,
    /// Makes, changes and ends key sets, and does what an operator does.
    Admin,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 12] = [
        Self::View,
        Self::Sign,
        Self::SignJwt,
        Self::Rotate,
        Self::Revoke,
        Self::Rollback,
        Self::Hold,
        Self::Create,
        Self::Update,
        Self::Disable,
        Self::Enable,
        Self::Delete,
    ];

    /// The name as the command line takes it and errors give it, e.g. `sign-jwt`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Sign => "sign",
            Self::SignJwt => "sign-jwt",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::Rollback => "rollback",
            Self::Hold => "hold",
            Self::Create => "create",
            Self::Update => "update",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Delete => "delete",
        }
    }

    /// The roles that allow it, the least first.
    pub fn roles(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| role.allows(self))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no action; says what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be view, sign, sign-jwt, rotate, revoke, rollback, hold, create, update, disable, enable or delete"
)]
pub struct UnknownAction;

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL.into_iter().find(|action| action.as_str() == text).ok_or(UnknownAction)
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Viewer, Self::JwtSigner, Self::Signer, Self::Operator, Self::Admin];

    /// The name as the policy writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Signer => "signer",
            Self::JwtSigner => "jwt-signer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Whether it allows `action`.
    pub const fn allows(self, action: Action) -> bool {
        match action {
            Action::View => true,
            Action::Sign => matches!(self, Self::Signer),
            Action::SignJwt => matches!(self, Self::Signer | Self::JwtSigner),
            Action::Rotate | Action::Revoke | Action::Rollback | Action::Hold => {
                matches!(self, Self::Operator | Self::Admin)
            }
            Action::Create | Action::Update | Action::Disable | Action::Enable | Action::Delete => {
                matches!(self, Self::Admin)
            }
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_allows_exactly_this() {
        let allowed = |role: Role| -> Vec<_> {
            let all = Action::ALL.into_iter().filter(|action| role.allows(*action));
            all.map(Action::as_str).collect()
        };
        assert_eq!(allowed(Role::Viewer), ["view"]);
        assert_eq!(allowed(Role::Signer), ["view", "sign", "sign-jwt"]);
        assert_eq!(allowed(Role::JwtSigner), ["view", "sign-jwt"]);
        let operator = ["view", "rotate", "revoke", "rollback", "hold"];
        assert_eq!(allowed(Role::Operator), operator);
        let more = ["create", "update", "disable", "enable", "delete"];
        assert_eq!(allowed(Role::Admin), [&operator[..], &more].concat());
    }

    #[test]
    fn an_action_is_read_as_it_is_written() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        assert_eq!("Sign".parse::<Action>(), Err(UnknownAction));
    }
}
