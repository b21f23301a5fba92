//! The probes: what is sent to a server, and what comes back.

pub mod icmp_echo;
pub mod sip_options;
