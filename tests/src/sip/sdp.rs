//! Session descriptions (RFC 8866) of one G.711 stream.

use std::net::{IpAddr, SocketAddr};

/// Offers or accepts one audio stream, received at `media`.
pub fn describe(media: SocketAddr) -> String {
    let (address, port) = (media.ip(), media.port());
    let kind = if address.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=lab {id} 1 IN {kind} {address}\r\ns=-\r\nc=IN {kind} {address}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n",
        id = fastrand::u32(..)
    )
}

/// Where the sender of a description wants its audio, or None if it says no address and port. A `c=` line after `m=`
/// takes precedence over one before it.
pub fn media(description: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(description).ok()?;
    let mut port = None;
    let mut address: Option<IpAddr> = None;
    for line in text.lines() {
        if let Some(found) = line.strip_prefix("c=IN IP4 ").or(line.strip_prefix("c=IN IP6 ")) {
            address = found.trim().parse().ok();
        } else if let Some(audio) = line.strip_prefix("m=audio ") {
            port = audio.split(' ').next().and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        } else if line.starts_with("m=") && port.is_some() {
            break;
        }
    }
    Some(SocketAddr::new(address?, port?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_as_it_was_written() {
        for address in ["192.0.2.10:10002", "[2001:db8::10]:10002"].map(|text| text.parse().unwrap()) {
            assert_eq!(media(describe(address).as_bytes()), Some(address));
        }
    }

    #[test]
    fn the_address_of_the_audio_stream_wins_and_a_refused_stream_has_none() {
        let text = "v=0\nc=IN IP4 10.0.0.1\nm=audio 4000 RTP/AVP 0\nc=IN IP4 10.0.0.2\nm=video 5000 RTP/AVP 96\n\
                    c=IN IP4 10.0.0.3\n";
        assert_eq!(media(text.as_bytes()), Some("10.0.0.2:4000".parse().unwrap()));
        assert_eq!(media(b"c=IN IP4 10.0.0.1\r\nm=audio 0 RTP/AVP 0\r\n"), None);
        assert_eq!(media(b"m=audio 4000 RTP/AVP 0\r\n"), None);
    }
}
