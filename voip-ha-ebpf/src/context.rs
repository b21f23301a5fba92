//! What a program is run for: a frame in the driver, or a packet that the kernel's stack has taken already.

use aya_ebpf::{
    EbpfContext,
    programs::{TcContext, XdpContext},
};

/// The context of a run.
pub(crate) trait Context: EbpfContext {
    /// Index of the device that the packet came in by.
    fn ingress(&self) -> u32;
}

impl Context for XdpContext {
    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.ingress_ifindex() as u32
    }
}

impl Context for TcContext {
    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: a valid context.
        unsafe { (*self.skb.skb).ifindex }
    }
}
