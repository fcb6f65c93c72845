//! Where a process of a cluster is reached.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A machine, by name or number, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Name or number of the machine; one of IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address as that of an HTTP server.
    pub fn url(&self) -> String {
        format!("http://{self}")
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::config(format!("`{text}` is no address: write HOST:PORT, such as `localhost:50050`"));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let url = url::Url::parse(&format!("http://{text}")).map_err(|_| wrong())?;
        let is_plain =
            url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if port == 0 || host.is_empty() || !is_plain {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["localhost:50050", "10.0.0.7:1", "[::1]:50050", "scheduler.simdrop.svc:50050"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in
            ["localhost", ":50050", "localhost:", "localhost:0", "localhost:70000", "a:1/b", "u@h:1", "::1:50050"]
        {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
