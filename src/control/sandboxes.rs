//! Commands on sandboxes.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    Control, ControlError, State, Verb, Writer, endpoint_plan,
    endpoints::{Container, TornDown},
    ports,
    publications::{DISCARDED, Home, why_dormant},
    store::Change,
};
use crate::{
    api::types::{SandboxCreate, SandboxNetwork},
    io::{
        attach::AttachError,
        netns::{Liveness, NetnsError, NetnsTarget},
    },
    model::{
        Driver, Endpoint, EndpointRequest, Namespace, Network, PortRequest, Sandbox, SandboxId, Timestamp,
    },
};

/// Who asks for something, as the kernel vouches for it (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The process's effective user when it connected.
    pub uid: u32,
}

impl Caller {
    /// Whether a daemon that runs as `ours` may use what is `owner`'s for this caller.
    ///
    /// A daemon of the caller's own has no other rights than the caller: then the kernel decides. A
    /// rootless container's processes, for example, run as subordinate users of the caller's.
    fn may_use(self, owner: u32, ours: u32) -> bool {
        [0, ours, owner].contains(&self.uid)
    }
}

/// A sandbox that was taken into service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSandbox {
    /// Its id.
    pub id: SandboxId,
    /// What was done differently from what was asked.
    pub warnings: Vec<String>,
}

