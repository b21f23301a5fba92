//! ICMP echo (RFC 792; RFC 4443 for IPv6): a question that the kernel of the server's host answers, whatever its processes do.

use std::{io, net::IpAddr};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::ids::Family;

/// Type of a reply.
pub const ECHO_REPLY: u8 = 0;
/// Type of a reply by IPv6.
pub const ECHO_REPLY_V6: u8 = 129;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const HEADER: usize = 8;
const SECRET: usize = 16;
/// Bytes of a request: header, secret, number.
pub const LENGTH: usize = HEADER + SECRET + size_of::<u64>();

/// Writes the requests to one server and recognises the replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoProbe {
    family: Family,
    identifier: [u8; 2],
    /// Nobody who has not seen a request can make up its reply.
    secret: [u8; SECRET],
}

impl EchoProbe {
    /// A probe of this address with an identifier and a secret of its own.
    ///
    /// # Errors
    ///
    /// If the kernel gives no random numbers; since Linux 3.17 it always does.
    pub fn new(address: IpAddr) -> io::Result<Self> {
        let (mut identifier, mut secret) = ([0; 2], [0; SECRET]);
        getrandom(&mut identifier, GetRandomFlags::empty())?;
        getrandom(&mut secret, GetRandomFlags::empty())?;
        Ok(Self { family: Family::of(address), identifier, secret })
    }

    /// The request with this number. By IPv6 without its checksum, which the kernel of a raw socket adds (RFC 3542, 3.1): it
    /// covers addresses that only the kernel knows.
    pub fn request(&self, number: u64) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = self.types().0;
        bytes[4..6].copy_from_slice(&self.identifier);
        bytes[6..8].copy_from_slice(&(number as u16).to_be_bytes());
        bytes[HEADER..HEADER + SECRET].copy_from_slice(&self.secret);
        bytes[HEADER + SECRET..].copy_from_slice(&number.to_be_bytes());
        if self.family == Family::V6 {
            return bytes;
        }
        let checksum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// The number of the request that what a raw socket received is the reply to; `None` if it is none of ours. By IPv4 that
    /// is a whole packet, by IPv6 a message whose checksum the kernel has looked at.
    pub fn read_reply(&self, packet: &[u8]) -> Option<u64> {
        let message = match self.family {
            Family::V4 => packet.get(usize::from(packet.first()? & 0x0f) * 4..).filter(|m| checksum(m) == 0)?,
            Family::V6 => packet,
        };
        if message.len() != LENGTH {
            return None;
        }
        let number = u64::from_be_bytes(message[HEADER + SECRET..].try_into().ok()?);
        let mut expected = self.request(number);
        expected[0] = self.types().1;
        // The checksum has been looked at, and is another one because the type is.
        (message[..2] == expected[..2] && message[4..] == expected[4..]).then_some(number)
    }

    /// Of a request and a reply.
    fn types(&self) -> (u8, u8) {
        match self.family {
            Family::V4 => (ECHO_REQUEST, ECHO_REPLY),
            Family::V6 => (ECHO_REQUEST_V6, ECHO_REPLY_V6),
        }
    }
}

/// RFC 1071. Zero over a message that has the right one.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn probe() -> EchoProbe {
        EchoProbe::new(Ipv4Addr::LOCALHOST.into()).unwrap()
    }

    fn reply(probe: &EchoProbe, number: u64) -> Vec<u8> {
        let mut message = probe.request(number);
        message[0] = ECHO_REPLY;
        message[2..4].fill(0);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x45; 20];
        packet.extend(message);
        packet
    }

    #[test]
    fn a_reply_gives_the_number_of_its_request_and_a_request_gives_none() {
        let probe = probe();
        for number in [0, 1, 0xffff, 0x1_0000, u64::MAX] {
            assert_eq!(probe.read_reply(&reply(&probe, number)), Some(number));
        }
        let request = [&[0x45; 20][..], &probe.request(7)].concat();
        assert_eq!(probe.read_reply(&request), None);
        assert_eq!(checksum(&probe.request(7)), 0);
    }

    #[test]
    fn a_reply_with_any_bit_wrong_or_any_byte_missing_is_none() {
        let probe = probe();
        let good = reply(&probe, 7);
        for bit in 20 * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(probe.read_reply(&bad), None, "bit {bit}");
        }
        for length in 0..good.len() {
            assert_eq!(probe.read_reply(&good[..length]), None, "{length} bytes");
        }
        assert_eq!(self::probe().read_reply(&good), None, "another gateway's");
    }

    #[test]
    fn by_ipv6_a_reply_is_the_message_alone_and_differs_from_its_request_by_the_type_only() {
        let probe = EchoProbe::new(Ipv6Addr::LOCALHOST.into()).unwrap();
        let request = probe.request(7);
        assert_eq!((request[0], &request[2..4]), (128, &[0, 0][..]), "the kernel adds the checksum");
        assert_eq!(probe.read_reply(&request), None);
        let mut good = request;
        good[0] = 129;
        good[2..4].copy_from_slice(&[0xab, 0xcd]);
        assert_eq!(probe.read_reply(&good), Some(7));
        // Another number may be asked for; the kernel's checksum keeps bits from doing so by themselves.
        for bit in (0..(HEADER + SECRET) * 8).filter(|bit| !(16..32).contains(bit)) {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(probe.read_reply(&bad), None, "bit {bit}");
        }
    }
}
