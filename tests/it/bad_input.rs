//! Whatever comes in, from callers or from the machine: a typed error, no panic, and the service
//! still up.

mod machine;
mod requests;
