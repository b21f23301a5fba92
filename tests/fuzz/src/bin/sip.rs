//! libFuzzer on the scanner of SIP messages.
#![no_main]

use voip_ha_fuzz::{seed, sip, tell};

libfuzzer_sys::fuzz_target!(init: seed(sip::seeds()), |message: &[u8]| tell(sip::check(message)));

// By turns a piece that means something, and whatever libFuzzer has learnt from comparisons and other inputs.
libfuzzer_sys::fuzz_mutator!(|input: &mut [u8], size: usize, max_size: usize, random: u32| {
    if random >> 31 == 0 {
        let mut message = input[..size].to_vec();
        sip::mutate(&mut message, u64::from(random).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        message.truncate(max_size);
        input[..message.len()].copy_from_slice(&message);
        message.len()
    } else {
        libfuzzer_sys::fuzzer_mutate(input, size, max_size)
    }
});
