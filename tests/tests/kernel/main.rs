//! The XDP program in the kernel, frame by frame: loaded by the real datapath, run by BPF_PROG_TEST_RUN.

mod adoption;
mod agreement;
mod calls;
mod frame;
mod generate;
mod judge;
mod ledger;
mod live;
mod masquerade;
mod model;
mod net;
mod noted;
mod pins;
mod protection;
mod replica;
mod rig;
mod signals;
mod steering;
mod tunnels;
mod verifier;
