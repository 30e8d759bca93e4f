//! The command line's grammar.
//!
//! Verbs and flags are Docker's wherever Docker has them.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use vswitch_wire::MacAddr;

use super::network_flag::{self, NetworkFlag};
use crate::model::LinkKind;

pub use self::{
    conntrack::{ConnectionFilterArgs, ConntrackArgs, EventKind, Family, Output, Status, Table},
    ports::{ContainerPort, PortArgs, PublishArgs, PublishFlag, UnpublishArgs},
    replay::ReplayArgs,
};

mod conntrack;
mod ports;
mod replay;

/// Networks for containers on a userspace switch.
#[derive(Debug, Parser)]
#[command(
    name = "vswitch",
    version,
    after_help = EXIT_CODES,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// The daemon's socket [default: $XDG_RUNTIME_DIR/vswitch.sock, for root /run/vswitch.sock]
    #[arg(
        short = 'H',
        long,
        global = true,
        env = "VSWITCH_HOST",
        value_name = "unix://PATH"
    )]
    pub host: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `--help` says about exit codes; the module documentation of `cli` repeats it.
pub const EXIT_CODES: &str = "\
Exit codes:
  0      done
  1      the command failed; the reason is on stderr
  2      the command line is wrong
  run and exec pass the command's own exit code through, and use
  125    vswitch could not prepare the sandbox or enter it; the command never ran
  126    the command cannot be executed
  127    the command was not found
  128+n  signal n ended the command";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make and change networks
    #[command(subcommand, visible_alias = "net")]
    Network(NetworkCommand),
    /// Run a command in a new sandbox: its own namespaces, attached to networks
    Run(RunArgs),
    /// Run a command in a sandbox that exists
    Exec(ExecArgs),
    /// Publish ports of a sandbox that exists
    Publish(PublishArgs),
    /// Take published ports of a sandbox back
    Unpublish(UnpublishArgs),
    /// Show published ports, as docker port does
    Port(PortArgs),
    /// Attach a network namespace that something else made
    Attach(AttachArgs),
    /// Detach sandboxes from their networks and forget them
    Detach(DetachArgs),
    /// End the processes of sandboxes, and with them the sandboxes
    Stop(StopArgs),
    /// List sandboxes
    Ps(PsArgs),
    /// Describe sandboxes or networks in full
    Inspect(InspectArgs),
    /// Show networks as switches, with their ports
    Show(ShowArgs),
    /// Show forwarding databases
    Fdb(FdbArgs),
    /// Show port counters, and drops by reason
    Stats(StatsArgs),
    /// Show the connections that containers have to the outside
    Flows(FlowsArgs),
    /// Show and remove connections that are translated, as conntrack does
    #[command(long_about = conntrack::ABOUT, after_help = conntrack::EXIT_CODES)]
    Conntrack(Box<ConntrackArgs>),
    /// Show what is translated to what
    #[command(subcommand)]
    Nat(NatCommand),
    /// Play a capture through the NAT engine and write what comes out; needs no daemon
    Replay(ReplayArgs),
    /// Show all of it on a daemon of its own: two networks, three sandboxes, traffic, then remove everything
    Demo,
    /// Describe the daemon
    Info(FormatArgs),
    /// Show the client's and the daemon's version
    Version(FormatArgs),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages
    #[command(hide = true)]
    Man {
        /// Directory to write one page per command into; without it the main page goes to stdout
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// `vswitch nat …`.
#[derive(Debug, Subcommand)]
pub enum NatCommand {
    /// Show external addresses, how each network's packets leave, and published ports with what has come by them
    Rules(FormatArgs),
}

/// `vswitch network …`.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Make a network
    Create(NetworkCreateArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(NetworkLsArgs),
    /// Describe networks in full
    Inspect {
        /// Names or ids
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
        /// How to print them.
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Remove networks that nothing is attached to
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or ids
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
        /// Do not complain about networks that do not exist
        #[arg(short, long)]
        force: bool,
    },
    /// Remove all networks of users that nothing is attached to
    Prune {
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Only those that match, for example label=ci or until=24h
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        filter: Vec<(String, String)>,
    },
    /// Attach a sandbox to one more network
    Connect(ConnectArgs),
    /// Detach a sandbox from a network
    Disconnect {
        /// Name or id of the network
        network: String,
        /// Name or id of the sandbox
        sandbox: String,
        /// Also remove what a dead sandbox left behind
        #[arg(short, long)]
        force: bool,
    },
}

/// `vswitch network create`.
#[derive(Debug, Args)]
pub struct NetworkCreateArgs {
    /// Name of the network
    pub name: String,
    /// Kind of network
    #[arg(short, long, default_value = "bridge")]
    pub driver: String,
    /// Addresses of the network, for example 192.168.0.0/24; once per address family
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub subnet: Vec<String>,
    /// The gateway's address in a subnet
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub gateway: Vec<String>,
    /// Part of a subnet that addresses are given from
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub ip_range: Vec<String>,
    /// An address that is never given, with a name for it
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = pair, value_delimiter = ',')]
    pub aux_address: Vec<(String, String)>,
    /// Give IPv4 addresses; on unless --ipv4=false
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ipv4: Option<bool>,
    /// Give IPv6 addresses too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ipv6: Option<bool>,
    /// No way out of this network
    #[arg(long)]
    pub internal: bool,
    /// Accepted because Docker has it; every network can be attached to
    #[arg(long)]
    pub attachable: bool,
    /// Label to remember with the network
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = loose_pair)]
    pub label: Vec<(String, String)>,
    /// Option of the driver, for example com.docker.network.driver.mtu=1400 or allow_host_loopback=true
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = loose_pair)]
    pub opt: Vec<(String, String)>,
}

