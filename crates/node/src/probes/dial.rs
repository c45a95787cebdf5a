//! Where a probe connects to: a pod through its runtime (its port may be one that the host does not have), or a host.

use std::{fmt, io::ErrorKind, sync::Arc};

use skiff_runtime::{Connection, Error, Runtime, SandboxId};
use tokio::net::TcpStream;

#[derive(Clone)]
pub(super) enum Target {
    Pod { runtime: Arc<dyn Runtime>, sandbox: SandboxId, host: String, port: u16 },
    Host { host: String, port: u16 },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host().contains(':') {
            write!(f, "[{}]:{}", self.host(), self.port())
        } else {
            write!(f, "{}:{}", self.host(), self.port())
        }
    }
}

impl Target {
    pub fn host(&self) -> &str {
        match self {
            Self::Pod { host, .. } | Self::Host { host, .. } => host,
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Self::Pod { port, .. } | Self::Host { port, .. } => *port,
        }
    }

    /// The same place with another port.
    pub fn with_port(&self, to: u16) -> Self {
        let mut other = self.clone();
        match &mut other {
            Self::Pod { port, .. } | Self::Host { port, .. } => *port = to,
        }
        other
    }

    /// # Errors
    /// In the words of Go's dialer, which users know.
    pub async fn dial(&self) -> Result<Box<dyn Connection>, String> {
        if let Self::Pod { runtime, sandbox, port, .. } = self {
            match runtime.dial(sandbox, *port).await {
                Ok(connection) => return Ok(connection),
                // A runtime whose pods have addresses of the system's network.
                Err(Error::Unsupported(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        match TcpStream::connect((self.host(), self.port())).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Err(format!("dial tcp {self}: connect: connection refused"))
            }
            Err(error) => Err(format!("dial tcp {self}: {error}")),
        }
    }
}
