//! SIP messages of a chosen length, one phone that sends them, and what kernel and gateway count meanwhile.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Lab,
    gateway::Gateway,
    netns::Namespace,
    sip,
    topology::{SIP, SIP6},
    wait,
};

/// How long a final answer is waited for in all, and before a request is repeated.
const PATIENCE: Duration = Duration::from_secs(10);
const REPEAT: Duration = Duration::from_millis(500);

/// The first phone of the lab, on a port of its own, and where it calls.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The phone.
    pub phone: SocketAddr,
    /// The VIP's SIP port.
    pub server: SocketAddr,
}

impl Caller {
    /// By IPv4.
    pub fn v4(lab: &Lab) -> Result<Self> {
        Self::of(lab, SIP.into())
    }

    /// By IPv6.
    pub fn v6(lab: &Lab) -> Result<Self> {
        Self::of(lab, SIP6.into())
    }

    fn of(lab: &Lab, server: SocketAddr) -> Result<Self> {
        let address = *lab.phone_addresses_for(server.ip())?.first().context("no phone")?;
        Ok(Self { phone: SocketAddr::new(address, 5062), server })
    }

    /// A request of `length` bytes, most of them in a header that every answer repeats.
    pub fn request(&self, method: &str, length: usize) -> String {
        self.padded(method, length, |request, padding| request.replace(";tag", &format!(";padding={padding};tag")))
    }

    /// The same, but answers are short.
    pub fn one_sided_request(&self, method: &str, length: usize) -> String {
        self.padded(method, length, |request, padding| request.replace("Max", &format!("Subject: {padding}\r\nMax")))
    }

    fn padded(&self, method: &str, length: usize, pad: impl Fn(&str, &str) -> String) -> String {
        let Self { phone, server } = self;
        let plain = format!(
            "{method} sip:1000@{server} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {phone};branch={}\r\n\
             From: <sip:2000@{server}>;tag={}\r\n\
             To: <sip:1000@{server}>\r\n\
             Call-ID: {}\r\n\
             CSeq: 1 {method}\r\n\
             Contact: <sip:2000@{phone}>\r\n\
             Max-Forwards: 70\r\n\
             Content-Length: 0\r\n\r\n",
            sip::branch(),
            sip::token(),
            sip::token(),
        );
        let padding = length.saturating_sub(pad(&plain, "").len());
        pad(&plain, &"x".repeat(padding))
    }

    /// Sends a request again and again, as SIP does, until an answer comes that is final. Gives its length.
    pub fn ask(self, lab: &Lab, request: &str) -> Result<usize> {
        let call_id = request.lines().find(|line| line.starts_with("Call-ID")).context("no Call-ID")?.to_owned();
        let request = request.to_owned();
        lab.phones().run(move || {
            let phone = UdpSocket::bind(self.phone)?;
            phone.set_read_timeout(Some(REPEAT))?;
            let mut answer = vec![0; 65_536];
            wait::until(PATIENCE, "a final answer", || {
                // Too large for what the kernel has learnt of the path meanwhile is no failure: it is sent in fragments then.
                let _ = phone.send_to(request.as_bytes(), self.server);
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

    /// Sends OPTIONS a single time and says whether it is answered.
    pub fn is_answered_at_once(self, lab: &Lab) -> Result<bool> {
        let request = self.one_sided_request("OPTIONS", 0);
        lab.phones().run(move || {
            let phone = UdpSocket::bind(self.phone)?;
            phone.set_read_timeout(Some(2 * REPEAT))?;
            phone.send_to(request.as_bytes(), self.server)?;
            let mut answer = [0; 2048];
            Ok(phone.recv(&mut answer).is_ok_and(|length| answer[..length].starts_with(b"SIP/2.0 2")))
        })
    }
}

impl Gateway<'_> {
    /// Packets of one class and outcome, over all servers.
    pub fn counted(&self, class: &str, outcome: &str) -> Result<u64> {
        let counters: serde_json::Value = serde_json::from_str(&self.cli(&["maps", "counters", "--json"])?.stdout)?;
        let rows = counters["counters"].as_array().context("no list of counters")?;
        let wanted = rows.iter().filter(|row| row["class"] == class && row["outcome"] == outcome);
        Ok(wanted.filter_map(|row| row["packets"].as_u64()).sum())
    }
}

/// What a command prints in a namespace.
pub fn output(namespace: &Namespace, program: &str, arguments: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).stdout(Stdio::piped());
    let output = namespace.spawn(command)?.wait_with_output()?;
    ensure!(output.status.success(), "{program} {arguments}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// A counter of the namespace's ICMP, such as `InCsumErrors`.
pub fn icmp(namespace: &Namespace, counter: &str) -> Result<u64> {
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut rows = text.lines().filter(|line| line.starts_with("Icmp:")).map(str::split_whitespace);
    let (names, values) = rows.next().zip(rows.next()).context("no ICMP counters")?;
    let value = names.zip(values).find(|(name, _)| *name == counter);
    Ok(value.with_context(|| format!("no counter {counter}"))?.1.parse()?)
}

/// Datagrams of either family whose checksum a namespace found to be wrong.
pub fn udp_checksum_errors(namespace: &Namespace) -> Result<u64> {
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut rows = text.lines().filter(|line| line.starts_with("Udp:")).map(str::split_whitespace);
    let (names, values) = rows.next().zip(rows.next()).context("no UDP counters")?;
    let (_, four) = names.zip(values).find(|(name, _)| *name == "InCsumErrors").context("no InCsumErrors")?;
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/snmp6"))?;
    let six = text.lines().find_map(|line| line.strip_prefix("Udp6InCsumErrors")).context("no Udp6InCsumErrors")?;
    Ok(four.parse::<u64>()? + six.trim().parse::<u64>()?)
}

/// The same of its ICMPv6.
pub fn icmp6(namespace: &Namespace, counter: &str) -> Result<u64> {
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/snmp6"))?;
    let wanted = format!("Icmp6{counter}");
    let value = text.lines().filter_map(|line| line.split_once(char::is_whitespace)).find(|(name, _)| *name == wanted);
    Ok(value.with_context(|| format!("no counter {wanted}"))?.1.trim().parse()?)
}
