// The messages of RFC 4475, and the comparison with an independent reader, are in the package `voip-ha-fuzz`.

use super::*;

fn of(message: &str) -> Scan {
    scan(&Text::of(message.as_bytes()))
}

/// Of a message with these lines as its headers.
fn headers(lines: &str) -> Scan {
    of(&format!("INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP y\r\n{lines}\r\n\r\nv=0\r\n"))
}

fn call(lines: &str) -> u64 {
    headers(lines).call
}

fn to_tag(to: &str) -> bool {
    headers(&format!("To: {to}\r\nCall-ID: a")).to_tag
}

#[test]
fn the_same_call_is_found_however_its_header_is_written() {
    let plain = call("Call-ID: a@b");
    assert_ne!(plain, 0);
    for line in [
        "Call-ID:a@b",
        "CALL-ID: a@b",
        "cAlL-iD \t : \t a@b \t",
        "i:a@b",
        "I\t: a@b",
        "i:\r\n a@b",
        "Call-ID:\n\ta@b",
        "Call-ID: \r\n \r\n\t a@b\r\n c",
        "Call-IDs: no\r\nCall_ID: no\r\nCall\rID: no\r\nci: no\r\nid: no\r\nX-Call-ID: no\r\n i: no\r\nCall-ID: a@b",
        "i:\r\nCall-ID: a@b",
        "i: a@b\r\nCall-ID: c",
    ] {
        assert_eq!(call(line), plain, "{line:?}");
        assert_eq!(call(&line.replace("\r\n", "\n")), plain, "{line:?} with LF");
    }
}

#[test]
fn a_call_is_another_one_if_its_value_is_in_any_byte() {
    let calls =
        ["a@b", "A@b", "a@b.", "a", "a@", "aaaaaaaa", "aaaaaaab", "aaaaaaaaa"].map(|id| call(&format!("i: {id}")));
    for (number, call) in calls.iter().enumerate() {
        assert!(*call != 0 && !calls[..number].contains(call), "{calls:x?}");
    }
}

#[test]
fn no_call_is_found_where_there_is_none() {
    for lines in
        ["Call-ID:", "Call-ID: \r\nX: y", "Call-ID\r\n: a", "Call-ID a", "Via: i: a", "X: \"\r\n i: a", "\r\ni: a"]
    {
        assert_eq!(call(lines), 0, "{lines:?}");
    }
}

#[test]
fn a_byte_that_is_one_more_than_a_line_end_begins_no_line() {
    for padding in 0..16 {
        for lines in ["\n\u{b}i: a", "\n\u{b}\u{b}Call-ID: a", "\n\u{b}\ni: a"] {
            let expected = if lines.ends_with("\ni: a") { call("i: a") } else { 0 };
            assert_eq!(call(&format!("{:x<padding$}{lines}", "X: ")), expected, "{padding} {lines:?}");
        }
    }
}

#[test]
fn a_call_that_the_end_of_the_message_may_have_cut_is_none() {
    let message = "INVITE sip:b@x SIP/2.0\r\ni: abcdefgh@ijkl";
    for end in 0..=message.len() {
        assert_eq!(of(&message[..end]).call, 0, "{end}");
    }
    assert_eq!(of(&format!("{message}\r")).call, call("i: abcdefgh@ijkl"));
    let start = "INVITE sip:b@x SIP/2.0\r\nX: ";
    let long = |length| of(&format!("{start}{:x<1$}\r\ni: abcd\r\n\r\n", "", length)).call;
    let most = TEXT_BYTES - start.len() - "\r\ni: abcd\r".len();
    assert_eq!((long(most), long(most + 1)), (call("i: abcd"), 0));
}

