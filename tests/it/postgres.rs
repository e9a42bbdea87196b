//! PostgreSQL beneath the service: opening it, losing it, getting it back.

mod opening;
