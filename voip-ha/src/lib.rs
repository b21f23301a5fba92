//! The user side of voip-ha.
