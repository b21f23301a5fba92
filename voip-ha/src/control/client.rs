//! The command line's side of the control socket.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Answer, Command, PROTOCOL, Request};

/// How long the daemon may take to answer. It does so in milliseconds, unless it hangs.
const ANSWER: Duration = Duration::from_secs(5);

/// A conversation with the daemon.
pub struct Client {
    reader: BufReader<UnixStream>,
}

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves the socket.
    #[error("no daemon answers at {path}: start `voip-ha run`, or name its socket with --socket")]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket may not be opened.
    #[error("{path} may not be opened: root, or the group of the socket (gateway.control_group), may")]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon is there and says nothing.
    #[error("the daemon does not answer: no word for {} s", ANSWER.as_secs())]
    Silent,
    /// The daemon was there, and ended before it answered.
    #[error("the daemon ended before it answered; its log says why")]
    Ended,
    /// What it said cannot be read.
    #[error("the daemon's answer: {0}")]
    Broken(io::Error),
    /// The daemon says no.
    #[error("{0}")]
    Refused(String),
    /// The daemon does not understand this version.
    #[error("{0}; are the command and the daemon of the same version?")]
    Invalid(String),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match error.kind() {
            BrokenPipe | ConnectionReset | UnexpectedEof => Self::Ended,
            _ => Self::Broken(error),
        }
    }
}

impl Client {
    /// Connects to the daemon.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotRunning`], [`ClientError::Forbidden`] or [`ClientError::Broken`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(ANSWER))?;
                Ok(Self { reader: BufReader::new(stream) })
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::Forbidden { path: path.to_owned() })
            }
            Err(_) => Err(ClientError::NotRunning { path: path.to_owned() }),
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// [`ClientError::Ended`] or [`ClientError::Broken`].
    pub fn send(&mut self, command: Command) -> Result<(), ClientError> {
        let mut line =
            serde_json::to_vec(&Request { protocol: PROTOCOL, command: command.clone() }).map_err(io::Error::other)?;
        line.push(b'\n');
        if let Command::Events { follow: true } = command {
            // The next event may be a long time off.
            self.reader.get_ref().set_read_timeout(None)?;
        }
        Ok(self.reader.get_mut().write_all(&line)?)
    }

    /// The next answer; `None` if the daemon has no more to say.
    ///
    /// # Errors
    ///
    /// All but [`ClientError::NotRunning`] and [`ClientError::Forbidden`].
    pub fn next_answer(&mut self) -> Result<Option<Answer>, ClientError> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(ClientError::Silent),
            read => read?,
        };
        match serde_json::from_str(&line).map_err(io::Error::other)? {
            Answer::Refused(why) => Err(ClientError::Refused(why)),
            Answer::Invalid(why) => Err(ClientError::Invalid(why)),
            answer => Ok(Some(answer)),
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    ///
    /// As [`Client::next_answer`].
    pub fn ask(&mut self, command: Command) -> Result<Answer, ClientError> {
        self.send(command)?;
        self.next_answer()?.ok_or(ClientError::Ended)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_daemon_that_hangs_is_told_from_one_that_is_not_running() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let _hanging = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect(&path).unwrap();
        assert!(matches!(client.ask(Command::Status), Err(ClientError::Silent)));
    }

    #[test]
    fn a_daemon_that_ends_before_it_answers_is_not_taken_for_one_that_answers_nonsense() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let ending = UnixListener::bind(&path).unwrap();
        let mut client = Client::connect(&path).unwrap();
        drop(ending);
        assert!(matches!(client.ask(Command::Status), Err(ClientError::Ended)));
    }
}
