//! The SIP and RTP server of the lab.

fn main() {}
