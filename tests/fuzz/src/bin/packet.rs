//! libFuzzer on the packet path.
#![no_main]

use voip_ha_fuzz::{packet, seed, tell};

libfuzzer_sys::fuzz_target!(init: seed(packet::seeds()), |input: &[u8]| tell(packet::check(input)));

// By turns a field that means something, and whatever libFuzzer has learnt from comparisons and other inputs.
libfuzzer_sys::fuzz_mutator!(|input: &mut [u8], size: usize, max_size: usize, random: u32| {
    if random >> 31 == 0 {
        packet::mutate(&mut input[..size], random);
        size
    } else {
        libfuzzer_sys::fuzzer_mutate(input, size, max_size)
    }
});