impl Control {
    /// Takes a network namespace into service, connects it to its networks and publishes its ports.
    ///
    /// # Errors
    ///
    /// The request is wrong, the namespace is not the caller's, a device cannot be made or a port cannot be
    /// bound; nothing has changed.
    pub async fn create_sandbox(
        &self,
        request: SandboxCreate,
        caller: Caller,
    ) -> Result<NewSandbox, ControlError> {
        let control = self.clone();
        self.detached(async move {
            let mut writer = control.writer().await?;
            check_name(&request.name)?;
            let ports = ports::check(request.ports)?;
            let holder = control.read(|state| {
                state
                    .sandboxes()
                    .find(|sandbox| sandbox.name == request.name)
                    .map(|sandbox| sandbox.id)
            });
            if let Some(id) = holder {
                return Err(ControlError::SandboxExists {
                    name: request.name,
                    id,
                });
            }
            let id =
                SandboxId::random().map_err(|error| ControlError::system("get random numbers", error))?;
            let wishes = control.read(|state| wishes(state, &request.networks))?;
            let hostname = request
                .hostname
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| id.short());
            let sandbox = Sandbox {
                id,
                name: request.name,
                namespace: namespace(request.pid, request.netns, caller)?,
                boot: control.shared.boot.clone(),
                hostname,
                created: Timestamp::now(),
                auto_remove: request.auto_remove,
                finished: None,
                ports: Vec::new(),
            };
            let started = control.start_sandbox(&mut writer, sandbox, wishes, ports);
            Ok(NewSandbox {
                id,
                warnings: started.await?,
            })
        })
        .await
    }

    /// Takes a sandbox off all its networks and forgets it.
    ///
    /// # Errors
    ///
    /// There is none such. After [`ControlError::Teardown`] it is forgotten.
    pub async fn delete_sandbox(&self, term: &str) -> Result<(), ControlError> {
        let (control, term) = (self.clone(), term.to_owned());
        self.detached(async move {
            let mut writer = control.writer().await?;
            let sandbox = control.read(|state| state.resolve_sandbox(&term).cloned())?;
            control.drop_sandbox(&mut writer, sandbox, Container::Alive).await
        })
        .await
    }

    /// Gives what was done differently from what was asked.
    async fn start_sandbox(
        &self,
        writer: &mut Writer,
        mut sandbox: Sandbox,
        wishes: Vec<(Network, EndpointRequest)>,
        requests: Vec<PortRequest>,
    ) -> Result<Vec<String>, ControlError> {
        let endpoints = self.plan(writer, &sandbox, wishes)?;
        let (mut warnings, mut taken, mut home) = (Vec::new(), Vec::new(), None);
        if !requests.is_empty() && endpoints.is_empty() {
            warnings.push(DISCARDED.to_owned());
        } else if !requests.is_empty() {
            match self.future_home(&sandbox, &endpoints) {
                Err(warning) => warnings.push(warning),
                Ok(present) => home = Some(present),
            }
            match self.bind(writer, &sandbox, home.as_ref(), requests).await {
                Ok(bound) => taken = bound,
                Err(error) => {
                    endpoints.iter().for_each(|endpoint| writer.release(endpoint));
                    return Err(error);
                }
            }
        }
        sandbox.ports = taken.iter().map(|taken| taken.mapping.clone()).collect();
        // Readers see the sandbox before its endpoints, never the other way round.
        let put = vec![Change::PutSandbox(sandbox.clone())];
        self.state().sandboxes.insert(sandbox.id, sandbox.clone());
        if let Err(error) = self.plug(writer, &sandbox, endpoints, put).await {
            if home.is_some() {
                writer.release_ports(&sandbox.ports);
            }
            self.state().sandboxes.remove(&sandbox.id);
            return Err(error);
        }
        if !taken.is_empty() {
            match self.serve(writer, &sandbox, home.as_ref(), taken).await {
                Ok(served) => {
                    self.state().publications.insert(sandbox.id, served);
                }
                Err(error) => {
                    self.abandon(writer, &sandbox).await;
                    return Err(error);
                }
            }
        }
        self.shared.events.sandbox("start", &sandbox);
        tracing::info!(
            sandbox = sandbox.name,
            id = sandbox.id.short(),
            "sandbox taken into service"
        );
        self.watch(writer, &sandbox);
        Ok(warnings)
    }

    /// Where the ports of a sandbox lead to when it has these endpoints; else why nowhere.
    fn future_home(&self, sandbox: &Sandbox, endpoints: &[Endpoint]) -> Result<Home, String> {
        self.read(|state| {
            let with_networks = endpoints
                .iter()
                .filter_map(|endpoint| Some((endpoint, state.network(endpoint.network)?)));
            let endpoints: Vec<_> = with_networks.collect();
            Home::of(&endpoints, state.prefixes()).ok_or_else(|| why_dormant(&sandbox.name, &endpoints))
        })
    }

    /// Undoes the devices of a sandbox that could not be started after all.
    async fn abandon(&self, writer: &mut Writer, sandbox: &Sandbox) {
        let removal = Change::RemoveSandbox(sandbox.id);
        match self
            .clear_sandbox(writer, sandbox, Container::Alive, removal)
            .await
        {
            Ok(torn_down) => {
                if let Err(error) = torn_down.outcome() {
                    tracing::warn!(sandbox = sandbox.name, %error, "roll back");
                }
            }
            Err(error) => {
                // The next start finds it.
                tracing::error!(sandbox = sandbox.name, %error, "cannot take back a stored sandbox");
            }
        }
        self.state().sandboxes.remove(&sandbox.id);
    }

    /// Forgets a sandbox with its endpoints.
    pub(super) async fn drop_sandbox(
        &self,
        writer: &mut Writer,
        sandbox: Sandbox,
        container: Container,
    ) -> Result<(), ControlError> {
        let torn_down = self
            .clear_sandbox(writer, &sandbox, container, Change::RemoveSandbox(sandbox.id))
            .await?;
        self.state().sandboxes.remove(&sandbox.id);
        self.shared.events.sandbox("destroy", &sandbox);
        tracing::info!(
            sandbox = sandbox.name,
            id = sandbox.id.short(),
            "sandbox forgotten"
        );
        torn_down.outcome()
    }

    /// Removes a sandbox's endpoints, stores in the same step what becomes of itself, and stops watching it.
    ///
    /// # Errors
    ///
    /// The removal could not be stored; nothing has changed then, so the sandbox must stay too.
    pub(super) async fn clear_sandbox(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
        container: Container,
        fate: Change,
    ) -> Result<TornDown, ControlError> {
        let endpoints = self.read(|state| {
            let endpoints = state.endpoints_of(sandbox.id);
            endpoints
                .into_iter()
                .map(|(endpoint, _)| endpoint.clone())
                .collect::<Vec<_>>()
        });
        let torn_down = self
            .remove_endpoints(writer, sandbox, endpoints, container, vec![fate])
            .await?;
        self.forget_ports(writer, sandbox.id);
        writer.dead.remove(&sandbox.id);
        if let Some(watcher) = writer.watchers.remove(&sandbox.id) {
            watcher.abort();
        }
        Ok(torn_down)
    }
}

