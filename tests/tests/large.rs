//! What does not fit into one packet: long SIP messages in fragments, paths with a smaller MTU, and the ICMP errors that speak of
//! both sides' packets.

use std::{
    fs,
    net::{SocketAddrV4, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, UdpHeader};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway},
    netns::Namespace,
    process::Process,
    real::RealServer,
    server, sip,
    topology::SIP,
    wait,
};
use rustix::net::{AddressFamily, SendFlags, SocketType};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const PHONE: &str = "192.0.2.100:5062";
/// Most bytes of a datagram that fits into one Ethernet frame over IPv4.
const ONE_FRAME: usize = 1472;

/// A request of `length` bytes, most of them in a header that every answer repeats.
fn request(method: &str, length: usize) -> String {
    padded(method, length, |request, padding| request.replace(";tag", &format!(";padding={padding};tag")))
}

/// The same, but answers are short.
fn one_sided_request(method: &str, length: usize) -> String {
    padded(method, length, |request, padding| request.replace("Max", &format!("Subject: {padding}\r\nMax")))
}

fn padded(method: &str, length: usize, pad: impl Fn(&str, &str) -> String) -> String {
    let plain = format!(
        "{method} sip:1000@{SIP} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {PHONE};branch={}\r\n\
             From: <sip:2000@{SIP}>;tag={}\r\n\
             To: <sip:1000@{SIP}>\r\n\
             Call-ID: {}\r\n\
             CSeq: 1 {method}\r\n\
             Contact: <sip:2000@{PHONE}>\r\n\
             Max-Forwards: 70\r\n\
             Content-Length: 0\r\n\r\n",
        sip::branch(),
        sip::token(),
        sip::token(),
    );
    let padding = length.saturating_sub(pad(&plain, "").len());
    pad(&plain, &"x".repeat(padding))
}

/// What a command prints in a namespace.
fn output(namespace: &Namespace, program: &str, arguments: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).stdout(Stdio::piped());
    let output = namespace.spawn(command)?.wait_with_output()?;
    ensure!(output.status.success(), "{program} {arguments}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Labs that measure nothing.
fn lab() -> Result<Lab> {
    Lab::new(Options { alone: false, ..Options::default() })
}

fn servers(lab: &Lab) -> Result<[Process; 2]> {
    Ok([server::start(lab, "master", &[])?, server::start(lab, "backup", &[])?])
}

/// Sends a request from a phone again and again, as SIP does, until an answer comes that is final. Gives its length.
fn ask(lab: &Lab, request: &str) -> Result<usize> {
    let call_id = request.lines().find(|line| line.starts_with("Call-ID")).context("no Call-ID")?.to_owned();
    let request = request.to_owned();
    lab.phones().run(move || {
        let phone = UdpSocket::bind(PHONE)?;
        phone.set_read_timeout(Some(SECOND / 2))?;
        let mut answer = vec![0; 65_536];
        wait::until(10 * SECOND, "a final answer", || {
            // Too large for what the kernel has learnt of the path meanwhile is no failure: it is sent in fragments then.
            let _ = phone.send_to(request.as_bytes(), SIP);
            while let Ok((length, _)) = phone.recv_from(&mut answer) {
                let text = String::from_utf8_lossy(&answer[..length]);
                if text.contains(&call_id) && !text.starts_with("SIP/2.0 1") {
                    ensure!(text.starts_with("SIP/2.0 2"), "{text}");
                    return Ok(Some(length));
                }
            }
            Ok(None)
        })
    })
}

/// Packets of one class and outcome, over all servers.
fn counted(gateway: &Gateway<'_>, class: &str, outcome: &str) -> Result<u64> {
    let counters: Value = serde_json::from_str(&gateway.cli(&["maps", "counters", "--json"])?.stdout)?;
    let rows = counters["counters"].as_array().context("no list of counters")?;
    let wanted = rows.iter().filter(|row| row["class"] == class && row["outcome"] == outcome);
    Ok(wanted.filter_map(|row| row["packets"].as_u64()).sum())
}

/// A counter of the namespace's ICMP, such as `InCsumErrors`.
fn icmp(namespace: &Namespace, counter: &str) -> Result<u64> {
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut rows = text.lines().filter(|line| line.starts_with("Icmp:")).map(str::split_whitespace);
    let (names, values) = rows.next().zip(rows.next()).context("no ICMP counters")?;
    let value = names.zip(values).find(|(name, _)| *name == counter);
    Ok(value.with_context(|| format!("no counter {counter}"))?.1.parse()?)
}

#[test]
fn a_3_kb_invite_in_fragments_reaches_kamailio_and_the_answers_come_back_in_fragments() -> Result<()> {
    let lab = lab()?;
    let _servers = [RealServer::start(&lab, "master")?, RealServer::start(&lab, "backup")?];
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    for server in ["master", "backup"] {
        gateway.switch(server)?;
        let before = (counted(&gateway, "sip", "to-server")?, counted(&gateway, "sip", "to-client")?);
        let answer = ask(&lab, &request("INVITE", 3000))?;
        assert!(answer > ONE_FRAME, "{server} answers with {answer} bytes, which need no fragments");
        let after = (counted(&gateway, "sip", "to-server")?, counted(&gateway, "sip", "to-client")?);
        assert!(after.0 - before.0 >= 3, "{server}: 3 fragments of a request, {before:?} then {after:?}");
        assert!(after.1 - before.1 >= 2, "{server}: 2 fragments of an answer, {before:?} then {after:?}");
    }
    assert_eq!(counted(&gateway, "other", "fragment")?, 0, "dropped for want of their first one");
    Ok(())
}

#[test]
fn fragments_that_overtake_their_first_one_are_put_together_by_the_server() -> Result<()> {
    let lab = lab()?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let text = one_sided_request("OPTIONS", 4000);
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
    assert!(counted(&gateway, "other", "to-server")? >= 2, "two came before the first one");
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
    let _servers = servers(&lab)?;
    lab.gateway().ip("link set dev back mtu 1300")?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    ask(&lab, &one_sided_request("OPTIONS", 1400))?;
    assert!(counted(&gateway, "sip", "told-too-big")? > 0, "it was never told");
    let route = output(lab.phones(), "ip", "route get 192.0.2.10")?;
    assert!(route.contains("mtu 1300"), "{route}");
    assert_eq!(icmp(lab.phones(), "InCsumErrors")?, 0);
    Ok(())
}

#[test]
fn a_server_learns_the_mtu_of_the_way_to_the_phone_and_the_phone_is_answered() -> Result<()> {
    let lab = lab()?;
    let _servers = servers(&lab)?;
    lab.gateway().ip("link set dev front mtu 1300")?;
    lab.phones().ip("link set dev eth0 mtu 1300")?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    ask(&lab, &request("OPTIONS", 1400))?;
    assert!(counted(&gateway, "sip", "told-too-big")? > 0, "it was never told");
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
    wait::until(10 * SECOND, "the master to hear of it", || {
        lab.phones().run(|| {
            let phone = UdpSocket::bind(PHONE)?;
            phone.connect("192.0.2.10:9")?;
            phone.send_to(request("OPTIONS", 500).as_bytes(), SIP)?;
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
    assert!(counted(&gateway, "other", "to-client")? > 0 && counted(&gateway, "other", "to-server")? > 0);
    Ok(())
}
