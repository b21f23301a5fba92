//! The lab keeps its own promises: it connects what it draws and leaves nothing on the machine.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result};
use lab::{Lab, Layout, Options, netns::Namespace, process::Process, topology, wait};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const SOON: Duration = Duration::from_secs(20);

fn shared(layout: Layout) -> Options {
    Options { layout, alone: false, ..Options::default() }
}

/// Whether anything of the labs of that process is left.
fn traces_of(pid: u32) -> Vec<String> {
    let names = |directory: &str, prefix: String| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(move |name| name.starts_with(&prefix)).collect::<Vec<_>>()
    };
    let mut found = names("/run/netns", format!("voip-ha-lab-{pid}-"));
    found.extend(names("/sys/fs/bpf", format!("voip-ha-lab-{pid}-")));
    found.extend(names("/run/voip-ha-lab", format!("{pid}-")));
    found
}

/// The number of routers between two namespaces, or None if nothing arrives: the smallest time to live that arrives.
fn routers_between(from: &Namespace, to: &Namespace, address: Ipv4Addr) -> Result<Option<u32>> {
    let receiver = to.run(move || UdpSocket::bind((address, 0)))?;
    receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
    let sender = from.run(|| UdpSocket::bind("0.0.0.0:0"))?;
    for ttl in [1, 2, 3, 4, 5, 64] {
        sender.set_ttl(ttl)?;
        sender.send_to(&[ttl as u8], receiver.local_addr()?)?;
    }
    let mut ttl = [0];
    match receiver.recv(&mut ttl) {
        Ok(_) => Ok(Some(u32::from(ttl[0]) - 1)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn servers_reach_phones_through_the_gateway_in_every_layout() -> Result<()> {
    // The edge of the one-arm layout is one more router, the router to the cloud another.
    for (layout, master, backup) in [(Layout::TwoArm, 1, 2), (Layout::OneArm, 2, 3), (Layout::Routed, 1, 2)] {
        let lab = Lab::new(shared(layout))?;
        let phone = lab.phone_addresses().next().context("a phone")?;
        for (server, routers) in lab.servers().iter().zip([master, backup]) {
            let up = routers_between(lab.phones(), &server.namespace, server.address)?;
            let down = routers_between(&server.namespace, lab.phones(), phone)?;
            if layout == Layout::OneArm {
                // Phones know no way to a server's own address but around the gateway's single arm.
                assert_eq!(down, Some(routers), "{layout:?}: from the {}", server.name);
            } else {
                assert_eq!((up, down), (Some(routers), Some(routers)), "{layout:?}: {}", server.name);
            }
        }
        let host = if layout == Layout::Routed { &lab.server("master")?.namespace } else { lab.gateway() };
        assert!(routers_between(lab.phones(), host, topology::VIP)?.is_some(), "{layout:?}: the VIP");
    }
    Ok(())
}

#[test]
fn the_routed_vip_leads_to_the_server_it_is_routed_to() -> Result<()> {
    let lab = Lab::new(shared(Layout::Routed))?;
    let servers = lab.servers();
    for (server, other) in [(&servers[1], &servers[0]), (&servers[0], &servers[1])] {
        lab.route_vip_to(server.name)?;
        assert!(routers_between(lab.phones(), &server.namespace, topology::VIP)?.is_some(), "{}", server.name);
        assert_eq!(routers_between(lab.phones(), &other.namespace, topology::VIP)?, None, "{}", other.name);
    }
    Ok(())
}

#[test]
fn a_cut_server_is_silent_until_it_is_mended() -> Result<()> {
    let lab = Lab::new(shared(Layout::TwoArm))?;
    for server in lab.servers() {
        let arrives =
            || Ok::<_, anyhow::Error>(routers_between(lab.gateway(), &server.namespace, server.address)?.is_some());
        assert!(arrives()?, "{} before", server.name);
        lab.cut(server.name)?;
        assert!(!arrives()?, "{} while cut", server.name);
        lab.mend(server.name)?;
        assert!(arrives()?, "{} after", server.name);
    }
    Ok(())
}

#[test]
fn nothing_of_a_lab_is_left_after_drop_or_panic() -> Result<()> {
    let (mut directory, mut pid) = (None, None);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let lab = Lab::new(shared(Layout::TwoArm)).expect("lab");
        let mut command = Command::new("sleep");
        command.arg("1000");
        let process = Process::start(&lab, lab.phones(), "sleep", command).expect("sleep");
        (directory, pid) = (Some(lab.dir()), Pid::from_raw(process.id() as i32));
        assert!(lab.dir().is_dir());
        panic!("as planned by the test");
    }));
    assert!(panic.is_err());
    let prefix = directory.as_deref().and_then(Path::file_name).context("directory")?.to_string_lossy().into_owned();
    let left: Vec<_> = traces_of(std::process::id()).into_iter().filter(|name| name.contains(&prefix)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(test_kill_process(pid.context("pid")?).is_err(), "the program outlived its lab");
    Ok(())
}

/// Runs a test of this file in a process of its own, which builds a lab, prints a line and waits.
fn lab_in_a_child() -> Result<(Child, Pid)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "builds_a_lab_with_a_background_program_and_waits"])
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let pid = child.id();
    let orphan = wait::until(SOON, "the child's lab", || {
        anyhow::ensure!(child.try_wait()?.is_none(), "the child ended early");
        let text = fs::read_to_string(format!("/run/voip-ha-lab/{pid}-1/background.log")).unwrap_or_default();
        Ok(text.ends_with('\n').then(|| text.trim().parse::<i32>()).transpose()?.and_then(Pid::from_raw))
    })?;
    Ok((child, orphan))
}

#[test]
#[ignore = "only a child of other tests runs it"]
fn builds_a_lab_with_a_background_program_and_waits() -> Result<()> {
    let lab = Lab::new(shared(Layout::TwoArm))?;
    let mut command = Command::new("sh");
    // The death signal ends the shell; what the shell forked is what a crash leaves running.
    command.args(["-c", "sleep 1000 & echo $!; wait"]);
    let mut process = Process::start(&lab, lab.phones(), "background", command)?;
    process.wait(Duration::from_secs(60))?;
    Ok(())
}

#[test]
fn the_next_lab_takes_over_what_a_killed_one_left() -> Result<()> {
    let (mut child, orphan) = lab_in_a_child()?;
    let pid = child.id();
    child.kill()?;
    child.wait()?;
    drop(Lab::new(shared(Layout::TwoArm))?);
    assert_eq!(traces_of(pid), Vec::<String>::new());
    wait::until(SOON, "the orphan to die", || Ok(test_kill_process(orphan).is_err().then_some(())))
}

#[test]
fn a_lab_that_lives_is_not_taken_over_and_cleans_up_on_sigterm() -> Result<()> {
    let (mut child, orphan) = lab_in_a_child()?;
    let pid = child.id();
    drop(Lab::new(shared(Layout::TwoArm))?);
    assert!(!traces_of(pid).is_empty(), "a living lab was removed");
    assert!(test_kill_process(orphan).is_ok(), "a program of a living lab was killed");
    kill_process(Pid::from_child(&child), Signal::TERM)?;
    wait::until(SOON, "the child to end", || Ok(child.try_wait()?))?;
    assert_eq!(traces_of(pid), Vec::<String>::new());
    Ok(())
}
