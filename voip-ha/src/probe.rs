//! Probes: how the health of a server is asked for.

pub mod outstanding;
pub mod sip_options;
