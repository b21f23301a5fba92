//! The daemon's side of the control socket.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::broadcast::error::RecvError,
};

use super::{Answer, Command, DrainRequest, HoldRequest, PROTOCOL, Request, SwitchRequest};
use crate::{
    config::Gateway,
    controller::{Order, Orders},
    gateway::Observer,
};

/// Longer than any request.
const LONGEST_REQUEST: u64 = 64 * 1024;

/// Opens the socket and serves it until the task is dropped.
///
/// # Errors
///
/// The socket cannot be made, or another daemon serves it.
pub fn serve(gateway: &Gateway, orders: Orders, observer: Arc<Observer>) -> Result<impl Future<Output = ()> + use<>> {
    let listener = listen(gateway)?;
    Ok(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (orders, observer) = (orders.clone(), Arc::clone(&observer));
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, orders, observer).await {
                            tracing::debug!(%error, "a client of the control socket");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket");
                    // Such as too many open files: it would fail again at once, and for ever.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    })
}

fn listen(gateway: &Gateway) -> Result<UnixListener> {
    let path = &gateway.control_socket;
    let name = path.display();
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("another daemon serves {name}: stop it first, or set another gateway.control_socket");
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // What an earlier daemon left.
        Ok(found) if found.file_type().is_socket() => {
            fs::remove_file(path).with_context(|| format!("cannot replace {name}"))?;
        }
        Ok(_) => bail!("{name} is there and is no socket: set another gateway.control_socket"),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {name}")),
    }
    // Nobody may connect before mode and group are right.
    let before = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path).with_context(|| format!("cannot make {name}"));
    rustix::process::umask(before);
    let listener = listener?;
    if let Some(group) = &gateway.control_group {
        chown(path, None, Some(group_id(group)?)).with_context(|| format!("cannot give {name} to group {group}"))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
        .with_context(|| format!("cannot set the mode of {name}"))?;
    Ok(listener)
}

fn group_id(name: &str) -> Result<u32> {
    let groups = fs::read_to_string("/etc/group").context("cannot read /etc/group")?;
    let group = groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
    let id = group.and_then(|fields| fields.get(2)?.parse().ok());
    id.with_context(|| format!("gateway.control_group: there is no group {name}; make it with `groupadd {name}`"))
}

async fn converse(stream: UnixStream, orders: Orders, observer: Arc<Observer>) -> Result<()> {
    let asked_by = stream.peer_cred().ok().map(|peer| user(peer.uid()));
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(tokio::io::AsyncReadExt::take(reader, LONGEST_REQUEST));
    let mut line = String::new();
    while reader.read_line(&mut line).await? > 0 {
        match understand(&line) {
            Ok(Command::Events { follow }) => return events(&mut writer, &orders, follow).await,
            Ok(command) => {
                let command = signed(command, asked_by.as_deref());
                reply(&mut writer, &answer(command, &orders, &observer).await).await?;
            }
            Err(why) => reply(&mut writer, &Answer::Invalid(why)).await?,
        }
        line.clear();
        reader.get_mut().set_limit(LONGEST_REQUEST);
    }
    Ok(())
}

fn understand(line: &str) -> Result<Command, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        protocol: u32,
    }
    // The version first: another version may well have other commands.
    let Version { protocol } = serde_json::from_str(line).map_err(|error| format!("no request: {error}"))?;
    if protocol != PROTOCOL {
        return Err(format!("the daemon speaks protocol {PROTOCOL}, the request is of protocol {protocol}"));
    }
    let request: Request = serde_json::from_str(line).map_err(|error| format!("unknown request: {error}"))?;
    Ok(request.command)
}

/// The name of a user, or the number if there is no name.
fn user(id: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let named = |fields: &Vec<&str>| fields.get(2).and_then(|field| field.parse().ok()) == Some(id);
    users.into_iter().find(named).map_or_else(|| format!("uid {id}"), |fields| fields[0].to_owned())
}

/// An order under the name of whoever is at the other end.
fn signed(command: Command, asked_by: Option<&str>) -> Command {
    let asked_by = asked_by.map(ToOwned::to_owned);
    match command {
        Command::Switch(request) => Command::Switch(SwitchRequest { asked_by, ..request }),
        Command::Hold(request) => Command::Hold(HoldRequest { asked_by, ..request }),
        Command::Drain(request) => Command::Drain(DrainRequest { asked_by, ..request }),
        other => other,
    }
}

async fn answer(command: Command, orders: &Orders, observer: &Observer) -> Answer {
    let answer = match command {
        Command::Status => observer.status(orders).await.map(|status| Answer::Status(Box::new(status))),
        Command::Plan => orders.ask(Order::Plan).await.map(Answer::Plan),
        Command::Switch(request) => {
            orders.ask(|sender| Order::Switch(request, sender)).await.map(|outcome| done(outcome, Answer::Switched))
        }
        Command::Hold(request) => {
            orders.ask(|sender| Order::Hold(request, sender)).await.map(|outcome| done(outcome, Answer::Held))
        }
        Command::Drain(request) => {
            orders.ask(|sender| Order::Drain(request, sender)).await.map(|outcome| done(outcome, Answer::Drained))
        }
        Command::Events { .. } => None,
    };
    answer.unwrap_or_else(|| Answer::Refused("the controller has ended".to_owned()))
}

fn done<T>(outcome: Result<T, String>, answer: impl FnOnce(T) -> Answer) -> Answer {
    outcome.map_or_else(Answer::Refused, answer)
}

async fn events(writer: &mut OwnedWriteHalf, orders: &Orders, follow: bool) -> Result<()> {
    let Some((latest, mut following)) = orders.ask(Order::Events).await else { return Ok(()) };
    for event in latest {
        reply(writer, &Answer::Event(Box::new(event))).await?;
    }
    if !follow {
        return Ok(());
    }
    loop {
        match following.recv().await {
            Ok(event) => reply(writer, &Answer::Event(Box::new(event))).await?,
            Err(RecvError::Lagged(missed)) => {
                let why = format!("{missed} events are missing here: the reader was too slow");
                reply(writer, &Answer::Refused(why)).await?;
            }
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

async fn reply(writer: &mut OwnedWriteHalf, answer: &Answer) -> Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    Ok(writer.write_all(&line).await?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn gateway(control_socket: &Path) -> Gateway {
        Gateway {
            front: "front".to_owned(),
            back: "back".to_owned(),
            allow_generic: false,
            pin_dir: "/sys/fs/bpf/voip-ha".into(),
            control_socket: control_socket.to_owned(),
            control_group: None,
            state_dir: "/var/lib/voip-ha".into(),
            masquerade_idle: std::time::Duration::from_secs(300),
        }
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_replaced_and_any_other_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        drop(listen(&gateway(&path)).unwrap());
        assert!(path.exists());
        listen(&gateway(&path)).unwrap();

        let precious = directory.path().join("precious");
        fs::write(&precious, "kept").unwrap();
        let refused = listen(&gateway(&precious)).unwrap_err();
        assert!(refused.to_string().contains("is no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
    }
}
