use proptest::prelude::*;
use rsip::prelude::*;

use super::*;

const TOKEN: Token = Token([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x1111_2222_3333_4444]);
const BRANCH: &str = "z9hG4bK0123456789abcdef";
const CALL_ID: &str = "fedcba9876543210@voip-ha";

/// As Kamailio 5.6 answers: headers of the request first, `received` only where it differs.
const KAMAILIO: &str = "SIP/2.0 200 Keepalive\r\n\
    Via: SIP/2.0/UDP 10.0.0.1:40001;branch=z9hG4bK0123456789abcdef;rport=40001;received=10.0.0.1\r\n\
    From: <sip:probe@10.0.0.1:40001>;tag=1111222233334444\r\n\
    Call-ID: fedcba9876543210@voip-ha\r\n\
    CSeq: 7 OPTIONS\r\n\
    To: <sip:10.0.0.2:5060>;tag=df3a2b9f1c0e4f1f9d9a7c1ab1a3b2c4.6bd4b5f2\r\n\
    Server: kamailio (5.6.3 (x86_64/linux))\r\n\
    Content-Length: 0\r\n\
    \r\n";

/// As Asterisk's chan_pjsip answers: parameters of the Via in another order, lists, and no user part in the Contact.
const ASTERISK: &str = "SIP/2.0 404 Not Found\r\n\
    Via: SIP/2.0/UDP 10.0.0.1:40001;rport=40001;received=10.0.0.1;branch=z9hG4bK0123456789abcdef\r\n\
    Call-ID: fedcba9876543210@voip-ha\r\n\
    From: <sip:probe@10.0.0.1>;tag=1111222233334444\r\n\
    To: <sip:10.0.0.2>;tag=z9hG4bK0123456789abcdef\r\n\
    CSeq: 7 OPTIONS\r\n\
    Accept: application/sdp, application/dialog-info+xml, application/xpidf+xml, message/sipfrag;version=2.0\r\n\
    Allow: OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH, INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, MESSAGE, REFER\r\n\
    Supported: 100rel, timer, replaces, norefersub, histinfo\r\n\
    Accept-Encoding: identity\r\n\
    Accept-Language: en\r\n\
    Server: Asterisk PBX 20.6.0\r\n\
    Content-Length:  0\r\n\
    \r\n";

/// Compact names, folded lines, spaces where RFC 3261 allows them, and a line that is not UTF-8.
const TERSE: &[u8] = b"SIP/2.0 200 \r\n\
    v : SIP / 2.0 / UDP 10.0.0.1:40001 ; rport=40001 ;\r\n\x20BRANCH = z9hG4bK0123456789abcdef\r\n\
    f: <sip:probe@10.0.0.1:40001>;tag=1111222233334444\r\n\
    t: <sip:10.0.0.2:5060>;tag=1\r\n\
    I:\r\n\tfedcba9876543210@voip-ha\r\n\
    cseq: 7\t  OPTIONS\r\n\
    Organization: B\xfcro\r\n\
    m: <sip:10.0.0.2>\r\n\
    l: 4\r\n\
    \r\nbody";

fn addresses() -> (SocketAddr, SocketAddr) {
    ("10.0.0.2:5060".parse().unwrap(), "10.0.0.1:40001".parse().unwrap())
}

fn expected(status: u16) -> Answer {
    Answer { branch: BRANCH.into(), call_id: CALL_ID.into(), cseq: 7, status }
}

fn error_with(from: &str, to: &str) -> AnswerError {
    assert!(KAMAILIO.contains(from), "{from:?} is not in the answer");
    match read_answer(KAMAILIO.replacen(from, to, 1).as_bytes()) {
        Ok(answer) => panic!("{from:?} → {to:?} was read as {answer:?}"),
        Err(error) => error,
    }
}

