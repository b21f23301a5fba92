//! The scanner in the kernel, where a program may not loop as long as it likes.

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::generated::{bpf_loop, bpf_skb_load_bytes, bpf_xdp_load_bytes},
};

use super::{MOST_STEPS, Scan, TEXT_BYTES, Text, scanner::Scanner};

/// Steps in one turn of the kernel's loop, which is a call that costs as much as a step does. With 4 a message costs three fifths of
/// what it does with 1; 8 save a tenth more, and the verifier walks through three times as much.
const STEPS_OF_TURN: u32 = 4;
const _: () = assert!(MOST_STEPS.is_multiple_of(STEPS_OF_TURN));

/// Where a message is scanned: the value of a map, one for each processor.
///
/// The scanner is in it too. On the stack the verifier would follow each of its fields, and walk through a step again and again for
/// what they may be together.
#[repr(C)]
pub struct Desk {
    text: Text,
    scanner: Scanner,
}

impl Desk {
    /// Scans the message of so many bytes that begins at this place of the frame, as [`scan`](super::scan) does. Nothing, if the
    /// frame has not so many, or the message has none. Linux 5.18.
    ///
    /// # Safety
    ///
    /// The context must be that of the running program.
    #[inline(always)]
    pub unsafe fn scan(&mut self, ctx: *mut xdp_md, offset: u32, length: u32) -> Option<Scan> {
        // SAFETY: a valid context, and room for so many bytes.
        self.scan_loaded(length, |room, length| unsafe { bpf_xdp_load_bytes(ctx, offset, room, length) })
    }

    /// The same for a packet of the kernel's stack.
    ///
    /// # Safety
    ///
    /// As above.
    #[inline(always)]
    pub unsafe fn scan_packet(&mut self, ctx: *mut __sk_buff, offset: u32, length: u32) -> Option<Scan> {
        // SAFETY: as above.
        self.scan_loaded(length, |room, length| unsafe { bpf_skb_load_bytes(ctx.cast(), offset, room, length) })
    }

    #[inline(always)]
    fn scan_loaded(&mut self, length: u32, load: impl FnOnce(*mut c_void, u32) -> i64) -> Option<Scan> {
        let length = if length > TEXT_BYTES as u32 { TEXT_BYTES as u32 } else { length };
        // Or the compiler asks this of what the length was computed from, where the verifier does not see it.
        let length = black_box(length);
        if length == 0 || length > TEXT_BYTES as u32 {
            return None;
        }
        if load(self.text.room().cast(), length) != 0 {
            return None;
        }
        self.text.end(u64::from(length));
        self.scanner = Scanner::new();
        let mut desk: *mut Self = self;
        // SAFETY: the function takes what it is given here, and the kernel calls it before this returns.
        unsafe { bpf_loop(MOST_STEPS / STEPS_OF_TURN, turn as *mut c_void, (&raw mut desk).cast(), 0) };
        Some(self.scanner.scan())
    }
}

/// Returns 1 to end the loop. The verifier walks through this a few times, not as often as it is called.
unsafe extern "C" fn turn(_number: u64, desk: *mut c_void) -> i64 {
    // SAFETY: it is what `scan` hands over: a pointer to a desk that nothing else uses meanwhile.
    let Desk { text, scanner } = unsafe { &mut **desk.cast::<*mut Desk>() };
    for _ in 0..STEPS_OF_TURN {
        if !scanner.step(text) {
            return 1;
        }
    }
    0
}
