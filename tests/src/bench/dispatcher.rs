//! Kamailio with its dispatcher module on the gateway: a SIP proxy that asks both servers once a second.
//!
//! One second is its shortest interval. A request or a ping that has no answer in 250 ms, after one repetition, marks its
//! server as inactive, and the request goes to the next one. Media does not pass it, and is not moved by it.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    fault::Fault,
    system::{Carries, Running, System},
};
use crate::{
    Lab,
    process::Process,
    topology::{SIP_PORT, VIP},
};

const KAMAILIO: &str = "/usr/sbin/kamailio";
const KAMCMD: &str = "/usr/sbin/kamcmd";

pub(super) struct Dispatcher;

impl System for Dispatcher {
    fn name(&self) -> &'static str {
        "kamailio-dispatcher"
    }

    fn carries(&self) -> Carries {
        Carries::Sip
    }

    fn needs(&self) -> &'static [(&'static str, &'static str)] {
        &[(KAMAILIO, "kamailio"), (KAMCMD, "kamailio")]
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn remark(&self, fault: Fault) -> Option<&'static str> {
        (fault != Fault::Planned)
            .then_some("a request without an answer for 250 ms marks its server, and goes to the other")
    }

    fn remark_on_soak(&self) -> Option<&'static str> {
        Some("sent and lost are SIP requests: it moves signalling only")
    }

    fn start<'lab>(&self, lab: &'lab Lab) -> Result<Box<dyn Running + 'lab>> {
        let directory = lab.dir().join("dispatcher");
        fs::create_dir_all(&directory)?;
        let file = directory.join("kamailio.cfg");
        let list = directory.join("dispatcher.list");
        let control = format!("unix:{}", directory.join("ctl").display());
        fs::write(&file, configuration(&list.display().to_string(), &control))?;
        write_list(lab, "master")?;
        let mut command = Command::new(KAMAILIO);
        // -DD: neither the main process nor its children leave the process group, so one kill reaches all.
        command.args(["-DD", "-E", "-m", "64", "-M", "8", "-f"]).arg(&file);
        command.arg("-Y").arg(&directory).arg("-P").arg(directory.join("pid"));
        let process = Process::start(lab, lab.gateway(), "dispatcher", command)?;
        Ok(Box::new(Runs { lab, process, control, first: "master".to_owned() }))
    }
}

fn write_list(lab: &Lab, first: &str) -> Result<()> {
    let line = |host: &crate::topology::ServerHost| {
        let priority = if host.name == first { 10 } else { 5 };
        format!("1 sip:{}:{SIP_PORT} 0 {priority}\n", host.address)
    };
    let list: String = lab.servers().iter().map(line).collect();
    fs::write(lab.dir().join("dispatcher/dispatcher.list"), list).context("dispatcher.list")
}

fn configuration(list: &str, control: &str) -> String {
    format!(
        r#"#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=4
disable_tcp=yes
dns=no
rev_dns=no
auto_aliases=no
listen=udp:{VIP}:{SIP_PORT}

loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "ctl.so"
loadmodule "dispatcher.so"

modparam("ctl", "binrpc", "{control}")
modparam("tm", "fr_timer", 250)
modparam("tm", "retr_timer1", 100)
modparam("dispatcher", "list_file", "{list}")
modparam("dispatcher", "flags", 2)
modparam("dispatcher", "xavp_dst", "_dsdst_")
modparam("dispatcher", "xavp_ctx", "_dsctx_")
modparam("dispatcher", "ds_ping_interval", 1)
modparam("dispatcher", "ds_ping_from", "sip:dispatcher@{VIP}")
modparam("dispatcher", "ds_probing_mode", 1)
modparam("dispatcher", "ds_probing_threshold", 1)
modparam("dispatcher", "ds_inactive_threshold", 1)
modparam("dispatcher", "ds_ping_reply_codes", "class=2")
modparam("dispatcher", "reload_delta", 0)

request_route {{
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if (!ds_select_dst("1", "8")) {{
        sl_send_reply("503", "No Server");
        exit;
    }}
    t_on_failure("NEXT");
    t_relay();
}}

failure_route[NEXT] {{
    if (t_branch_timeout()) {{
        ds_mark_dst("ip");
        if (ds_next_dst()) {{
            t_on_failure("NEXT");
            t_relay();
        }}
    }}
}}
"#
    )
}

struct Runs<'lab> {
    lab: &'lab Lab,
    process: Process,
    control: String,
    first: String,
}

impl Running for Runs<'_> {
    fn settled(&mut self) -> Result<Option<String>> {
        self.process.must_run()?;
        // It takes seconds until it answers for the first time.
        let Ok(shown) = self.command("dispatcher.list") else { return Ok(None) };
        let active = shown.lines().filter(|line| line.contains("FLAGS: AP")).count();
        Ok((active == self.lab.servers().len()).then(|| self.first.clone()))
    }

    /// The other server with the higher priority, and a reload of the list.
    fn switch(&mut self, to: &str) -> Result<()> {
        self.first = to.to_owned();
        write_list(self.lab, to)?;
        self.command("dispatcher.reload").map(|_| ())
    }
}

impl Runs<'_> {
    fn command(&self, command: &str) -> Result<String> {
        let output = Command::new(KAMCMD).args(["-s", &self.control, command]).output().context(KAMCMD)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = text.clone() + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && !told.contains("error"), "kamcmd {command}: {}", told.trim());
        Ok(text)
    }
}
