//! Loss of one probe in a hundred, at the server that is probed. Packets of phones are left alone.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;

/// What systems probe by: OPTIONS whose URI has no user part of the bench's own, echo requests, VRRP, BFD over one and over
/// several hops. Only what comes in by the cable is lost.
const RULES: &str = r#"table ip bench {
    counter dropped { }
    chain probes {
        numgen random mod 100 < 1 counter name dropped drop
    }
    chain input {
        type filter hook input priority 0; policy accept;
        iifname != "eth0" accept
        udp dport 5060 @th,64,56 0x4f5054494f4e53 @th,160,40 != 0x62656e6368 goto probes
        icmp type echo-request goto probes
        ip protocol 112 goto probes
        udp dport { 3784, 4784 } goto probes
    }
}
"#;

/// Rules that hold in a namespace for as long as it lives.
pub(super) struct Loss<'lab>(&'lab Namespace);

impl<'lab> Loss<'lab> {
    pub(super) fn start(namespace: &'lab Namespace) -> Result<Self> {
        nft(namespace, &["-f", "-"], RULES)?;
        Ok(Self(namespace))
    }

    /// Packets dropped so far.
    pub(super) fn dropped(&self) -> Result<u64> {
        let shown = nft(self.0, &["list", "counter", "ip", "bench", "dropped"], "")?;
        let mut words = shown.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).and_then(|count| count.parse().ok()).with_context(|| format!("a counter in {shown}"))
    }
}

/// Runs `nft` in a namespace and returns what it prints.
pub(crate) fn nft(namespace: &Namespace, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("nft");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = namespace.spawn(command).context("the nft command (package nftables)")?;
    child.stdin.take().context("no pipe to nft")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