/// `vswitch network ls`.
#[derive(Debug, Args)]
pub struct NetworkLsArgs {
    /// How to list.
    #[command(flatten)]
    pub list: ListArgs,
    /// Only those that match, for example driver=bridge, name=web or label=ci
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub filter: Vec<(String, String)>,
}

/// `vswitch network connect`.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Name or id of the network
    pub network: String,
    /// Name or id of the sandbox
    pub sandbox: String,
    /// Addresses to have.
    #[command(flatten)]
    pub addresses: AddressArgs,
    /// One more name of the sandbox on this network
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// Name of the interface in the sandbox, in place of the next free ethN
    #[arg(long, value_name = "NAME")]
    pub ifname: Option<String>,
    /// What the interface is, `tap` or `veth` [default: what the network says]
    #[arg(long, value_name = "KIND", value_parser = network_flag::endpoint)]
    pub endpoint: Option<LinkKind>,
}

/// Addresses asked for by hand.
#[derive(Debug, Clone, Default, Args)]
pub struct AddressArgs {
    /// IPv4 address, in place of the next free one
    #[arg(long, value_name = "ADDRESS", value_parser = network_flag::ipv4)]
    pub ip: Option<IpAddr>,
    /// IPv6 address, in place of the next free one
    #[arg(long, value_name = "ADDRESS", value_parser = network_flag::ipv6)]
    pub ip6: Option<IpAddr>,
    /// Ethernet address, in place of one made from the IPv4 address
    #[arg(long = "mac-address", visible_alias = "mac", value_name = "MAC", value_parser = network_flag::mac)]
    pub mac: Option<MacAddr>,
}

/// What networks a sandbox is to be on.
#[derive(Debug, Clone, Default, Args)]
pub struct AttachmentArgs {
    /// Network to attach to, repeatable; NET, NET,NET or NET:ip=ADDRESS,ip6=ADDRESS,mac=MAC; `none` for none
    #[arg(long = "network", visible_alias = "net", value_name = "NETWORK", value_parser = network_flag::parse)]
    pub networks: Vec<Vec<NetworkFlag>>,
    /// Addresses on the first network.
    #[command(flatten)]
    pub addresses: AddressArgs,
    /// What the interfaces are, `tap` or `veth` [default: what each network says]
    #[arg(long, value_name = "KIND", value_parser = network_flag::endpoint)]
    pub endpoint: Option<LinkKind>,
}

/// `vswitch run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of the sandbox, in place of a made-up one
    #[arg(long)]
    pub name: Option<String>,
    /// Where to attach it.
    #[command(flatten)]
    pub attachment: AttachmentArgs,
    /// Ports to publish.
    #[command(flatten)]
    pub publish: PublishFlag,
    /// Host name inside, in place of the sandbox's name
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Leave the sandbox running in the background and print its id
    #[arg(short, long)]
    pub detach: bool,
    /// Where a detached command's output goes, in place of nowhere
    #[arg(long, value_name = "FILE", requires = "detach", value_hint = ValueHint::FilePath)]
    pub log_file: Option<PathBuf>,
    /// Environment variable for the command; a bare KEY takes the value from here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<String>,
}

/// `vswitch exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Environment variable for the command; a bare KEY takes the value from here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Name or id of the sandbox
    pub name: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<String>,
}

