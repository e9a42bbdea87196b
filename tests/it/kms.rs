//! AWS KMS as a backend, against an emulator that keeps its accounts apart and a proxy that fails
//! as KMS does.

mod proxy;