/// Docker's rule, with its words (moby: daemon/names.go).
fn check_name(name: &str) -> Result<(), ControlError> {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.len() > 0 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if starts && rest {
        return Ok(());
    }
    let text = format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    Err(ControlError::Invalid(text))
}

/// The networks that were asked for: `bridge` by default, nothing for `none`.
fn wishes(
    state: &State,
    networks: &[SandboxNetwork],
) -> Result<Vec<(Network, EndpointRequest)>, ControlError> {
    let default = [SandboxNetwork {
        network: "bridge".into(),
        ..SandboxNetwork::default()
    }];
    let networks = if networks.is_empty() { &default } else { networks };
    let mut wishes = Vec::new();
    for wish in networks {
        let network = state.resolve_network(&wish.network, Verb::Change)?;
        if network.driver == Driver::Null && networks.len() == 1 {
            return Ok(Vec::new());
        }
        let request = endpoint_plan::from_sandbox(wish)?;
        endpoint_plan::check_against(&request, network)?;
        wishes.push((network.clone(), request));
    }
    Ok(wishes)
}

/// Finds the namespace, and what tells it from a later one at the same place.
fn namespace(pid: Option<u32>, path: Option<String>, caller: Caller) -> Result<Namespace, ControlError> {
    match (pid, path) {
        (Some(pid), None) => process(pid, caller),
        (None, Some(path)) => mounted(PathBuf::from(path), caller),
        (Some(_), Some(_)) | (None, None) => Err(ControlError::Invalid(
            "exactly one of Pid and Netns says where the container is".into(),
        )),
    }
}

fn process(pid: u32, caller: Caller) -> Result<Namespace, ControlError> {
    let liveness = Liveness::of(pid).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ControlError::Invalid(format!("no process with id {pid} is running")),
        _ => ControlError::system(format!("watch process {pid}"), error),
    })?;
    check_owner(&liveness, caller)?;
    Ok(Namespace::Process {
        pid,
        start_time: liveness.started(),
    })
}

/// Refuses strangers to the process, see [`Caller::may_use`].
pub(super) fn check_owner(process: &Liveness, caller: Caller) -> Result<(), ControlError> {
    let pid = process.pid();
    let failed = |error| ControlError::system(format!("read the owner of process {pid}"), error);
    let owner = owner(pid).map_err(failed)?;
    // The number may have changed hands before it was read, not while the process still lives.
    if !process.is_alive().map_err(failed)? {
        return Err(ControlError::Invalid(format!(
            "no process with id {pid} is running"
        )));
    }
    if !caller.may_use(owner, rustix::process::geteuid().as_raw()) {
        return Err(ControlError::ForeignProcess { pid, owner });
    }
    Ok(())
}

fn mounted(path: PathBuf, caller: Caller) -> Result<Namespace, ControlError> {
    if !path.is_absolute() {
        let text = format!(
            "{:?} is not the absolute path of a network namespace",
            path.display().to_string()
        );
        return Err(ControlError::Invalid(text));
    }
    let opened = NetnsTarget::Path(path.clone())
        .open()
        .map_err(|error| match error {
            NetnsError::Foreign { .. } => ControlError::Attach(AttachError::from(error).into()),
            wrong => ControlError::Invalid(wrong.to_string()),
        })?;
    let owner = opened
        .creator()
        .map_err(|error| ControlError::system(format!("find the owner of {}", path.display()), error))?;
    if !caller.may_use(owner, rustix::process::geteuid().as_raw()) {
        return Err(ControlError::ForeignNamespace { path, owner });
    }
    let identity = opened
        .identity()
        .map_err(|error| ControlError::system(format!("identify {}", path.display()), error))?;
    Ok(Namespace::Path {
        path,
        device: identity.device,
        inode: identity.inode,
    })
}

