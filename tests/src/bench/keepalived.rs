//! keepalived: the virtual address is on one of two servers of a LAN, and moves by VRRP (RFC 9568).
//!
//! Each server asks its own SIP process once a second, which is the shortest interval that keepalived has for a script. The
//! servers have the address on their loopback as well, silent in ARP, so that their programs can be bound to it.

use std::{fs, net::Ipv4Addr, process::Command, time::Duration};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{
    fault::Fault,
    system::{Running, System},
};
use crate::{
    Lab,
    process::Process,
    program,
    topology::{Layout, SIP_PORT, ServerHost, VIP},
};

const TERM: Duration = Duration::from_secs(10);

pub(super) struct Keepalived {
    name: &'static str,
    /// What of the configuration is its own.
    globals: &'static str,
    advert_int: &'static str,
}

impl Keepalived {
    /// An advertisement per second, as without any setting.
    pub(super) const DEFAULT: Self = Self { name: "keepalived-default", globals: "", advert_int: "1" };
    /// The shortest interval that VRRP 3 has, with the priority that keeps it.
    pub(super) const FAST: Self = Self {
        name: "keepalived-fast",
        globals: "vrrp_version 3\n    vrrp_rt_priority 50\n    vrrp_no_swap\n",
        advert_int: "0.01",
    };
}

impl System for Keepalived {
    fn name(&self) -> &'static str {
        self.name
    }

    fn layout(&self, _fault: Fault) -> Layout {
        Layout::OneLan
    }

    fn needs(&self) -> &'static [(&'static str, &'static str)] {
        &[("/usr/sbin/keepalived", "keepalived")]
    }

    fn listens_on(&self, _host: &ServerHost) -> Ipv4Addr {
        VIP
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn cannot(&self, fault: Fault) -> Option<&'static str> {
        (fault == Fault::Link)
            .then_some("VRRP needs both servers in one LAN, to which the router has one cable: there is no other way")
    }

    fn remark(&self, fault: Fault) -> Option<&'static str> {
        matches!(fault, Fault::Crash | Fault::Hang).then_some("seen by a script that sends OPTIONS once a second")
    }

    fn start<'lab>(&self, lab: &'lab Lab) -> Result<Box<dyn Running + 'lab>> {
        for host in lab.servers() {
            prepare(host)?;
            fs::write(lab.dir().join(format!("keepalived-{}.conf", host.name)), self.configuration(host)?)?;
        }
        let daemons = [launch(lab, "master")?, launch(lab, "backup")?];
        Ok(Box::new(Runs { lab, daemons, stopped: None }))
    }
}

impl Keepalived {
    fn configuration(&self, host: &ServerHost) -> Result<String> {
        let Self { globals, advert_int, .. } = self;
        let check = program("lab-bench")?;
        let priority = if host.name == "master" { 100 } else { 90 };
        Ok(format!(
            r#"global_defs {{
    router_id {name}
    script_user root
    {globals}}}

vrrp_script sip {{
    script "{check} options {VIP}:{SIP_PORT}"
    interval 1
    timeout 1
    fall 1
    rise 1
}}

vrrp_instance pbx {{
    state BACKUP
    nopreempt
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int {advert_int}
    virtual_ipaddress {{
        {VIP}/32 dev eth0
    }}
    track_script {{
        sip
    }}
}}
"#,
            name = host.name,
            check = check.display()
        ))
    }
}

/// The address is bound to, but not told, before keepalived brings it to the LAN's interface.
fn prepare(host: &ServerHost) -> Result<()> {
    host.namespace.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
    host.namespace.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
    Ok(())
}

fn launch(lab: &Lab, name: &'static str) -> Result<Process> {
    let directory = lab.dir();
    let file = |ending: &str| directory.join(format!("keepalived-{name}.{ending}"));
    let mut command = Command::new("/usr/sbin/keepalived");
    command.args(["--dont-fork", "--vrrp", "--log-console", "--log-detail", "--use-file"]).arg(file("conf"));
    command.arg("--pid").arg(file("pid")).arg("--vrrp_pid").arg(file("vrrp.pid"));
    Process::start(lab, &lab.server(name)?.namespace, &format!("keepalived-{name}"), command)
}

struct Runs<'lab> {
    lab: &'lab Lab,
    /// That of the master, and that of the backup.
    daemons: [Process; 2],
    /// The one that an operator has stopped, to be started again.
    stopped: Option<usize>,
}

const SERVERS: [&str; 2] = ["master", "backup"];

impl Running for Runs<'_> {
    fn settled(&mut self) -> Result<Option<String>> {
        if let Some(stopped) = self.stopped.take() {
            self.daemons[stopped].terminate(TERM)?;
            self.daemons[stopped] = launch(self.lab, SERVERS[stopped])?;
        }
        for daemon in &mut self.daemons {
            daemon.must_run()?;
        }
        let states = self.daemons.each_ref().map(state);
        Ok(match states.each_ref().map(Option::as_deref) {
            [Some("MASTER"), Some("BACKUP")] => Some("master".to_owned()),
            [Some("BACKUP"), Some("MASTER")] => Some("backup".to_owned()),
            _ => None,
        })
    }

    /// As `systemctl stop keepalived` on the other one. It is started again before the next fault.
    fn switch(&mut self, to: &str) -> Result<()> {
        let other = SERVERS.iter().position(|name| *name != to).context("no such server")?;
        self.daemons[other].signal(Signal::TERM)?;
        self.stopped = Some(other);
        Ok(())
    }
}

/// The last state that the daemon's log tells.
fn state(daemon: &Process) -> Option<String> {
    let log = daemon.log();
    let (_, last) = log.rsplit_once("(pbx) Entering ")?;
    last.split_once(" STATE").map(|(state, _)| state.to_owned())
}
