//! The user side of voip-ha: configuration, detection, decision, and the hand on the kernel's maps.
//!
//! Failure information flows one way: [`probe`]s give evidence, the [`detector`] makes it health, the [`decision`]
//! makes that an active server, and the [`controller`] writes it into the [`datapath`].

pub mod config;
pub mod datapath;
pub mod decision;
pub mod detector;
pub mod engine;
pub mod event;
pub mod ids;
// pub mod probe;
