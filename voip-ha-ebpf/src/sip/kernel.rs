//! The scanner in the kernel, for which the XDP program may not loop as long as it likes.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_loop, bpf_xdp_load_bytes},
};

use super::{MOST_STEPS, Scan, TEXT_BYTES, Text, scanner::Scanner};

/// What is handed from step to step.
struct Loop {
    scanner: Scanner,
    text: *const Text,
}

/// Takes in the message of so many bytes that begins at this place of the frame. Linux 5.18.
///
/// Says whether there is one.
///
/// # Safety
///
/// The context must be that of the running program.
#[inline(always)]
pub unsafe fn load(ctx: *mut xdp_md, text: &mut Text, offset: u32, length: u32) -> bool {
    let length = if length > TEXT_BYTES as u32 { TEXT_BYTES as u32 } else { length };
    if length == 0 {
        return false;
    }
    // SAFETY: a valid context, and room for so many bytes.
    if unsafe { bpf_xdp_load_bytes(ctx, offset, text.room().cast(), length) } != 0 {
        return false;
    }
    text.end(u64::from(length));
    true
}

/// [`scan`](super::scan) by the kernel's loop, whose body the verifier walks through once. Linux 5.17.
#[inline(always)]
pub fn scan_loaded(text: &Text) -> Scan {
    let mut state = Loop { scanner: Scanner::new(), text };
    // SAFETY: the function takes what it is given here, and the kernel calls it before this returns.
    unsafe { bpf_loop(MOST_STEPS, step as *mut c_void, (&raw mut state).cast(), 0) };
    state.scanner.scan()
}

/// Returns 1 to end the loop.
unsafe extern "C" fn step(_number: u64, state: *mut c_void) -> i64 {
    // SAFETY: it is what `scan_loaded` hands over.
    let state = unsafe { &mut *state.cast::<Loop>() };
    // SAFETY: as above.
    let text = unsafe { &*state.text };
    i64::from(!state.scanner.step(text))
}
