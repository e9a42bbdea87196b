//! What the management thread does: generate, find, list, destroy. It has a session of its own, so
//! that an RSA key which takes seconds to generate keeps no signer waiting.

use super::error::Cure;
use super::object::{self, Pair};
use super::seat::Seat;
use super::token::Patience;
use super::worker::Shared;
use crate::backend::{Error, Kind, Listed, Material, Order};
use crate::key::{KeySpec, MaterialId};
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
        // To a session that is logged out every key looks like the half of one.
        occupant.ask_login()?;
        match object::find(&occupant.session, order.material)? {
            Pair { private: Some(_), .. } => Err(Error::new(
                Kind::Inconsistent,
                "C_GenerateKeyPair",
                format!("there is a key with CKA_ID {} already", order.material),
            )
            .into()),
            Pair { public: None, .. } => Ok(()),
            // What a crash left of an earlier generation.
            Pair { public: Some(public), .. } => {
                object::must_be_ours(&occupant.session, public, order.material)?;
                Ok(occupant.session.destroy_object(public)?)
            }
        }
    })?;
    let link = token.connected(Patience::KeepPause)?;
    let generated =
        token.attempt(&link, seat, deadline, |occupant| object::generate(&occupant.session, order));
    let fault = match generated {
        Ok(material) => return Ok(material),
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

/// The key pair of that id. That there is none is believed only while the token itself answers.
pub(super) fn find(
    shared: &Shared,
    seat: &Seat,
    material: MaterialId,
    spec: KeySpec,
    deadline: Instant,
) -> Result<Option<Material>, Error> {
    shared.token.run(seat, deadline, Patience::KeepPause, |occupant, _| {
        let found = object::read(&occupant.session, material, spec)?;
        if found.is_none() {
            occupant.ask_token()?;
        }
        Ok(found.map(|(_, public)| Material { object: object::reference(material), public }))
    })
}

/// Destroys every object under that id; that there is none is success, while the token itself
/// answers. Nothing is destroyed before it is sure that the private objects could be seen, or the
/// public half would go and the private one stay.
pub(super) fn destroy(
    shared: &Shared,
    seat: &Seat,
    material: MaterialId,
    deadline: Instant,
) -> Result<(), Error> {
    shared.fates.is_disabled(material);
    shared
        .token
        .run(seat, deadline, Patience::KeepPause, |occupant, _| {
            occupant.ask_token()?;
            let objects = object::ours(&occupant.session, material)?;
            occupant.ask_token()?;
            for object in objects {
                occupant.session.destroy_object(object)?;
            }
            Ok(())
        })
        .map_err(Error::outcome_unknown)?;
    shared.fates.is_destroyed(material);
    Ok(())
}

/// Everything that carries our label; that there is nothing is believed only while the token itself
/// answers.
pub(super) fn list(shared: &Shared, seat: &Seat, deadline: Instant) -> Result<Vec<Listed>, Error> {
    shared.token.run(seat, deadline, Patience::KeepPause, |occupant, _| {
        let listed = object::list(&occupant.session)?;
        occupant.ask_token()?;
        Ok(listed)
    })
}
