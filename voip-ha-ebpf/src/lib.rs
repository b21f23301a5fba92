//! What the kernel and user space of voip-ha share: the layout of every map, and the pure packet logic.
#![cfg_attr(not(test), no_std)]
