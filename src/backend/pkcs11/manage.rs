//! What the management thread does: generate, find, list, destroy. It has a session of its own, so
//! that an RSA key which takes seconds to generate keeps no signer waiting.

use super::error::{Cure, Fault};
use super::object::{self, Pair};
use super::seat::Seat;
use super::token::Patience;
use super::worker::Shared;
use crate::backend::{Error, Kind, Listed, Material, Order};
use crate::key::{KeySpec, MaterialId};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Generates a key pair. Tried once: after a fault of the token nobody knows what it has made.
pub(super) fn generate(
    shared: &Shared,
    seat: &Seat,
    order: &Order,
    deadline: Instant,
) -> Result<Material, Error> {
    let token = &shared.token;
    token.run(seat, deadline, Patience::KeepPause, |occupant, _| {
        match object::find(&occupant.session, order.material)? {
            Pair {
                private: Some(_), ..
            } => Err(Error::new(
                Kind::Inconsistent,
                "C_GenerateKeyPair",
                format!("there is a key with CKA_ID {} already", order.material),
            )
            .into()),
            Pair { public: None, .. } => Ok(()),
            // What a crash left of an earlier generation.
            Pair {
                public: Some(public),
                ..
            } => Ok(occupant.session.destroy_object(public)?),
        }
    })?;
    let link = token.connected(Patience::KeepPause)?;
    let generated = token.attempt(&link, seat, deadline, |occupant| {
        object::generate(&occupant.session, order)
    });
    let fault = match generated {
        Ok(material) => {
            shared.has_keys.store(true, Ordering::Relaxed);
            return Ok(material);
        }
        Err(fault) => fault,
    };
    match fault.cure() {
        Cure::None => Err(fault.into_error()),
        Cure::Reinitialise | Cure::OnceMore => {
            // For the sake of what comes next; this generation has failed either way.
            if let Err(error) = token.heal(link.generation, &fault) {
                tracing::debug!(%error, "the token is still out after a failed generation");
            }
            Err(fault.into_error().outcome_unknown())
        }
        _ => Err(fault.into_error().outcome_unknown()),
    }
}

/// The key pair of that id. That there is none is believed if the token shows anything else, or
/// has just been initialised.
pub(super) fn find(
    shared: &Shared,
    seat: &Seat,
    material: MaterialId,
    spec: KeySpec,
    deadline: Instant,
) -> Result<Option<Material>, Error> {
    let found =
        shared.token.run(
            seat,
            deadline,
            Patience::KeepPause,
            |occupant, _| match object::read(&occupant.session, material, spec)? {
                Some((_, public)) => Ok(Some(Material {
                    object: object::reference(material),
                    public,
                })),
                None if object::sees_anything(&occupant.session)? => Ok(None),
                None => Err(Fault::Empty),
            },
        );
    match found {
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        Ok(Some(found)) => {
            shared.has_keys.store(true, Ordering::Relaxed);
            Ok(Some(found))
        }
        found => found,
    }
}

/// Destroys every object under that id; that there is none is success, once it is certain.
pub(super) fn destroy(
    shared: &Shared,
    seat: &Seat,
    material: MaterialId,
    deadline: Instant,
) -> Result<(), Error> {
    shared.fates.is_disabled(material);
    let destroyed = shared
        .token
        .run(seat, deadline, Patience::KeepPause, |occupant, _| {
            occupant.forget(material);
            if object::destroy(&occupant.session, material)? > 0
                || object::sees_anything(&occupant.session)?
            {
                Ok(())
            } else {
                Err(Fault::Empty)
            }
        });
    match destroyed {
        Ok(()) => {}
        Err(error) if error.kind == Kind::NotFound => {}
        Err(error) => return Err(error.outcome_unknown()),
    }
    shared.fates.is_destroyed(material);
    Ok(())
}

/// Everything that carries our label.
pub(super) fn list(shared: &Shared, seat: &Seat, deadline: Instant) -> Result<Vec<Listed>, Error> {
    let listed = shared
        .token
        .run(seat, deadline, Patience::KeepPause, |occupant, _| {
            let listed = object::list(&occupant.session)?;
            if listed.is_empty() && !object::sees_anything(&occupant.session)? {
                return Err(Fault::Empty);
            }
            Ok(listed)
        });
    match listed {
        Err(error) if error.kind == Kind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}
