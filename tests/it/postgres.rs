//! PostgreSQL beneath the service: opening it, losing it, getting it back.

mod hold;
mod opening;
mod outages;
mod proxy;
mod service;
mod tls;
