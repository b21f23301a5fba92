//! Running the XDP program on a frame without sending anything: BPF_PROG_TEST_RUN.

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    TestRunOptions,
    programs::{TestRun as _, Xdp},
};

/// What the program says to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAction {
    /// It ends here.
    Drop,
    /// The kernel's stack gets it.
    Pass,
    /// It leaves by another device, or by the same.
    Redirect,
    /// It goes back to where it came from.
    Transmit,
}

impl XdpAction {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Pass => "pass",
            Self::Redirect => "redirect",
            Self::Transmit => "transmit",
        }
    }
}

/// What the program did to one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The verdict.
    pub act: XdpAction,
    /// The frame as it is then.
    pub frame: Vec<u8>,
}

/// Gives a program a frame as if it came in by `ifindex`, a device of this network namespace with an XDP program. Nothing is
/// sent; what the program writes into its maps is written.
///
/// # Errors
///
/// The kernel refuses, as it does a frame that is too short or too long for XDP.
pub fn rehearse(program: &Xdp, ifindex: u32, frame: &[u8]) -> Result<Ran> {
    let mut out = vec![0; frame.len()];
    let context = context(ifindex, frame.len());
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: Some(&context),
        ..TestRunOptions::default()
    };
    let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
    ensure!(result.data_size_out as usize <= frame.len(), "the program made the frame longer");
    out.truncate(result.data_size_out as usize);
    // The numbers of enum xdp_action.
    let act = match result.return_value {
        1 => XdpAction::Drop,
        2 => XdpAction::Pass,
        3 => XdpAction::Transmit,
        4 => XdpAction::Redirect,
        other => bail!("the program answers {other}"),
    };
    Ok(Ran { act, frame: out })
}

/// A `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
pub fn context(ifindex: u32, length: usize) -> Vec<u8> {
    [0, length as u32, 0, ifindex, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect()
}
