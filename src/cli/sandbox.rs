//! `vswitch run`, `exec`, `attach`, `detach` and `stop`.
//!
//! `run` prepares the sandbox's namespaces, hands the waiting process to the daemon, and lets it become
//! the command only when its interfaces stand. Whatever fails before that leaves nothing behind: the
//! waiting process ends with its launcher, and the daemon forgets a sandbox whose process has ended.

use std::{
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use ipnet::IpNet;
use tokio::time;

use super::{
    args::{AttachArgs, AttachmentArgs, DetachArgs, ExecArgs, PublishFlag, RunArgs, StopArgs, TargetArgs},
    daemon::Session,
    failure::{Failure, report, warn},
    names,
    network_flag::{self, NetworkFlag},
    progress,
};
use crate::{
    api::{
        client::{Client, ClientError},
        types::{SandboxCreate, SandboxCreated, SandboxNetwork},
    },
    dns::{RESOLV_CONF, ResolvConf},
    sandbox::{Entry, HostsEntry, LaunchConfig, LaunchError, Launcher, Names, Prepared, Signals, Stdio},
};

/// `vswitch run`; gives the command's exit code.
///
/// # Errors
///
/// The sandbox could not be prepared or attached (exit code 125), or its command not be executed (126,
/// 127). Nothing is left behind.
pub fn run(session: &Session, args: RunArgs, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let networks = networks(&args.attachment)?;
    // Without a daemon there is no use in making namespaces.
    let client = session.connect().map_err(before_command)?;
    let Registered {
        sandbox,
        prepared,
        hostname,
    } = register(session, &client, &args, &networks)?;
    warn(prepared.warnings().iter().chain(&sandbox.warnings));
    // From here on signals are the command's; until here they end us, and the sandbox with us.
    let signals = match args.detach {
        true => None,
        false => Some(Signals::hold().map_err(|error| own("hold back signals", &error))?),
    };
    // A host that has none to read has no search domains either.
    let host = ResolvConf::read(Path::new(RESOLV_CONF)).unwrap_or_default();
    let mut running = match prepared.start(&name_files(&hostname, &sandbox, host)) {
        Ok(running) => running,
        Err(error) => {
            forget(session, &client, &sandbox.id);
            return Err(launch_failure(error));
        }
    };
    warn(running.warnings());
    if args.detach {
        writeln!(out, "{}", sandbox.id)?;
        return Ok(ExitCode::SUCCESS);
    }
    let code = running
        .wait(signals.as_ref())
        .map_err(|error| own("wait for the command", &error));
    forget(session, &client, &sandbox.id);
    Ok(ExitCode::from(code?))
}

/// `vswitch exec`: this process becomes the command, so it returns only on failure.
///
/// # Errors
///
/// There is no such sandbox, or it cannot be entered (exit code 125).
pub fn exec(session: &Session, args: ExecArgs) -> Result<ExitCode, Failure> {
    let container = session
        .connect()
        .and_then(|client| session.wait(client.container(&args.name)))
        .map_err(before_command)?;
    let name = &args.name;
    if !container.state.running {
        return Err(Failure::new(format_args!("sandbox {name} is not running")).before_command());
    }
    if container.state.pid == 0 {
        return Err(Failure::new(format_args!(
            "sandbox {name} was attached by the path of its namespace and has no process to join; \
             use `nsenter --net={}`",
            container.network_settings.sandbox_key
        ))
        .before_command());
    }
    let (command, arguments) = split(&args.command)?;
    let entry = Entry {
        pid: container.state.pid,
        started: container.state.start_ticks,
        command,
        args: arguments,
        environment: environment(&args.env)?,
        directory: None,
    };
    let error = entry.exec();
    Err(Failure::explained(&error).with_code(error.exit_code()))
}

/// `vswitch attach`.
///
/// # Errors
///
/// The flags do not go together; those of the daemon and of standard output.
pub fn attach(session: &Session, args: AttachArgs, out: &mut impl Write) -> Result<(), Failure> {
    let networks = networks(&args.attachment)?;
    let TargetArgs { pid, netns } = args.target;
    let netns = netns.as_deref().map(absolute).transpose()?;
    let mut attempts = Attempts::new(args.name);
    session.ask(async |client| {
        loop {
            let wish = SandboxCreate {
                pid,
                netns: netns.clone(),
                ..wish(attempts.name(), &networks, &args.publish)
            };
            match progress::with_spinner("attaching", client.create_sandbox(&wish)).await {
                Ok(sandbox) => {
                    warn(&sandbox.warnings);
                    return Ok(writeln!(out, "{}", sandbox.id)?);
                }
                Err(error) if is_taken(&error) && attempts.again() => {}
                Err(error) => return Err(refusal(error)),
            }
        }
    })
}

/// `vswitch detach`: each name that fails is reported and the others are still detached.
///
/// # Errors
///
/// Those of the daemon and of standard output.
pub async fn detach(client: &Client, args: &DetachArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut failed = false;
    for name in &args.sandboxes {
        failed |= confirm(name, client.delete_sandbox(name).await, out)?;
    }
    if failed { Err(Failure::reported()) } else { Ok(()) }
}

/// `vswitch stop`: all at once, so that those that do not obey do not add up their time; each name that
/// fails is reported.
///
/// # Errors
///
/// Those of the daemon and of standard output.
pub async fn stop(client: &Client, args: &StopArgs, out: &mut impl Write) -> Result<(), Failure> {
    let timeout = args.timeout;
    let stopping = args.sandboxes.iter().map(|name| {
        let (client, name) = (client.clone(), name.clone());
        tokio::spawn(async move { client.stop_container(&name, timeout).await })
    });
    let mut failed = false;
    for (name, stopping) in args.sandboxes.iter().zip(stopping.collect::<Vec<_>>()) {
        let outcome = stopping.await.map_err(Failure::new)?;
        failed |= confirm(name, outcome, out)?;
    }
    if failed { Err(Failure::reported()) } else { Ok(()) }
}

/// Prints the name of a sandbox that something was done to, or reports why not; true if it was not.
fn confirm(name: &str, outcome: Result<(), ClientError>, out: &mut impl Write) -> Result<bool, Failure> {
    match outcome {
        Ok(()) => writeln!(out, "{name}")?,
        Err(error @ ClientError::Refused { .. }) => {
            report(&error.to_string());
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(false)
}

/// A sandbox that the daemon has attached and that waits for its start.
struct Registered {
    sandbox: SandboxCreated,
    prepared: Prepared,
    hostname: String,
}

/// Prepares the namespaces and has the daemon attach them. A made-up name that is taken is made up anew;
/// the namespaces too, because the host name follows it.
fn register(
    session: &Session,
    client: &Client,
    args: &RunArgs,
    networks: &[SandboxNetwork],
) -> Result<Registered, Failure> {
    let (command, arguments) = split(&args.command)?;
    let environment = environment(&args.env)?;
    let log = args
        .log_file
        .as_deref()
        .map(absolute)
        .transpose()?
        .map(PathBuf::from);
    let mut attempts = Attempts::new(args.name.clone());
    loop {
        let hostname = args.hostname.clone().unwrap_or_else(|| hostname(attempts.name()));
        let prepared = Launcher::default()
            .prepare(&LaunchConfig {
                hostname: hostname.clone(),
                command: command.clone(),
                args: arguments.clone(),
                environment: environment.clone(),
                directory: None,
                stdio: match args.detach {
                    true => Stdio::Detached { log: log.clone() },
                    false => Stdio::Foreground,
                },
            })
            .map_err(launch_failure)?;
        let wish = SandboxCreate {
            pid: Some(prepared.pid()),
            hostname: Some(hostname.clone()),
            ..wish(attempts.name(), networks, &args.publish)
        };
        let attached = progress::with_spinner("attaching the sandbox", client.create_sandbox(&wish));
        match session.wait(attached) {
            Ok(sandbox) => {
                return Ok(Registered {
                    sandbox,
                    prepared,
                    hostname,
                });
            }
            Err(error) if is_taken(&error) && attempts.again() => {}
            Err(error) => return Err(refusal(error).before_command()),
        }
    }
}

/// The name that was given, or made-up ones until one is free.
struct Attempts {
    name: String,
    left: u32,
}

impl Attempts {
    fn new(given: Option<String>) -> Self {
        match given {
            Some(name) => Self { name, left: 0 },
            None => Self {
                name: names::random(),
                left: RETRIES,
            },
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// Makes up another name, unless the user gave it or too many were taken.
    fn again(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.name = names::random();
        true
    }
}

fn networks(args: &AttachmentArgs) -> Result<Vec<SandboxNetwork>, Failure> {
    Ok(network_flag::combine(args)
        .map_err(Failure::usage)?
        .into_iter()
        .map(network)
        .collect())
}

fn network(flag: NetworkFlag) -> SandboxNetwork {
    SandboxNetwork {
        network: flag.network,
        ipv4_address: flag.ip.map(|address| address.to_string()),
        ipv6_address: flag.ip6.map(|address| address.to_string()),
        mac_address: flag.mac.map(|mac| mac.to_string()),
        interface: flag.interface,
        endpoint: flag.endpoint.map(|kind| kind.to_string()),
        aliases: flag.aliases,
    }
}

fn wish(name: &str, networks: &[SandboxNetwork], publish: &PublishFlag) -> SandboxCreate {
    SandboxCreate {
        name: name.to_owned(),
        pid: None,
        netns: None,
        hostname: None,
        networks: networks.to_vec(),
        auto_remove: true,
        ports: publish.ports.clone(),
    }
}

/// What the sandbox's `/etc/hosts` says of itself, Docker putting the short name behind the full one, and
/// the resolvers of its networks in its `/etc/resolv.conf`, which else is the host's.
fn name_files(hostname: &str, sandbox: &SandboxCreated, host: ResolvConf) -> Names {
    let mut own = vec![hostname.to_owned()];
    if let Some((short, _)) = hostname.split_once('.') {
        own.push(short.to_owned());
    }
    let hosts = sandbox
        .endpoints
        .iter()
        .flat_map(|endpoint| [&endpoint.ipv4_address, &endpoint.ipv6_address])
        .filter_map(|address| address_of(address))
        .map(|address| HostsEntry {
            address,
            names: own.clone(),
        })
        .collect();
    Names {
        hosts,
        nameservers: sandbox.name_servers.clone(),
        search: host.search,
        options: host.options,
    }
}

fn address_of(text: &str) -> Option<IpAddr> {
    text.parse::<IpNet>()
        .map(|net| net.addr())
        .or_else(|_| text.parse())
        .ok()
}

/// The sandbox's name as a host name, which the kernel limits.
fn hostname(name: &str) -> String {
    name.chars().take(HOSTNAME_MAX).collect()
}

fn split(command: &[String]) -> Result<(String, Vec<String>), Failure> {
    match command.split_first() {
        Some((command, args)) => Ok((command.clone(), args.to_vec())),
        None => Err(Failure::usage("a command is missing")),
    }
}

/// `KEY=VALUE` as it stands; a bare `KEY` is inherited from our environment anyway.
fn environment(variables: &[String]) -> Result<Vec<(String, String)>, Failure> {
    variables
        .iter()
        .filter_map(|variable| match variable.split_once('=') {
            Some(("", _)) => Some(Err(Failure::usage(format_args!(
                "invalid environment variable: {variable}"
            )))),
            Some((key, value)) => Some(Ok((key.to_owned(), value.to_owned()))),
            None => None,
        })
        .collect()
}

/// The daemon has another current directory than we have.
fn absolute(path: &Path) -> Result<String, Failure> {
    let whole =
        std::path::absolute(path).map_err(|error| own(&format!("find {}", path.display()), &error))?;
    whole
        .into_os_string()
        .into_string()
        .map_err(|path| Failure::new(format_args!("{} is not UTF-8", path.display())))
}

/// Takes the sandbox off its networks. The daemon does so too when it notices the end; asking it makes
/// name and addresses free before we exit.
fn forget(session: &Session, client: &Client, id: &str) {
    let deletion = async { time::timeout(FAREWELL, client.delete_sandbox(id)).await };
    match session.wait(deletion) {
        Ok(Err(error)) if !error.is_not_found() => {
            report(&format!("warning: the sandbox could not be detached: {error}"));
        }
        Err(_) => report("warning: the daemon did not confirm that the sandbox is detached"),
        Ok(_) => {}
    }
}

fn is_taken(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status: CONFLICT, message } if message.contains("container name"))
}

fn before_command(error: ClientError) -> Failure {
    Failure::from(error).before_command()
}

/// What is wrong with the request takes a line as everywhere; what is wrong with the system, an explanation.
fn refusal(error: ClientError) -> Failure {
    match error {
        ClientError::Refused {
            status: 400..=499, ..
        } => Failure::from(error),
        _ => Failure::explained(error),
    }
}

fn launch_failure(error: LaunchError) -> Failure {
    Failure::explained(&error).with_code(error.exit_code())
}

fn own(operation: &str, error: &io::Error) -> Failure {
    Failure::new(format_args!("{operation}: {error}")).before_command()
}

/// How many made-up names may be taken: with 1000 sandboxes all of nine are once in 10^8 runs.
const RETRIES: u32 = 8;

/// Docker cuts host names there; the kernel allows one byte more (`__NEW_UTS_LEN`, linux/utsname.h).
const HOSTNAME_MAX: usize = 63;

/// HTTP 409: the name exists, or the address is taken.
const CONFLICT: u16 = 409;

/// How long a daemon may take to confirm that a sandbox is gone.
const FAREWELL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
