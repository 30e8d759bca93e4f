//! The flags of Docker's program of this name, in the forms that Go's `flag` package takes: `-flag value`,
//! `-flag=value`, and both with two hyphens.

use std::{
    ffi::OsString,
    fmt,
    net::{IpAddr, SocketAddr},
};

use vswitch_proxy::forward::Protocol;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Forward(Flags),
    Help,
    Version,
}

/// A port to forward.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    protocol: String,
    pub(crate) host: SocketAddr,
    pub(crate) container: SocketAddr,
    pub(crate) listener: Listener,
}

/// Where the listening socket comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// It is bound here.
    Bind,
    /// It is descriptor 4.
    Given,
}

/// What is wrong with the flags.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FlagError(String);

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Flags {
    /// What is to be forwarded.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn protocol(&self) -> Result<Protocol, String> {
        match &*self.protocol {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Err(
                "sctp is not supported by vswitch's docker-proxy: publish tcp or udp ports only, \
                 or start dockerd without --userland-proxy-path"
                    .to_owned(),
            ),
            other => Err(format!("unsupported protocol {other}")),
        }
    }
}

/// Reads the flags behind the program's name.
///
/// # Errors
/// One is unknown, lacks its value or has a bad one.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, FlagError> {
    let mut raw = Raw::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = text(arg)?;
        let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Err(FlagError(format!("unexpected argument {arg:?}")));
        };
        let (name, given) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        match name {
            "h" | "help" => return Ok(Command::Help),
            "v" | "version" if is_set(name, given.as_deref())? => return Ok(Command::Version),
            "v" | "version" => {}
            "use-listen-fd" => raw.use_listen_fd = is_set(name, given.as_deref())?,
            _ => {
                let place = raw.place(name)?;
                *place = Some(match given {
                    Some(value) => value,
                    None => text(
                        args.next()
                            .ok_or_else(|| FlagError(format!("flag needs an argument: -{name}")))?,
                    )?,
                });
            }
        }
    }
    raw.check()
}

/// The flags as they were written.
#[derive(Default)]
struct Raw {
    proto: Option<String>,
    host_ip: Option<String>,
    host_port: Option<String>,
    container_ip: Option<String>,
    container_port: Option<String>,
    use_listen_fd: bool,
}

impl Raw {
    fn place(&mut self, name: &str) -> Result<&mut Option<String>, FlagError> {
        match name {
            "container-ip" => Ok(&mut self.container_ip),
            "container-port" => Ok(&mut self.container_port),
            "host-ip" => Ok(&mut self.host_ip),
            "host-port" => Ok(&mut self.host_port),
            "proto" => Ok(&mut self.proto),
            _ => Err(FlagError(format!("flag provided but not defined: -{name}"))),
        }
    }

    fn check(self) -> Result<Command, FlagError> {
        Ok(Command::Forward(Flags {
            host: SocketAddr::new(
                address("host-ip", self.host_ip.as_deref())?,
                port("host-port", self.host_port.as_deref())?,
            ),
            container: SocketAddr::new(
                address("container-ip", self.container_ip.as_deref())?,
                port("container-port", self.container_port.as_deref())?,
            ),
            protocol: self.proto.unwrap_or_else(|| "tcp".to_owned()),
            listener: match self.use_listen_fd {
                true => Listener::Given,
                false => Listener::Bind,
            },
        }))
    }
}

fn address(flag: &str, value: Option<&str>) -> Result<IpAddr, FlagError> {
    let value = value.ok_or_else(|| FlagError(format!("flag is missing: -{flag}")))?;
    value.parse().map_err(|_| {
        FlagError(format!(
            "invalid value {value:?} for flag -{flag}: not an IP address"
        ))
    })
}

fn port(flag: &str, value: Option<&str>) -> Result<u16, FlagError> {
    let value = value.ok_or_else(|| FlagError(format!("flag is missing: -{flag}")))?;
    value
        .parse()
        .map_err(|_| FlagError(format!("invalid value {value:?} for flag -{flag}: not a port")))
}

