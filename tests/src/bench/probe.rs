//! One health check, as a script of keepalived makes it.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::sip;

/// Shorter than keepalived's shortest interval between two runs of a script.
const ANSWER: Duration = Duration::from_millis(900);

/// Sends one OPTIONS request to `server`. An error if nobody listens, if nothing comes in 0.9 s, or if the answer is 408 or
/// 503.
pub fn ask(server: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // Connected, so that an ICMP error is heard at once.
    socket.connect(server)?;
    socket.set_read_timeout(Some(ANSWER))?;
    let (local, branch, call) = (socket.local_addr()?, sip::branch(), sip::token());
    let request = format!(
        "OPTIONS sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch={branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:check@{local}>;tag=1\r\nTo: <sip:{server}>\r\nCall-ID: {call}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    );
    socket.send(request.as_bytes())?;
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer)?;
    let status = answer[..length].strip_prefix(b"SIP/2.0 ").and_then(|rest| rest.get(..3)).context("no SIP answer")?;
    ensure!(status != b"408" && status != b"503", "the answer is {}", String::from_utf8_lossy(status));
    Ok(())
}
