//! IPv6 addresses in SIP: rsip cannot read `[2001:db8::10]`, so inside the lab such a host is a name that holds the address.
//! On the wire it is written as RFC 3261 wants it.

use std::net::{IpAddr, SocketAddr};

const BEGIN: &str = "ip6.";
const END: &str = ".lab";

/// Host and port as the lab's own messages name them.
pub fn host_port(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(v4) => format!("{v4}:{}", address.port()),
        IpAddr::V6(v6) => format!("{}:{}", name(&v6.to_string()), address.port()),
    }
}

/// A message from the wire, with names in place of bracketed addresses.
pub fn hide(message: &[u8]) -> Vec<u8> {
    let Ok(text) = str::from_utf8(message) else { return message.to_vec() };
    replace(text, "[", "]", |address| address.parse::<std::net::Ipv6Addr>().ok().map(|_| name(address)))
}

/// A message for the wire, with bracketed addresses in place of names.
pub fn show(message: &[u8]) -> Vec<u8> {
    let Ok(text) = str::from_utf8(message) else { return message.to_vec() };
    replace(text, BEGIN, END, |name| Some(format!("[{}]", name.replace('-', ":"))))
}

fn name(address: &str) -> String {
    format!("{BEGIN}{}{END}", address.replace(':', "-"))
}

/// Replaces what stands between `begin` and `end`, and these, wherever `other` gives something else for it.
fn replace(text: &str, begin: &str, end: &str, other: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let (mut done, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(begin) {
        done.push_str(before);
        match after.split_once(end).and_then(|(inside, after)| Some((other(inside)?, after))) {
            Some((new, after)) => {
                done.push_str(&new);
                rest = after;
            }
            None => {
                done.push_str(begin);
                rest = after;
            }
        }
    }
    (done + rest).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_read_by_rsip_and_shown_as_it_was() {
        let wire = "OPTIONS sip:[2001:db8::10]:5060 SIP/2.0\r\nVia: SIP/2.0/UDP [2001:db8::64]:4000;branch=z9hG4bK1\r\n\
                    X: [no address] [\r\nContent-Length: 0\r\n\r\n";
        let hidden = hide(wire.as_bytes());
        let request = rsip::Request::try_from(&hidden[..]).unwrap();
        assert_eq!(request.uri.to_string(), "sip:ip6.2001-db8--10.lab:5060");
        assert_eq!(show(&hidden), wire.as_bytes());
        assert_eq!(host_port("[2001:db8::10]:5060".parse().unwrap()), "ip6.2001-db8--10.lab:5060");
        assert_eq!(host_port("192.0.2.10:5060".parse().unwrap()), "192.0.2.10:5060");
    }
}
