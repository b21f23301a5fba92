//! FRR: BFD (RFC 5880) between the gateway and both servers at 10 ms × 3, and a route that moves by it.
//!
//! The servers have the virtual address on their loopback, and the gateway has a route to one of them. FRR 8.4, which Debian
//! 12 has, knows no BFD for static routes, so a watcher hears from bfdd's control socket what is up, and moves the route.
//! FRR's own bgpd with BFD does the same later: it collects changes for some 70 ms before it moves a route. BFD sees hosts
//! and ways, and no SIP process.

mod watcher;

use std::{fs, net::Ipv4Addr, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    fault::Fault,
    system::{Running, System},
};
use crate::{
    Lab,
    netns::Namespace,
    process::Process,
    topology::{Layout, ServerHost, VIP},
    wait,
};
use watcher::Watcher;

const DAEMONS: [&str; 2] = ["zebra", "bfdd"];
const START: Duration = Duration::from_secs(20);

pub(super) struct Bfdd;

impl System for Bfdd {
    fn name(&self) -> &'static str {
        "bfdd"
    }

    fn needs(&self) -> &'static [(&'static str, &'static str)] {
        &[("/usr/lib/frr/bfdd", "frr")]
    }

    fn listens_on(&self, _host: &ServerHost) -> Ipv4Addr {
        VIP
    }

    fn period(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn cannot(&self, fault: Fault) -> Option<&'static str> {
        (fault == Fault::Planned).then_some("BFD takes no orders: an operator moves the route by hand")
    }

    fn remark(&self, fault: Fault) -> Option<&'static str> {
        matches!(fault, Fault::Crash | Fault::Hang)
            .then_some("BFD sees hosts and ways: bfdd is another process than the SIP server, and goes on")
    }

    fn start<'lab>(&self, lab: &'lab Lab) -> Result<Box<dyn Running + 'lab>> {
        move_vip_to_servers(lab)?;
        // The gateway's address towards the cloud, and its next hop there.
        let by_front = lab.layout() == Layout::CloudByFront;
        let (own, hop) = if by_front { ("10.66.3.1", "10.66.3.254") } else { ("10.66.1.1", "10.66.1.254") };
        let ways = [("", "10.66.1.1"), ("multihop ", own)];
        let (mut daemons, mut peers) = (Vec::new(), "bfd\n".to_owned());
        for (host, (kind, gateway)) in lab.servers().iter().zip(ways) {
            let (server, bfd) = (host.address, "bfd\n".to_owned());
            peers += &peer(&server.to_string(), kind, gateway);
            let bfd = bfd + &peer(gateway, kind, &server.to_string());
            daemons.extend(launch(lab, &host.namespace, host.name, &bfd)?);
        }
        daemons.extend(launch(lab, lab.gateway(), "gateway", &peers)?);
        let servers = lab.servers();
        let hops = [(servers[0].address, servers[0].address.to_string()), (servers[1].address, hop.to_owned())];
        let watcher = Watcher::start(lab.gateway(), &directory(lab, "gateway").join(SOCKET), hops)?;
        Ok(Box::new(Runs { lab, daemons, watcher }))
    }
}

const SOCKET: &str = "bfdd.sock";

/// One session, three packets of 10 ms.
fn peer(remote: &str, kind: &str, own: &str) -> String {
    format!(
        " peer {remote} {kind}local-address {own}\n  detect-multiplier 3\n  receive-interval 10\n  transmit-interval 10\n  \
         no shutdown\n exit\n"
    )
}

fn directory(lab: &Lab, name: &str) -> std::path::PathBuf {
    lab.dir().join(format!("frr-{name}"))
}

fn move_vip_to_servers(lab: &Lab) -> Result<()> {
    lab.gateway().ip(&format!("address del {VIP}/32 dev front"))?;
    lab.phones().ip(&format!("route add {VIP}/32 via 192.0.2.1"))?;
    lab.router().ip(&format!("route replace {VIP}/32 via 10.66.2.2"))?;
    // With the cloud on the phones' side, redirects would lead phones around the gateway.
    for interface in ["all", "front"] {
        lab.gateway().sysctl(&format!("net/ipv4/conf/{interface}/send_redirects"), "0")?;
    }
    Ok(())
}

/// Starts the daemons of one host, each as Debian runs it, with files and sockets of the lab.
fn launch(lab: &Lab, namespace: &Namespace, name: &str, bfd: &str) -> Result<Vec<Process>> {
    let directory = directory(lab, name);
    fs::create_dir_all(&directory)?;
    for (daemon, text) in DAEMONS.iter().zip(["", bfd]) {
        fs::write(directory.join(format!("{daemon}.conf")), text)?;
    }
    // The daemons give up root's rights.
    let status = Command::new("chown").args(["-R", "frr:frr"]).arg(&directory).status()?;
    ensure!(status.success(), "chown frr: {status}");
    let mut processes = Vec::new();
    for daemon in DAEMONS {
        let file = |ending: &str| directory.join(format!("{daemon}.{ending}"));
        let mut command = Command::new(format!("/usr/lib/frr/{daemon}"));
        command.args(["--log", "stdout", "--vty_addr", "127.0.0.1", "--vty_port", "0", "--vty_socket"]).arg(&directory);
        command.arg("--config_file").arg(file("conf")).arg("--pid_file").arg(file("pid"));
        command.arg("--socket").arg(directory.join("zserv"));
        if daemon == "bfdd" {
            command.arg("--bfdctl").arg(directory.join(SOCKET));
        }
        let mut process = Process::start(lab, namespace, &format!("{daemon}-{name}"), command)?;
        wait::until(START, &format!("{daemon} of {name} to listen"), || {
            process.must_run()?;
            Ok(file("vty").exists().then_some(()))
        })?;
        processes.push(process);
    }
    Ok(processes)
}

struct Runs<'lab> {
    lab: &'lab Lab,
    daemons: Vec<Process>,
    watcher: Watcher,
}

impl Running for Runs<'_> {
    fn settled(&mut self) -> Result<Option<String>> {
        for daemon in &mut self.daemons {
            daemon.must_run()?;
        }
        let active = self.watcher.settled()?;
        Ok(active.map(|active| self.lab.servers()[active].name.to_owned()))
    }

    fn switch(&mut self, to: &str) -> Result<()> {
        let to = self.lab.servers().iter().position(|host| host.name == to).context("no such server")?;
        self.watcher.prefer(to)
    }
}
