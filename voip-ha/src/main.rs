//! The `voip-ha` command.

fn main() {}
