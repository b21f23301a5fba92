//! nginx as a proxy of UDP in user space: a process for each processor, each with a socket of its own.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Running,
    network::{Network, SERVER},
    programs::RTP_PORT,
};
use crate::{process::Process, topology::VIP, wait};

pub(super) const NEEDS: [(&str, &str); 2] = [("/usr/sbin/nginx", "nginx-light"), (MODULE, "libnginx-mod-stream")];

const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
const START: Duration = Duration::from_secs(10);

pub(super) fn start(network: &Network) -> Result<Box<dyn Running + '_>> {
    let lab = &network.lab;
    let (file, pid) = (lab.dir().join("nginx.conf"), lab.dir().join("nginx.pid"));
    let text = format!(
        "load_module {MODULE};\nuser root;\ndaemon off;\nworker_processes auto;\npid {};\nerror_log stderr;\n\
         events {{\n    worker_connections 4096;\n}}\nstream {{\n    server {{\n        \
         listen {VIP}:{RTP_PORT} udp reuseport;\n        proxy_pass {SERVER}:{RTP_PORT};\n    }}\n}}\n",
        pid.display()
    );
    fs::write(&file, text).context("nginx.conf")?;
    let mut command = Command::new(NEEDS[0].0);
    command.arg("-p").arg(lab.dir()).arg("-c").arg(file).args(["-e", "stderr"]);
    let mut process = Process::start(lab, lab.gateway(), "nginx", command)?;
    // It writes this file when its sockets are open.
    wait::until(START, "nginx to start", || {
        process.must_run()?;
        Ok(pid.is_file().then_some(()))
    })?;
    Ok(Box::new(Nginx(process)))
}

struct Nginx(Process);

impl Running for Nginx {
    fn must_run(&mut self) -> Result<()> {
        self.0.must_run()
    }
}
