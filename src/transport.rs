//! How bytes arrive: TCP or a Unix socket, with TLS or without. What is known of the other end from
//! the connection alone is a [`Peer`]; who that is, and what they may do, is [`crate::access`]'s
//! to say.
//!
//! One accept loop serves every face, so that what holds for one connection holds for all of them:
//! whatever a peer can make the service hold has a bound, and whatever it can make the service wait
//! for has an end. See [`accept`] for how a connection begins and [`Bounds`] for how it ends.

mod activity;
mod address;
mod bounds;
mod limits;
mod listener;
mod opening;
mod peer;
mod seldom;
mod server;
mod socket;
mod stream;
pub mod tls;

pub use activity::{Activity, Counted};
pub use address::{Address, InvalidAddress};
pub use bounds::Bounds;
pub use limits::Limits;
pub use listener::Listener;
pub use opening::Protocol;
pub use peer::{Credentials, Peer};
pub use server::{Connection, accept};
pub use socket::BindError;
pub use stream::Stream;
