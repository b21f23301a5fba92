//! nginx on the gateway as a proxy of UDP, with a backup server.
//!
//! It asks nobody: a server has failed when a packet to it is refused. A session is a phone's address and port, and stays
//! with its server for as long as packets come. `proxy_responses` and a short `proxy_timeout` would end a session whose
//! server is silent, but take each packet for a request with so many answers, which neither SIP nor RTP is.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    fault::Fault,
    system::{Carries, Running, System},
};
use crate::{
    Lab,
    process::Process,
    topology::{RTP_PORTS, VIP},
};

pub(super) struct Nginx;

impl System for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    /// A range of ports cannot be mapped to the same ports of a group of servers.
    fn carries(&self) -> Carries {
        Carries::RtpToOnePort
    }

    fn needs(&self) -> &'static [(&'static str, &'static str)] {
        &[("/usr/sbin/nginx", "nginx-light"), (MODULE, "libnginx-mod-stream")]
    }

    fn period(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn remark(&self, fault: Fault) -> Option<&'static str> {
        match fault {
            Fault::Silent | Fault::Hang | Fault::Link => {
                Some("nginx asks nobody, and an open session stays with its server until a packet to it is refused")
            }
            Fault::Crash => Some(
                "Linux says that nobody listens six times at once, then once a second, and each session must hear it twice",
            ),
            Fault::Planned => None,
        }
    }

    fn remark_on_soak(&self) -> Option<&'static str> {
        Some("nginx sends no probes that could be lost")
    }

    fn start<'lab>(&self, lab: &'lab Lab) -> Result<Box<dyn Running + 'lab>> {
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(lab.dir()).arg("-c").arg(lab.dir().join(FILE)).args(["-e", "stderr"]);
        configure(lab, "master")?;
        let process = Process::start(lab, lab.gateway(), "nginx", command)?;
        Ok(Box::new(Runs { lab, process, first: "master".to_owned() }))
    }
}

const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
const FILE: &str = "nginx.conf";

fn configure(lab: &Lab, first: &str) -> Result<()> {
    let (port, pid) = (RTP_PORTS.0, lab.dir().join("nginx.pid"));
    let servers = lab.servers().iter().map(|host| {
        let backup = if host.name == first { "" } else { " backup" };
        format!("        server {}:{port} max_fails=1 fail_timeout=1s{backup};\n", host.address)
    });
    let servers: String = servers.collect();
    let text = format!(
        "load_module {MODULE};\nuser root;\ndaemon off;\nworker_processes 1;\nworker_shutdown_timeout 1s;\npid {};\n\
         error_log stderr;\nevents {{\n    worker_connections 4096;\n}}\nstream {{\n    upstream pbx {{\n{servers}    }}\n\
         \n    server {{\n        listen {VIP}:{port} udp;\n        proxy_pass pbx;\n        \
         proxy_timeout 10s;\n    }}\n}}\n",
        pid.display()
    );
    fs::write(lab.dir().join(FILE), text).context(FILE)
}

struct Runs<'lab> {
    lab: &'lab Lab,
    process: Process,
    first: String,
}

impl Running for Runs<'_> {
    /// It has no view of its own of a server that it sends nothing to.
    fn settled(&mut self) -> Result<Option<String>> {
        self.process.must_run()?;
        Ok(Some(self.first.clone()))
    }

    /// The other server as the first one of the group, and a reload: all sessions begin anew.
    fn switch(&mut self, to: &str) -> Result<()> {
        self.first = to.to_owned();
        self.repaired()
    }

    /// Open sessions would stay where they are.
    fn repaired(&mut self) -> Result<()> {
        configure(self.lab, &self.first)?;
        let main = Pid::from_raw(self.process.id().cast_signed()).context("process id 0")?;
        kill_process(main, Signal::HUP).context("reload of nginx")
    }
}
