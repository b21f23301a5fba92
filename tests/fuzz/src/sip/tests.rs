use std::collections::HashSet;

use proptest::prelude::*;
use rsip::prelude::{HeadersExt as _, ToTypedHeader as _, UntypedHeader as _};
use voip_ha_ebpf::sip::TEXT_BYTES;

use super::{
    judge::{plainly, read},
    messages::ALL,
    *,
};

#[test]
fn what_is_in_a_message_is_found_by_the_scanner_and_by_the_judge_of_it() {
    for example in &ALL {
        for line_end in ["\r\n", "\n"] {
            let message = example.bytes(line_end);
            let (found, read) = (scanned(&message).unwrap(), read(&message));
            let call = if example.call.is_empty() { 0 } else { plainly(example.call.as_bytes()) };
            let expected = Scan { call, kind: example.kind, to_tag: example.to_tag, gave_up: false };
            assert_eq!(found, expected, "{}", example.name);
            assert_eq!(read.call.unwrap_or_default(), example.call.as_bytes(), "{}", example.name);
            assert_eq!((read.kind, read.to_tag), (example.kind, example.to_tag), "{}", example.name);
        }
    }
}

#[test]
fn rsip_reads_the_same_in_the_messages_that_it_knows_the_headers_of() {
    let mut agreed = 0;
    for example in &ALL {
        let Ok(message) = rsip::SipMessage::try_from(example.bytes("\r\n")) else { continue };
        let (Ok(call), Ok(to)) = (message.call_id_header(), message.to_header()) else { continue };
        let Ok(to) = to.clone().into_typed() else { continue };
        let found = scanned(&example.bytes("\r\n")).unwrap();
        assert_eq!(found.call, plainly(call.value().trim().as_bytes()), "{}", example.name);
        assert_eq!(found.to_tag, to.tag().is_some(), "{}", example.name);
        agreed += 1;
    }
    assert!(agreed >= 9, "only {agreed} messages were compared");
}

#[test]
fn a_message_cut_anywhere_or_with_any_byte_changed_is_read_right() {
    for seed in seeds() {
        for at in 0..seed.len() {
            check(&seed[..at]).unwrap();
            for byte in [0, b'\n', 0x0b, b' ', b';', b'"', b'<', seed[at] ^ 0x20, seed[at] ^ 0x80] {
                let mut changed = seed.clone();
                changed[at] = byte;
                check(&changed).unwrap();
            }
        }
    }
}

#[test]
fn a_message_moved_to_any_place_in_a_word_and_beyond_the_limit_is_read_right() {
    for example in &ALL {
        let message = example.bytes("\r\n");
        let Some(start) = message.iter().position(|byte| *byte == b'\n') else { continue };
        for length in (0..9).chain(TEXT_BYTES - message.len() - 16..TEXT_BYTES) {
            let padding = [b"X: ", vec![b'x'; length].as_slice(), b"\r\n"].concat();
            let mut moved = message.clone();
            moved.splice(start + 1..start + 1, padding);
            check(&moved).unwrap();
        }
    }
}

#[test]
fn calls_have_hashes_of_their_own() {
    let ids = (0..200_000).flat_map(|number| [format!("{number}"), format!("{number}-4242@198.51.100.7")]);
    let cases = ["a@B", "A@b", "a@b", "a@b\u{80}", "a", "aaaaaaaa", "aaaaaaa", "aaaaaaaaa"].map(str::to_owned);
    let ids: HashSet<_> = ids.chain(cases).collect();
    let hashes: HashSet<_> = ids.iter().map(|id| plainly(id.as_bytes())).collect();
    assert_eq!((hashes.len(), hashes.contains(&0)), (ids.len(), false));
}

/// Pieces of which the scanner looks at most, in any order.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "\r\n", "\n", "\r", " ", "\t", ":", ";", "=", "\"", "\\", "<", ">", "to", "T", "Call-ID", "i", "tag", "a", "\r\n\r\n",
            "\r\nTo:", "\r\ni:", "\nCALL-id :", ";tag=", "; TAG\r\n =", "abcdefgh", "0123456789abcdef@192.0.2.1", "\u{0}", "\u{80}",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    let line = prop::sample::select(vec![
        "INVITE sip:a",
        "BYE ",
        "SIP/2.0 200",
        "SIP/2.0 1",
        "\r\n\r\nACK x",
        "sip/2.0 9",
        "",
    ]);
    (line, prop::collection::vec(piece, 0..120))
        .prop_map(|(line, pieces)| [line.as_bytes().to_vec(), pieces.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_is_made_of_what_means_something_is_read_right(message in pieces()) {
        check(&message).map_err(|fault| TestCaseError::fail(format!("{fault:#}")))?;
    }

    #[test]
    fn a_changed_message_is_read_right(seed in prop::sample::select(seeds()), randoms in prop::collection::vec(any::<u64>(), 1..8)) {
        let mut message = seed;
        randoms.into_iter().for_each(|random| mutate(&mut message, random));
        check(&message).map_err(|fault| TestCaseError::fail(format!("{fault:#}")))?;
    }

    #[test]
    fn bytes_without_meaning_are_read_right(message in prop::collection::vec(any::<u8>(), 0..3000)) {
        check(&message).map_err(|fault| TestCaseError::fail(format!("{fault:#}")))?;
    }
}
