//! The user side of voip-ha.

pub mod config;
