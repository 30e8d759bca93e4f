//! `vswitchd`: the daemon, in the foreground.
//!
//! Start: configuration, state (one daemon per state directory), packet loops, the networks and endpoints
//! of before, API socket, `READY=1`. Stop on SIGTERM or SIGINT: no new requests, endpoints and devices
//! removed, networks kept, socket removed. A second signal ends the clean-up.

mod descriptors;
mod inherited;
mod notify;
mod ping;
mod uplink;

use std::{
    ffi::OsString,
    fs,
    io::{self, IsTerminal},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use rustix::fs::Mode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    api,
    config::{Config, RawConfig},
    control::{
        Control, ControlConfig, ControlError, InheritedSockets, ShutdownMode, StoreError, SubnetPool,
        TapAttacher, host_prefixes,
    },
    dataplane::DataPlane,
    dns::{RESOLV_CONF, ResolverWatch},
    io::attach::AttachClient,
    paths,
    uplink::UplinkChoice,
};

/// Name of the hidden subcommand by which `vswitch demo` runs the daemon from its own program file.
pub const HIDDEN: &str = "vswitchd";

/// A userspace virtual switch for containers.
///
/// Runs in the foreground, as root or as an ordinary user, until SIGTERM or SIGINT.
///
/// Exit codes: 0 stopped by a signal, everything cleaned up; 1 failed; 2 wrong usage or configuration;
/// 3 another vswitchd serves the same socket or state directory.
#[derive(Debug, Parser)]
#[command(name = "vswitchd", version, verbatim_doc_comment)]
struct Args {
    /// TOML file whose keys are the long flags (and default-address-pools); flags win over it
    #[arg(short, long, env = "VSWITCH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: RawConfig,
}

/// Runs the daemon with these arguments, the first being the program's name.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    // Before anything else is opened.
    let inherited = inherited::take();
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Help and version are "errors" that go to standard output.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let config = match Config::load(args.config.as_deref(), args.flags) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("vswitchd: {error}");
            return ExitCode::from(USAGE);
        }
    };
    start_logging(config.log_level);
    match run(config, inherited) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without logging the reason must be seen all the same.
            eprintln!("vswitchd: {error:#}");
            ExitCode::from(if another_daemon(&error) { ANOTHER } else { FAILED })
        }
    }
}

/// Time for what is left to do when everything has been cleaned up: closing files.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const ANOTHER: u8 = 3;

fn run(config: Config, inherited: Vec<OwnedFd>) -> Result<()> {
    // The socket and the database are this user's alone from the moment that they exist.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let descriptors = descriptors::for_host_sockets(descriptors::raise_limit());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The control plane is idle nearly always; the cores are the packet loops'.
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("start the control threads")?;
    let served = runtime.block_on(serve(config, descriptors, inherited));
    // Dropping the runtime would wait for its blocking tasks, of which one may hang.
    match served {
        Ok(()) => runtime.shutdown_timeout(LAST_PATIENCE),
        Err(_) => runtime.shutdown_background(),
    }
    served
}

async fn serve(config: Config, descriptors: usize, inherited: Vec<OwnedFd>) -> Result<()> {
    // Signals count from the start: one that comes during the start-up ends it properly.
    let (mut first, mut all) = (StopSignals::watch()?, StopSignals::watch()?);
    let stopped = async move {
        let name = first.next().await;
        tracing::info!("{name}: stopping");
        notify::send("STOPPING=1");
    };
    let impatience = async move {
        all.next().await;
        all.next().await
    };
    tokio::select! {
        served = serve_until(stopped, config, descriptors, inherited) => served,
        name = impatience => bail!("{name} while stopping: not everything has been cleaned up"),
    }
}

async fn serve_until(
    stopped: impl Future<Output = ()> + Send + 'static,
    config: Config,
    descriptors: usize,
    inherited: Vec<OwnedFd>,
) -> Result<()> {
    if let Some(dir) = config.socket.path().parent() {
        make_private_dir(dir)?;
    }
    if let Some(dir) = paths::shared_parent(&config.state_dir) {
        make_private_dir(&dir)?;
    }
    make_private_dir(&config.state_dir)?;
    let (listener, _socket_file) = config.socket.listen()?;
    let (dataplane, reports) =
        DataPlane::start(config.workers, config.poll, descriptors).context("start the packet loops")?;
    let uplink = match config.uplink {
        UplinkChoice::Device(device) => {
            uplink::open(&device, &dataplane).await?;
            Some(device)
        }
        UplinkChoice::Sockets => None,
    };
    // By a device containers ping without the host's sockets.
    let hint = match uplink {
        None => ping::hint(),
        Some(_) => None,
    };
    let hints: Vec<String> = hint.into_iter().collect();
    for hint in &hints {
        tracing::warn!("{hint}");
    }
    let attacher = Arc::new(TapAttacher::new(AttachClient::default(), dataplane.clone()));
    let pools = if config.address_pools.is_empty() {
        SubnetPool::defaults()
    } else {
        config.address_pools
    };
    let control = Control::start(ControlConfig {
        state_dir: config.state_dir,
        pools,
        avoided: host_prefixes,
        dataplane,
        reports,
        attacher,
        inherited: InheritedSockets::new(inherited),
        hints,
        uplink,
    })
    .await?;
    uplink::settle(control.dataplane()).await?;
    let resolvers = ResolverWatch::start(&control, Path::new(RESOLV_CONF));
    tracing::info!(socket = %config.socket, workers = config.workers, "ready");
    notify::send("READY=1");

    api::serve(listener, control.clone(), stopped)
        .await
        .context("serve the API")?;
    drop(resolvers);
    control.shutdown(ShutdownMode::CleanUp).await;
    tracing::info!("stopped");
    Ok(())
}

/// The signals that end the daemon.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn watch() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("watch for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("watch for SIGINT")?,
        })
    }

    /// The name of the next one to come.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Makes a directory if it is missing, for this user alone, and refuses one that others decide about.
fn make_private_dir(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("create {}", dir.display()))?;
    paths::check_private(dir).with_context(|| format!("use {}", dir.display()))
}

fn start_logging(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Whether the error says that another daemon has what we need.
fn another_daemon(error: &anyhow::Error) -> bool {
    let address_in_use = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    error.downcast_ref().is_some_and(address_in_use)
        || matches!(
            error.downcast_ref(),
            Some(ControlError::Store(StoreError::Locked { .. }))
        )
}