#[test]
fn a_tag_of_to_is_a_parameter_of_the_header_itself() {
    for to in [
        "<sip:b@x>;tag=1",
        "sip:b@x;tag=1",
        "\"B\" <sip:b@x>;TAG=1",
        "<sip:b@x>;a;b=\";\";tAg=1",
        "<sip:b@x> ; tag = 1",
        "<sip:b@x>\r\n ;\r\n\ttag\r\n =\r\n 1",
        "\"\\\"\\\\\" <sip:b@x>;tag=1",
        "<sip:b@x>;;tag=1",
        "<sip:b@x>;tag;tag=1",
    ] {
        assert!(to_tag(to), "{to:?}");
    }
    for to in [
        "<sip:b@x>",
        "<sip:b@x;tag=1>",
        "\"a;tag=1\" <sip:b@x>",
        "\"a\\\";tag=1\" <sip:b@x>",
        "<sip:b@x>;tags=1",
        "<sip:b@x>;tag",
        "<sip:b@x>;a=\";tag=1\"",
        "<sip:b@x>;xtag=1",
        "<sip:b@x>\r\nX: y;tag=1",
        "<sip:b@x>;\r\ntag=1",
        "<sip:b@x\r\nX: >;tag=1",
        "<sip:b@x>\r\nTo: <sip:b@x>;tag=1",
        "",
    ] {
        assert!(!to_tag(to), "{to:?}");
    }
    assert!(headers("i: a\r\nt:<sip:b@x>;tag=1").to_tag, "after the call");
    assert!(headers("T \t:<sip:b@x>;tag=1").to_tag, "without a call");
    assert!(!headers("From: <sip:b@x>;tag=1\r\nTimestamp: 1;tag=1\r\nTox: 1;tag=1\r\ni: a").to_tag);
}

#[test]
fn the_start_line_says_what_a_message_is() {
    use Kind::*;
    for (start, kind) in [
        ("INVITE sip:b SIP/2.0", Initial),
        ("\r\n\r\nINVITE sip:b SIP/2.0", Initial),
        ("\n\n\n\n\n\n\n\nINVITE sip:b SIP/2.0", Initial),
        ("\n\n\n\n\n\n\n\n\nINVITE sip:b SIP/2.0", None),
        ("REGISTER sip:b SIP/2.0", Initial),
        ("BYES sip:b SIP/2.0", Initial),
        ("bye sip:b SIP/2.0", Initial),
        ("ACK sip:b SIP/2.0", Inside),
        ("CANCEL sip:b SIP/2.0", Inside),
        ("PRACK sip:b SIP/2.0", Inside),
        ("UPDATE sip:b SIP/2.0", Inside),
        ("INFO sip:b SIP/2.0", Inside),
        ("BYE sip:b SIP/2.0", Bye),
        ("SIP/2.0 100 Trying", Provisional),
        ("sip/2.0 199", Provisional),
        ("SIP/2.0 200 OK", Final),
        ("SIP/2.0 699 ?", Final),
        ("SIP/2.0 700 ?", None),
        ("SIP/2.0  200 OK", None),
        (" INVITE sip:b SIP/2.0", None),
        ("\0\u{1}", None),
    ] {
        let found = of(&format!("{start}\r\ni: a\r\n\r\n"));
        assert_eq!((found.kind, found.call != 0, found.gave_up), (kind, kind != None, false), "{start:?}");
    }
    for nothing in ["", "\r\n\r\n", "\0", &"\n".repeat(500)] {
        assert_eq!(of(nothing), Scan { call: 0, kind: None, to_tag: false, gave_up: false }, "{nothing:?}");
    }
}

#[test]
fn a_message_made_to_cost_much_is_given_up() {
    let lines = |count| headers(&format!("{}i: a", "X\n".repeat(count)));
    assert_eq!((lines(200).call, lines(200).gave_up), (call("i: a"), false));
    assert_eq!((lines(300).call, lines(300).gave_up), (0, true));
    let to = headers(&format!("i: a\r\nTo: {}tag=1", ";".repeat(500)));
    assert!(to.gave_up && !to.to_tag && to.call == call("i: a"), "what was found before stays found: {to:?}");
}