/// Real user id of a process (proc_pid_status(5)); the files in `/proc` belong to root when the process
/// may not be dumped.
fn owner(pid: u32) -> io::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|uids| uids.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the status has no Uid"))
}

/// Whether a sandbox's namespace is still the one that was handed to us.
pub(super) fn is_alive(namespace: &Namespace) -> io::Result<bool> {
    match namespace {
        Namespace::Process { pid, start_time } => Ok(Liveness::again(*pid, *start_time)?.is_some()),
        Namespace::Path { path, device, inode } => is_same_file(path, *device, *inode),
    }
}

/// An unmounted namespace leaves an ordinary file, or none.
fn is_same_file(path: &Path, device: u64, inode: u64) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (device, inode)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // `/proc/PID/ns/net` of a process that is just ending.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for name in ["ab", "0a", "web_1.x-y", "A0"] {
            check_name(name).expect(name);
        }
        for name in ["", "a", "-a", ".a", "_a", "a b", "a/b", "/ab", "aé"] {
            let error = check_name(name).expect_err(name).to_string();
            assert!(error.contains(&format!("({name})")), "{error}");
        }
    }

    #[test]
    fn only_owners_hand_over_their_processes() {
        let ours = std::process::id();
        let uid = rustix::process::getuid().as_raw();
        namespace(Some(ours), None, Caller { uid }).expect("it is ours");
        namespace(Some(ours), None, Caller { uid: 0 }).expect("root may");
        let stranger = namespace(
            Some(ours),
            None,
            Caller {
                uid: uid.wrapping_add(54_321),
            },
        );
        assert!(
            matches!(stranger, Err(ControlError::ForeignProcess { .. })),
            "{stranger:?}"
        );
    }

    #[test]
    fn a_callers_own_daemon_leaves_the_decision_to_the_kernel() {
        for (caller, owner, ours, expected) in [
            (1000, 1000, 0, true),
            (0, 1000, 0, true),
            (1000, 1001, 0, false),
            (1000, 100_999, 0, false),
            (1000, 100_999, 1000, true),
            (1001, 100_999, 1000, false),
            (1001, 1000, 1000, false),
        ] {
            let allowed = Caller { uid: caller }.may_use(owner, ours);
            assert_eq!(allowed, expected, "{caller} {owner} {ours}");
        }
    }

    #[test]
    fn places_that_are_no_namespace_are_refused() {
        let caller = Caller { uid: 0 };
        let refusal = |pid, path: Option<&str>| {
            namespace(pid, path.map(str::to_owned), caller)
                .expect_err("no namespace")
                .to_string()
        };
        assert!(refusal(None, None).starts_with("exactly one of"));
        assert!(refusal(Some(1), Some("/x")).starts_with("exactly one of"));
        assert!(refusal(None, Some("relative")).contains("\"relative\" is not the absolute path"));
        assert!(refusal(None, Some("/proc/self/status")).contains("/proc/self/status"));
        assert!(refusal(None, Some("/nonexistent")).contains("/nonexistent"));
        assert_eq!(refusal(Some(0), None), "no process with id 0 is running");
        assert_eq!(
            refusal(Some(u32::MAX), None),
            format!("no process with id {} is running", u32::MAX)
        );
        let found = namespace(None, Some("/proc/self/ns/net".into()), caller).expect("our own");
        assert!(is_alive(&found).expect("it can be read"));
        let stranger = Caller { uid: 54_321 };
        let foreign = namespace(None, Some("/proc/self/ns/net".into()), stranger);
        assert!(
            matches!(foreign, Err(ControlError::ForeignNamespace { .. })),
            "{foreign:?}"
        );
        if let Namespace::Path { path, device, inode } = found {
            assert!(!is_same_file(&path, device, inode + 1).expect("it can be read"));
        }
    }
}
