//! Hears from bfdd which sessions are up, and moves the route to the virtual address.
//!
//! bfdd's control socket tells each change to who asks for it: a header of length, id, type and version, then JSON.

use std::{
    io::{Read, Write},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{netns::Namespace, topology::VIP};

/// Type and version of a message that asks for changes, and of one that tells of one.
const NOTIFY: [u8; 2] = [4, 1];
/// What is asked for, by the host's byte order: states of peers.
const STATES: u64 = 1;

pub(super) struct Watcher {
    choice: Arc<Mutex<Choice>>,
    namespace: String,
    ip: Child,
    thread: Option<JoinHandle<()>>,
}

/// Which server the route leads to, and why.
struct Choice {
    /// Address and next hop of each server.
    servers: [(Ipv4Addr, String); 2],
    up: [bool; 2],
    preferred: usize,
    active: Option<usize>,
    ip: ChildStdin,
}

#[derive(Debug, Deserialize)]
struct Notice {
    #[serde(rename = "peer-address")]
    peer: Option<Ipv4Addr>,
    state: Option<String>,
}

impl Watcher {
    /// Prefers the first server, and moves the route in this namespace.
    pub(super) fn start(namespace: &Namespace, socket: &Path, servers: [(Ipv4Addr, String); 2]) -> Result<Self> {
        let mut bfdd = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        bfdd.write_all(&8_u32.to_be_bytes())?;
        bfdd.write_all(&[[0, 1], NOTIFY].concat())?;
        bfdd.write_all(&STATES.to_ne_bytes())?;
        // One that runs already, so that a change of the route waits for no program to start.
        let mut command = Command::new("ip");
        command.args(["-n", namespace.name(), "-batch", "-"]).stdin(Stdio::piped());
        let mut ip = command.spawn().context("the ip command (package iproute2)")?;
        let input = ip.stdin.take().context("no pipe to ip")?;
        let choice = Choice { servers, up: [false; 2], preferred: 0, active: None, ip: input };
        let choice = Arc::new(Mutex::new(choice));
        let shared = Arc::clone(&choice);
        let thread = std::thread::spawn(move || {
            // Ends when bfdd does, or with ip, whose end is seen by who asks next.
            while let Ok(notice) = next(&mut bfdd) {
                if lock(&shared).hear(&notice).is_err() {
                    return;
                }
            }
        });
        Ok(Self { choice, namespace: namespace.name().to_owned(), ip, thread: Some(thread) })
    }

    /// The server that the route leads to, once both are up and it is the preferred one.
    pub(super) fn settled(&mut self) -> Result<Option<usize>> {
        ensure!(self.ip.try_wait()?.is_none(), "the ip command ended");
        let choice = lock(&self.choice);
        let settled = choice.up == [true; 2] && choice.active == Some(choice.preferred);
        Ok(settled.then_some(choice.preferred))
    }

    /// Prefers a server, and moves the route by a command of its own, as an operator does.
    pub(super) fn prefer(&mut self, server: usize) -> Result<()> {
        let mut choice = lock(&self.choice);
        choice.preferred = server;
        choice.active = Some(server);
        let mut command = Command::new("ip");
        command.args([
            "-n",
            &self.namespace,
            "route",
            "replace",
            &format!("{VIP}/32"),
            "via",
            &choice.servers[server].1,
        ]);
        let status = command.status().context("the ip command (package iproute2)")?;
        ensure!(status.success(), "ip route replace: {status}");
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.ip.kill().and_then(|()| self.ip.wait());
        // bfdd was stopped before.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Choice {
    fn hear(&mut self, notice: &Notice) -> Result<()> {
        let server = self.servers.iter().position(|(address, _)| Some(*address) == notice.peer);
        if let (Some(server), Some(state)) = (server, &notice.state) {
            self.up[server] = state == "up";
        }
        self.apply()
    }

    /// With none up, the route stays.
    fn apply(&mut self) -> Result<()> {
        let Some(wanted) = [self.preferred, 1 - self.preferred].into_iter().find(|server| self.up[*server]) else {
            return Ok(());
        };
        if self.active != Some(wanted) {
            let line = format!("route replace {VIP}/32 via {}\n", self.servers[wanted].1);
            self.ip.write_all(line.as_bytes())?;
            self.active = Some(wanted);
        }
        Ok(())
    }
}

/// The next message of any kind; what is no notice of a peer is an empty one.
fn next(bfdd: &mut UnixStream) -> Result<Notice> {
    let mut header = [0; 8];
    bfdd.read_exact(&mut header)?;
    let [a, b, c, d, ..] = header;
    let mut text = vec![0; u32::from_be_bytes([a, b, c, d]) as usize];
    bfdd.read_exact(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(serde_json::from_str(text.trim_end_matches('\0')).unwrap_or(Notice { peer: None, state: None }))
}

fn lock(choice: &Mutex<Choice>) -> MutexGuard<'_, Choice> {
    choice.lock().unwrap_or_else(PoisonError::into_inner)
}
