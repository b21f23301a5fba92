//! What does not fit into one packet: long SIP messages in fragments, paths with a smaller MTU, and the ICMP errors that speak of
//! both sides' packets.

use std::{
    net::{SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::Result;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, UdpHeader};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway},
    message::{Caller, icmp, output},
    process::Process,
    real::RealServer,
    server,
    topology::SIP,
    wait,
};
use rustix::net::{AddressFamily, SendFlags, SocketType};

const SECOND: Duration = Duration::from_secs(1);
const PHONE: &str = "192.0.2.100:5062";
/// Most bytes of a datagram that fits into one Ethernet frame over IPv4.
const ONE_FRAME: usize = 1472;

/// Labs that measure nothing.
fn lab() -> Result<Lab> {
    Lab::new(Options { alone: false, ..Options::default() })
}

fn servers(lab: &Lab) -> Result<[Process; 2]> {
    Ok([server::start(lab, "master", &[])?, server::start(lab, "backup", &[])?])
}

#[test]
fn a_3_kb_invite_in_fragments_reaches_kamailio_and_the_answers_come_back_in_fragments() -> Result<()> {
    let lab = lab()?;
    let caller = Caller::v4(&lab)?;
    let _servers = [RealServer::start(&lab, "master")?, RealServer::start(&lab, "backup")?];
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    for server in ["master", "backup"] {
        gateway.switch(server)?;
        let before = (gateway.counted("sip", "to-server")?, gateway.counted("sip", "to-client")?);
        let answer = caller.ask(&lab, &caller.request("INVITE", 3000))?;
        assert!(answer > ONE_FRAME, "{server} answers with {answer} bytes, which need no fragments");
        let after = (gateway.counted("sip", "to-server")?, gateway.counted("sip", "to-client")?);
        assert!(after.0 - before.0 >= 3, "{server}: 3 fragments of a request, {before:?} then {after:?}");
        assert!(after.1 - before.1 >= 2, "{server}: 2 fragments of an answer, {before:?} then {after:?}");
    }
    assert_eq!(gateway.counted("other", "fragment")?, 0, "dropped for want of their first one");
    Ok(())
}

#[test]
fn fragments_that_overtake_their_first_one_are_put_together_by_the_server() -> Result<()> {
    let lab = lab()?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let text = Caller::v4(&lab)?.one_sided_request("OPTIONS", 4000);
    let answer = lab.phones().run(move || {
        let phone = UdpSocket::bind(PHONE)?;
        phone.set_read_timeout(Some(SECOND / 2))?;
        let mut answer = vec![0; 65_536];
        // SIP over UDP repeats what was not answered.
        wait::until(10 * SECOND, "an answer", || {
            send_backwards(text.as_bytes())?;
            let Ok(length) = phone.recv(&mut answer) else { return Ok(None) };
            Ok(Some(String::from_utf8_lossy(&answer[..length]).into_owned()))
        })
    })?;
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    assert!(gateway.counted("other", "to-server")? >= 2, "two came before the first one");
    Ok(())
}

/// Sends a datagram from the phone to the VIP in fragments, the last one first.
fn send_backwards(payload: &[u8]) -> Result<()> {
    const PIECE: usize = 1480;
    let (from, to): (SocketAddrV4, SocketAddrV4) = (PHONE.parse()?, SIP);
    let udp = UdpHeader::with_ipv4_checksum(from.port(), to.port(), &header(from, to)?, payload)?;
    let datagram = [&udp.to_bytes(), payload].concat();
    let raw = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(rustix::net::ipproto::RAW))?;
    for (index, piece) in datagram.chunks(PIECE).enumerate().rev() {
        let mut header = header(from, to)?;
        header.set_payload_len(piece.len())?;
        (header.identification, header.dont_fragment) = (4711, false);
        header.fragment_offset = IpFragOffset::try_new((index * PIECE / 8) as u16)?;
        header.more_fragments = (index + 1) * PIECE < datagram.len();
        header.header_checksum = header.calc_header_checksum();
        let mut packet = header.to_bytes().to_vec();
        packet.extend_from_slice(piece);
        rustix::net::sendto(&raw, &packet, SendFlags::empty(), &to)?;
    }
    Ok(())
}

