//! Kamailio as registrar with its users in memory, and as a proxy that records its route.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::APPLICATION;
use crate::{
    process::Process,
    sip,
    topology::{Lab, SIP_PORT, ServerHost, VIP, VIP6},
    wait,
};

/// Kamailio takes about 2.5 s on an idle machine.
const START: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_millis(100);

/// What stands in the log before the method and the Call-ID of a request.
const SEEN: &str = "request seen:";

/// Starts Kamailio on a server and waits until it answers.
pub(super) fn start(lab: &Lab, host: &ServerHost, address: Ipv4Addr) -> Result<Process> {
    let name = format!("{}-kamailio", host.name);
    let directory = lab.dir().join(&name);
    fs::create_dir_all(&directory)?;
    let file = directory.join("kamailio.cfg");
    let six = host.address6.map(IpAddr::from);
    fs::write(&file, configuration(address, six))?;
    let mut command = Command::new("kamailio");
    // -DD: neither the main process nor its children leave the process group, so one kill reaches all.
    command.args(["-DD", "-E", "-m", "32", "-M", "8", "-f"]).arg(&file);
    command.arg("-Y").arg(&directory).arg("-P").arg(directory.join("pid"));
    let mut process = Process::start(lab, &host.namespace, &name, command).context("package kamailio")?;
    for address in [IpAddr::from(address)].into_iter().chain(six) {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = host.namespace.run(move || UdpSocket::bind(any))?;
        socket.set_read_timeout(Some(ANSWER))?;
        let answered = wait::until(START, &format!("Kamailio to answer OPTIONS at {address}"), || {
            process.must_run()?;
            Ok(answers(&socket, SocketAddr::new(address, SIP_PORT)).then_some(()))
        });
        answered.with_context(|| process.log_tail())?;
    }
    Ok(process)
}

/// The Call-IDs of the requests of a method that a log tells of. Only INVITE and BYE are told.
pub(super) fn calls_of(log: &str, method: &str) -> BTreeSet<String> {
    let requests = log.lines().filter_map(|line| line.split_once(SEEN)?.1.trim().split_once(' '));
    requests.filter(|(seen, _)| *seen == method).map(|(_, call)| call.to_owned()).collect()
}

fn configuration(address: Ipv4Addr, six: Option<IpAddr>) -> String {
    let six = six.map_or_else(String::new, |six| {
        format!(
            "listen=udp:[{six}]:{SIP_PORT} advertise [{VIP6}]:{SIP_PORT}\nalias=\"[{VIP6}]\"\nalias=\"[{VIP6}]:{SIP_PORT}\"\n"
        )
    });
    format!(
        r#"#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=2
disable_tcp=yes
dns=no
rev_dns=no
auto_aliases=no
listen=udp:{address}:{SIP_PORT} advertise {VIP}:{SIP_PORT}
alias="{VIP}"
alias="{VIP}:{SIP_PORT}"
{six}
loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "xlog.so"

modparam("usrloc", "db_mode", 0)
modparam("registrar", "max_expires", 3600)
modparam("rr", "enable_full_lr", 1)

request_route {{
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if (has_totag()) {{
        if (is_method("BYE")) xlog("L_NOTICE", "{SEEN} $rm $ci\n");
        if (loose_route()) {{
            t_relay();
        }} else if (is_method("ACK")) {{
            if (t_check_trans()) t_relay();
        }} else {{
            sl_send_reply("481", "Call/Transaction Does Not Exist");
        }}
        exit;
    }}
    if (is_method("CANCEL")) {{
        if (t_check_trans()) t_relay();
        exit;
    }}
    if (is_method("OPTIONS")) {{
        sl_send_reply("200", "OK");
        exit;
    }}
    # A repeated request gets the answer of its transaction.
    t_check_trans();
    if (is_method("REGISTER")) {{
        if (!save("location")) sl_reply_error();
        exit;
    }}
    if (is_method("INVITE")) {{
        xlog("L_NOTICE", "{SEEN} $rm $ci\n");
        record_route();
        $du = "sip:{APPLICATION}";
        t_relay();
        exit;
    }}
    sl_send_reply("405", "Method Not Allowed");
}}
"#
    )
}

/// Whether somebody at `server` answers an OPTIONS request by 200 now.
fn answers(socket: &UdpSocket, server: SocketAddr) -> bool {
    let (branch, call) = (sip::branch(), sip::token());
    let request = format!(
        "OPTIONS sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch={branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:lab@{server}>;tag=1\r\nTo: <sip:{server}>\r\nCall-ID: {call}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let mut answer = [0; 4096];
    let answered = socket.send_to(request.as_bytes(), server).and_then(|_| socket.recv(&mut answer));
    answered.is_ok_and(|length| answer[..length].starts_with(b"SIP/2.0 200 "))
}