#[test]
fn a_probe_is_written_as_rfc_3261_wants_it() {
    let (target, local) = addresses();
    let datagram = OptionsProbe::new(target, local).request(TOKEN);
    let expected = format!(
        "OPTIONS sip:10.0.0.2:5060 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.1:40001;branch={BRANCH};rport\r\n\
         From: <sip:probe@10.0.0.1:40001>;tag=1111222233334444\r\n\
         Call-ID: {CALL_ID}\r\n\
         CSeq: 1 OPTIONS\r\n\
         Max-Forwards: 70\r\n\
         To: <sip:10.0.0.2:5060>\r\n\
         Contact: <sip:10.0.0.1:40001>\r\n\
         Accept: application/sdp\r\n\
         User-Agent: voip-ha/{}\r\n\
         Content-Length: 0\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(String::from_utf8_lossy(&datagram), expected);
}

#[test]
fn ipv6_addresses_are_in_brackets() {
    let mut probe = OptionsProbe::new("[2001:db8::2]:5060".parse().unwrap(), "[2001:db8::1]:40001".parse().unwrap());
    let text = String::from_utf8(probe.request(TOKEN).to_vec()).unwrap();
    assert!(text.starts_with("OPTIONS sip:[2001:db8::2]:5060 SIP/2.0\r\nVia: SIP/2.0/UDP [2001:db8::1]:40001;branch="));
}

#[test]
fn successive_probes_differ_in_branch_call_id_tag_and_cseq() {
    let (target, local) = addresses();
    let mut probe = OptionsProbe::new(target, local);
    let [first, second] =
        [0; 2].map(|_| Request::try_from(probe.request(Token::random().unwrap())).expect("rsip reads its own request"));
    assert_ne!(
        first.via_header().unwrap().typed().unwrap().branch(),
        second.via_header().unwrap().typed().unwrap().branch()
    );
    assert_ne!(first.call_id_header(), second.call_id_header());
    assert_ne!(first.from_header().unwrap().tag(), second.from_header().unwrap().tag());
    assert_eq!(first.cseq_header().unwrap().seq().unwrap() + 1, second.cseq_header().unwrap().seq().unwrap());
}

#[test]
fn the_cseq_wraps_before_it_becomes_invalid() {
    let (target, local) = addresses();
    let mut probe = OptionsProbe { cseq: CSEQ_LIMIT - 1, ..OptionsProbe::new(target, local) };
    assert!(String::from_utf8_lossy(&probe.request(TOKEN)).contains("CSeq: 0 OPTIONS\r\n"));
}

#[test]
fn answers_of_kamailio_asterisk_and_a_terse_server_are_believed() {
    assert_eq!(read_answer(KAMAILIO.as_bytes()), Ok(expected(200)));
    assert_eq!(read_answer(ASTERISK.as_bytes()), Ok(expected(404)));
    assert_eq!(read_answer(TERSE), Ok(expected(200)));
    assert_eq!((BRANCH, CALL_ID), (TOKEN.branch().as_str(), TOKEN.call_id().as_str()));
}

#[test]
fn only_408_and_503_and_provisional_answers_are_not_alive() {
    for status in 100..700 {
        let kind = match status {
            100..=199 => AnswerKind::Provisional,
            408 => AnswerKind::TimedOut,
            503 => AnswerKind::Overloaded,
            _ => AnswerKind::Alive,
        };
        assert_eq!(verdict(status), kind, "{status}");
    }
}

#[test]
fn a_first_line_that_is_no_status_line_is_refused() {
    for line in [
        "SIP/2.0 099 Low",
        "SIP/2.0 700 High",
        "SIP/2.0 20 Short",
        "SIP/2.0 2000 Long",
        "SIP/2.0 +20 Plus",
        "SIP/2.0 200OK",
        "SIP/2.0  200 OK",
        "SIP/2.0",
        "SIP/3.0 200 OK",
        "sip/2.0 200 OK",
        "HTTP/1.1 200 OK",
        "",
        " ",
    ] {
        assert_eq!(error_with("SIP/2.0 200 Keepalive", line), AnswerError::NotSip, "{line:?}");
    }
}

#[test]
fn a_request_is_not_an_answer_not_even_our_own_probe() {
    let (target, local) = addresses();
    let probe = OptionsProbe::new(target, local).request(TOKEN);
    assert_eq!(read_answer(&probe), Err(AnswerError::Request));
}

#[test]
fn no_part_of_an_answer_is_an_answer() {
    for whole in [KAMAILIO.as_bytes(), ASTERISK.as_bytes(), TERSE] {
        for length in 0..whole.len() {
            assert!(read_answer(&whole[..length]).is_err(), "the first {length} bytes");
        }
    }
}

#[test]
fn each_header_must_be_there_once_and_be_whole() {
    use AnswerError::{CutShort, Garbled, Missing, NoHeader, OtherMethod, Repeated};
    for (from, to, error) in [
        ("Via:", "Vie:", Missing("Via")),
        ("Call-ID:", "Call-IE:", Missing("Call-ID")),
        ("CSeq:", "CSep:", Missing("CSeq")),
        ("From:", "v:", Repeated("Via")),
        ("From:", "i:", Repeated("Call-ID")),
        ("To:", "CSEQ:", Repeated("CSeq")),
        ("Server:", "Via", NoHeader),
        ("Server:", "Ser ver:", NoHeader),
        ("Server: ", ": ", NoHeader),
        (";rport=40001", ";rport=40001, SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1", Garbled("Via")),
        (";rport=40001", ";branch=z9hG4bK0123456789abcdef", Garbled("Via")),
        (";rport=40001", ";;", Garbled("Via")),
        (";branch=z9hG4bK0123456789abcdef", "", Garbled("Via")),
        ("=z9hG4bK0123456789abcdef", "", Garbled("Via")),
        ("z9hG4bK0123456789abcdef", "", Garbled("Via")),
        ("z9hG4bK0123456789abcdef", "z9hG4bK0123456789abcdef\u{1}", Garbled("Via")),
        ("z9hG4bK0123456789abcdef", "z9hG4bK0123456789abcdef\"", Garbled("Via")),
        ("SIP/2.0/UDP", "SIP/2.0/TCP", Garbled("Via")),
        ("SIP/2.0/UDP 10.0.0.1:40001", "SIP/2.0/UDP", Garbled("Via")),
        ("fedcba9876543210@voip-ha", "", Garbled("Call-ID")),
        ("fedcba9876543210@voip-ha", "fedcba9876543210@voip-hä", Garbled("Call-ID")),
        ("fedcba9876543210@voip-ha", "fedcba9876543210@voip-ha\n", Garbled("Call-ID")),
        ("Via:", "Via\n:", NoHeader),
        ("7 OPTIONS", "OPTIONS", Garbled("CSeq")),
        ("7 OPTIONS", "7", Garbled("CSeq")),
        ("7 OPTIONS", "+7 OPTIONS", Garbled("CSeq")),
        ("7 OPTIONS", "4294967296 OPTIONS", Garbled("CSeq")),
        ("7 OPTIONS", "7 OPTIONS 7", Garbled("CSeq")),
        ("7 OPTIONS", "7 INVITE", OtherMethod("INVITE".into())),
        ("Content-Length: 0", "Content-Length: none", Garbled("Content-Length")),
        ("Content-Length: 0", "Content-Length: 1", CutShort),
    ] {
        assert_eq!(error_with(from, to), error, "{from:?} → {to:?}");
    }
}

/// One change of a datagram: (where, what kind, new byte).
fn garbled(mut datagram: Vec<u8>, changes: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    for (at, kind, byte) in changes {
        if datagram.is_empty() {
            break;
        }
        let at = at.index(datagram.len());
        match kind {
            0 => datagram[at] ^= 1 << (byte % 8),
            1 => datagram[at] = *byte,
            2 => datagram.insert(at, *byte),
            3 => drop(datagram.remove(at)),
            _ => datagram.truncate(at),
        }
    }
    datagram
}

/// Whether `field` is in `datagram` as it was, with nothing added to it.
fn intact(datagram: &[u8], field: &str) -> bool {
    let end = |byte: Option<&u8>| byte.is_none_or(|byte| b"; \t\r".contains(byte));
    let hits = datagram.windows(field.len()).enumerate().filter(|(_, window)| *window == field.as_bytes());
    hits.into_iter().any(|(at, _)| end(datagram.get(at + field.len())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_garbled_answer_matches_only_if_branch_and_call_id_are_intact(
        which in 0..3usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..5u8, any::<u8>()), 1..5),
    ) {
        let datagram = garbled([KAMAILIO.as_bytes(), ASTERISK.as_bytes(), TERSE][which].to_vec(), &changes);
        if let Ok(answer) = read_answer(&datagram) && answer.branch == BRANCH && answer.call_id == CALL_ID {
            prop_assert!(intact(&datagram, BRANCH) && intact(&datagram, CALL_ID), "{}", datagram.escape_ascii());
            prop_assert!((100..700).contains(&answer.status));
        }
    }

    #[test]
    fn what_is_not_sip_at_all_is_refused(datagram in proptest::collection::vec(any::<u8>(), 0..1500)) {
        prop_assert!(read_answer(&datagram).is_err());
    }

    #[test]
    fn a_change_in_the_branch_or_call_id_never_matches(
        in_branch: bool, at in any::<prop::sample::Index>(), flip in 1..=255u8,
    ) {
        let field = if in_branch { BRANCH } else { CALL_ID };
        let mut datagram = KAMAILIO.as_bytes().to_vec();
        datagram[KAMAILIO.find(field).unwrap() + at.index(field.len())] ^= flip;
        let answer = read_answer(&datagram);
        let matches = answer.as_ref().is_ok_and(|answer| answer.branch == BRANCH && answer.call_id == CALL_ID);
        prop_assert!(!matches, "{answer:?}");
    }
}
