//! `docker-proxy`: brings the clients of one published port to a container. dockerd starts it, once per port, if
//! its `--userland-proxy-path` leads here.
#![forbid(unsafe_code)]

mod flags;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use vswitch_proxy::forward::{Forwarder, Inherited, Order, Status};

use flags::{Command, Flags};

fn main() -> ExitCode {
    // Before anything is opened, whose number could be one of theirs.
    let Inherited { status, listener } = Inherited::take();
    let flags = match flags::parse(env::args_os().skip(1)) {
        Ok(Command::Forward(flags)) => flags,
        Ok(Command::Help) => return print(flags::USAGE),
        Ok(Command::Version) => {
            return print(concat!(
                "docker-proxy (vswitch) ",
                env!("CARGO_PKG_VERSION"),
                "\n"
            ));
        }
        Err(error) => {
            say(&format!("{error}\n{}", flags::USAGE));
            Status::new(status).fail(&error.to_string());
            return ExitCode::from(USAGE_ERROR);
        }
    };
    if status.is_none() {
        say(
            "docker-proxy is started by dockerd, with a pipe as descriptor 3 on which it tells that it listens; \
             there is none, so nobody is told\n",
        );
    }
    let status = Status::new(status);
    let started =
        order(flags, listener).and_then(|order| Forwarder::new(order).map_err(|error| error.to_string()));
    let forwarder = match started {
        Ok(forwarder) => forwarder,
        Err(reason) => {
            say(&format!("docker-proxy: {reason}\n"));
            status.fail(&reason);
            return ExitCode::FAILURE;
        }
    };
    status.succeed();
    match forwarder.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("docker-proxy: wait for clients: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn order(flags: Flags, listener: Option<std::os::fd::OwnedFd>) -> Result<Order, String> {
    let protocol = flags.protocol()?;
    let listener = match flags.listener {
        flags::Listener::Bind => None,
        flags::Listener::Given => Some(
            listener.ok_or("-use-listen-fd: there is no descriptor 4: it has to be the listening socket")?,
        ),
    };
    Ok(Order {
        protocol,
        host: flags.host,
        container: flags.container,
        listener,
    })
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Without standard error there is nobody to tell.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// As Go's `flag` package has it.
const USAGE_ERROR: u8 = 2;
