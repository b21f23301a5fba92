use super::*;

fn of(message: &str) -> Scan {
    scan(&Text::of(message.replace('\n', "\r\n").as_bytes()))
}

#[test]
fn smoke() {
    let s = of("INVITE sip:b@x SIP/2.0\nVia: x\nTo: <sip:b@x>\nCall-ID: abc@def\n\n");
    assert!(s.call != 0 && !s.to_tag && s.kind == Kind::Initial && !s.gave_up, "{s:?}");
}