fn is_set(flag: &str, value: Option<&str>) -> Result<bool, FlagError> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(FlagError(format!(
            "invalid boolean value {value:?} for -{flag}: parse error"
        ))),
    }
}

fn text(arg: OsString) -> Result<String, FlagError> {
    arg.into_string()
        .map_err(|arg| FlagError(format!("{arg:?} is not UTF-8")))
}

pub(crate) const USAGE: &str = "\
Usage of docker-proxy:
  -container-ip string
    \tcontainer ip
  -container-port int
    \tcontainer port
  -host-ip string
    \thost ip
  -host-port int
    \thost port
  -proto string
    \tproxy protocol, tcp or udp (default \"tcp\")
  -use-listen-fd
    \tuse the listening socket that is descriptor 4
  -v, -version
    \tprint the version
";

#[cfg(test)]
mod tests {
    use super::*;

    const HAPPY: &str =
        "-proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80";

    #[test]
    fn every_form_of_a_flag_says_the_same() {
        let happy = parsed(HAPPY);
        let Ok(Command::Forward(flags)) = &happy else {
            panic!("{happy:?}");
        };
        assert_eq!(flags.host, "0.0.0.0:8080".parse().expect("an address"));
        assert_eq!(flags.container, "172.17.0.2:80".parse().expect("an address"));
        assert_eq!(
            (flags.protocol(), flags.listener),
            (Ok(Protocol::Tcp), Listener::Bind)
        );
        assert_eq!(parsed(&HAPPY.replace("-host-ip ", "-host-ip=")), happy);
        assert_eq!(parsed(&HAPPY.replace("-host-ip ", "--host-ip ")), happy);
        assert_eq!(parsed(&HAPPY.replace("-host-ip ", "--host-ip=")), happy);
        assert_eq!(parsed(HAPPY.trim_start_matches("-proto tcp ")), happy);
        assert_eq!(parsed(&format!("{HAPPY} -use-listen-fd=false")), happy);
        let Ok(Command::Forward(given)) = parsed(&format!("{HAPPY} -use-listen-fd")) else {
            panic!("a flag of newer dockerds");
        };
        assert_eq!(given.listener, Listener::Given);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (flags, error) in [
            ("-bogus", "flag provided but not defined: -bogus"),
            ("-proto", "flag needs an argument: -proto"),
            ("stray", "unexpected argument \"stray\""),
            ("-host-ip 1.2.3", "flag -host-ip"),
            ("-host-ip ::1 -host-port -1", "flag -host-port: not a port"),
            ("-host-ip ::1 -host-port 65536", "flag -host-port: not a port"),
            ("-host-ip ::1 -host-port 1", "flag is missing: -container-ip"),
            (
                "-use-listen-fd=maybe",
                "invalid boolean value \"maybe\" for -use-listen-fd",
            ),
        ] {
            let FlagError(text) = parsed(flags).expect_err(flags);
            assert!(text.contains(error), "{flags}: {text}");
        }
    }

    #[test]
    fn only_tcp_and_udp_are_forwarded() {
        for (protocol, expected) in [
            ("udp", Ok(())),
            ("sctp", Err("sctp is not supported")),
            ("x", Err("unsupported protocol x")),
        ] {
            let Ok(Command::Forward(flags)) = parsed(&HAPPY.replace("tcp", protocol)) else {
                panic!("{protocol}");
            };
            match (flags.protocol(), expected) {
                (Ok(_), Ok(())) => {}
                (Err(text), Err(expected)) => assert!(text.contains(expected), "{text}"),
                other => panic!("{protocol}: {other:?}"),
            }
        }
    }

    #[test]
    fn help_and_version_want_nothing_else() {
        for (flags, command) in [
            ("-h", Command::Help),
            ("--help", Command::Help),
            ("-v", Command::Version),
            ("--version", Command::Version),
        ] {
            assert_eq!(parsed(flags), Ok(command), "{flags}");
        }
    }

    fn parsed(flags: &str) -> Result<Command, FlagError> {
        parse(flags.split_whitespace().map(OsString::from))
    }
}