fn header(from: SocketAddrV4, to: SocketAddrV4) -> Result<Ipv4Header> {
    Ok(Ipv4Header::new(0, 64, IpNumber::UDP, from.ip().octets(), to.ip().octets())?)
}

#[test]
fn a_phone_learns_the_mtu_of_the_way_to_the_server_and_is_answered() -> Result<()> {
    let lab = lab()?;
    let caller = Caller::v4(&lab)?;
    let _servers = servers(&lab)?;
    lab.gateway().ip("link set dev back mtu 1300")?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    caller.ask(&lab, &caller.one_sided_request("OPTIONS", 1400))?;
    assert!(gateway.counted("sip", "told-too-big")? > 0, "it was never told");
    let route = output(lab.phones(), "ip", "route get 192.0.2.10")?;
    assert!(route.contains("mtu 1300"), "{route}");
    assert_eq!(icmp(lab.phones(), "InCsumErrors")?, 0);
    Ok(())
}

#[test]
fn a_server_learns_the_mtu_of_the_way_to_the_phone_and_the_phone_is_answered() -> Result<()> {
    let lab = lab()?;
    let caller = Caller::v4(&lab)?;
    let _servers = servers(&lab)?;
    lab.gateway().ip("link set dev front mtu 1300")?;
    lab.phones().ip("link set dev eth0 mtu 1300")?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    caller.ask(&lab, &caller.request("OPTIONS", 1400))?;
    assert!(gateway.counted("sip", "told-too-big")? > 0, "it was never told");
    let master = &lab.server("master")?.namespace;
    let route = output(master, "ip", "route get 192.0.2.100")?;
    assert!(route.contains("mtu 1300"), "{route}");
    assert_eq!(icmp(master, "InCsumErrors")?, 0);
    Ok(())
}

#[test]
fn an_error_about_a_packet_of_the_other_side_reaches_who_sent_that_and_its_kernel_accepts_it() -> Result<()> {
    let lab = lab()?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let master = &lab.server("master")?.namespace;

    // The phone's socket takes nothing from the SIP port: its host says so to the VIP, and the gateway to the master.
    let before = icmp(master, "InDestUnreachs")?;
    let request = Caller::v4(&lab)?.request("OPTIONS", 500);
    wait::until(10 * SECOND, "the master to hear of it", || {
        let request = request.clone();
        lab.phones().run(move || {
            let phone = UdpSocket::bind(PHONE)?;
            phone.connect("192.0.2.10:9")?;
            phone.send_to(request.as_bytes(), SIP)?;
            Ok::<_, anyhow::Error>(())
        })?;
        // A host says so at most once a second in the long run (`net.ipv4.icmp_ratelimit`).
        std::thread::sleep(SECOND / 5);
        Ok((icmp(master, "InDestUnreachs")? > before).then_some(()))
    })?;

    // Nobody listens on this port of the master: its host says so to the phone, as if it were the VIP.
    lab.phones().run(|| {
        let phone = UdpSocket::bind(PHONE)?;
        phone.connect("192.0.2.10:19998")?;
        phone.set_read_timeout(Some(SECOND / 5))?;
        wait::until(10 * SECOND, "the phone to be refused", || {
            let sent = phone.send(&[0; 172]);
            let refused = sent.and_then(|_| phone.recv(&mut [0; 200])).err().map(|error| error.kind());
            Ok((refused == Some(std::io::ErrorKind::ConnectionRefused)).then_some(()))
        })
    })?;
    assert_eq!((icmp(master, "InCsumErrors")?, icmp(lab.phones(), "InCsumErrors")?), (0, 0));
    assert!(gateway.counted("other", "to-client")? > 0 && gateway.counted("other", "to-server")? > 0);
    Ok(())
}
