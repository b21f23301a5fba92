//! The lab: namespaces with phones, a gateway, a master and a backup server, an RTP meter, a small SIP/RTP server, and the
//! same with real Kamailio and sipp. It drives the gateway as a process, by its command line and its configuration file.

pub mod bench;
pub mod bench_datapath;
pub mod demo;
pub mod gateway;
pub mod message;
pub mod meter;
pub mod netns;
pub mod phone;
pub mod process;
pub mod real;
mod root;
pub mod rtp;
pub mod server;
mod show;
pub mod sip;
mod site;
pub mod topology;
pub mod trial;
pub mod tunnel;
pub mod wait;

pub use root::{program, require_root};
pub use topology::{Lab, Layout, Options};
