//! What the kernel and user space of voip-ha share: the layout of every map, and the pure packet logic.
//!
//! Everything here builds for the host as well, where it is tested without a kernel. The XDP program itself is
//! `main.rs`, behind the feature `kernel`.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod checksum;
pub mod limit;
pub mod pace;
pub mod packet;
pub mod rewrite;
pub mod sip;
pub mod steer;