/// `vswitch attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The namespace.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Name of the sandbox, in place of a made-up one
    #[arg(long)]
    pub name: Option<String>,
    /// Where to attach it.
    #[command(flatten)]
    pub attachment: AttachmentArgs,
    /// Ports to publish.
    #[command(flatten)]
    pub publish: PublishFlag,
}

/// Which namespace to attach.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// A process that is in the network namespace
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// A path of the network namespace, as `ip netns add` makes
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub netns: Option<PathBuf>,
}

/// `vswitch detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// Names or ids
    #[arg(required = true, value_name = "SANDBOX")]
    pub sandboxes: Vec<String>,
}

/// `vswitch stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Seconds from SIGTERM to SIGKILL
    #[arg(
        short = 't',
        long,
        visible_alias = "time",
        value_name = "SECONDS",
        default_value_t = 10
    )]
    pub timeout: u32,
    /// Names or ids
    #[arg(required = true, value_name = "SANDBOX")]
    pub sandboxes: Vec<String>,
}

/// `vswitch ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// How to list.
    #[command(flatten)]
    pub list: ListArgs,
    /// Only those that match, for example name=web or network=lan
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub filter: Vec<(String, String)>,
    /// Also those whose process has ended
    #[arg(short, long)]
    pub all: bool,
}

/// `vswitch inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Names or ids; a sandbox wins over a network of the same name
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// How to print them.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `vswitch show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Name or id of the one network to show
    pub network: Option<String>,
    /// How to print it.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `vswitch fdb`.
#[derive(Debug, Args)]
pub struct FdbArgs {
    /// Name or id of the one network to show
    pub network: Option<String>,
    /// How to print it.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `vswitch stats`. Without a name the last row has the drops of the translation, called `nat`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// A network or a sandbox, in place of everything
    pub name: Option<String>,
    /// Also the counters that are neither traffic nor drops: flooded, learnt, moved…
    #[arg(short, long)]
    pub all: bool,
    /// How to print them.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `vswitch flows`.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// A network or a sandbox, in place of everything
    pub name: Option<String>,
    /// How to print them.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// How a list is printed.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// Only the ids
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Table or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// `--format`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct FormatArgs {
    /// How to print the answer
    #[arg(long, value_enum)]
    pub format: Option<Format>,
}

impl FormatArgs {
    /// Whether a list or table is wanted as JSON.
    pub fn is_json(self) -> bool {
        self.format == Some(Format::Json)
    }
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The API's JSON, for scripts
    Json,
    /// Columns, for people
    Table,
}

/// `KEY=VALUE`, both present.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("write it as KEY=VALUE, not {text}")),
    }
}

/// `KEY=VALUE`, or a bare `KEY` whose value is empty as in Docker.
fn loose_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err(format!("write it as KEY=VALUE, not {text}")),
        (key, value) => Ok((key.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_own_flags_are_not_ours() {
        let cli = Cli::try_parse_from(["vswitch", "run", "--name", "a", "--", "ls", "--name", "-d"]);
        let Ok(Cli {
            command: Command::Run(run),
            ..
        }) = cli
        else {
            panic!("{cli:?}")
        };
        assert_eq!(run.name.as_deref(), Some("a"));
        assert_eq!(run.command, ["ls", "--name", "-d"]);
        assert!(!run.detach);
        let cli = Cli::try_parse_from(["vswitch", "exec", "a", "ls", "-H", "x"]);
        let Ok(Cli {
            command: Command::Exec(exec),
            host,
            ..
        }) = cli
        else {
            panic!("{cli:?}")
        };
        assert_eq!((exec.name.as_str(), host), ("a", None));
        assert_eq!(exec.command, ["ls", "-H", "x"]);
    }

    #[test]
    fn address_families_can_be_switched_as_in_docker() {
        for (flag, wanted) in [
            ("--ipv6", Some(true)),
            ("--ipv6=false", Some(false)),
            ("--internal", None),
        ] {
            let cli = Cli::try_parse_from(["vswitch", "network", "create", flag, "lan"]);
            let Ok(Cli {
                command: Command::Network(NetworkCommand::Create(create)),
                ..
            }) = cli
            else {
                panic!("{flag}: {cli:?}")
            };
            assert_eq!((create.ipv6, create.name.as_str()), (wanted, "lan"), "{flag}");
        }
    }

    #[test]
    fn pairs_need_a_key() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("a").is_err() && pair("=b").is_err());
        assert_eq!(loose_pair("solo"), Ok(("solo".into(), String::new())));
        assert!(loose_pair("=b").is_err() && loose_pair("").is_err());
    }
}
