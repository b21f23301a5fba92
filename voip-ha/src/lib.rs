//! The user side of voip-ha: configuration, detection, decision, and the hand on the kernel's maps.
//!
//! Failure information flows one way: the [`monitor`] asks by [`probe`]s and makes [`evidence`] of what comes back and what
//! does not, the [`detector`] makes that health, the [`decision`] makes that an active server, and the [`controller`]
//! writes it into the [`datapath`].

pub mod cli;
pub mod config;
pub mod control;
pub mod controller;
pub mod datapath;
pub mod decision;
pub mod detector;
pub mod engine;
pub mod event;
pub mod evidence;
pub mod gateway;
pub mod ids;
pub mod journal;
pub mod monitor;
pub mod network;
pub mod nexthop;
pub mod plan;
pub mod probe;
pub mod receipt;
pub mod record;
pub mod report;
pub mod status;
pub mod sysctl;
pub mod trace;
