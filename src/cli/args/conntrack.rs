//! The grammar of `vswitch conntrack`: conntrack(8)'s commands and filters.

use clap::{ArgGroup, Args, ValueEnum};

use super::{Format, FormatArgs};

/// `vswitch conntrack`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("action").required(true))]
pub struct ConntrackArgs {
    /// List connections
    #[arg(short = 'L', long = "dump", visible_alias = "list", group = "action")]
    pub list: bool,
    /// Show what happens to connections, until Ctrl-C
    #[arg(short = 'E', long = "event", group = "action")]
    pub events: bool,
    /// Remove connections and list what they were
    #[arg(short = 'D', long = "delete", group = "action")]
    pub delete: bool,
    /// Remove all connections
    #[arg(short = 'F', long = "flush", group = "action", conflicts_with_all = ["filters", "output", "format"])]
    pub flush: bool,
    /// Count all connections
    #[arg(short = 'C', long = "count", group = "action", conflicts_with_all = ["filters", "output", "format"])]
    pub count: bool,
    /// `conntrack`, the only table; accepted because conntrack has it
    #[arg(value_enum)]
    pub table: Option<Table>,
    /// Which connections.
    #[command(flatten)]
    pub filter: ConnectionFilterArgs,
    /// With -E, only events of these kinds
    #[arg(
        short = 'e',
        long,
        value_enum,
        ignore_case = true,
        value_delimiter = ',',
        conflicts_with_all = ["list", "delete", "flush", "count"],
        value_name = "KIND"
    )]
    pub event_mask: Vec<EventKind>,
    /// What a line has, or JSON
    #[arg(short, long, value_enum, value_delimiter = ',', value_name = "TYPE")]
    pub output: Vec<Output>,
    /// Lines or JSON.
    #[command(flatten)]
    pub format: FormatArgs,
}

impl ConntrackArgs {
    /// Whether JSON is wanted.
    pub fn is_json(&self) -> bool {
        self.format.format == Some(Format::Json) || self.output.contains(&Output::Json)
    }
}

/// Which connections are meant: those that fit everything that is said.
#[derive(Debug, Default, Args)]
#[group(id = "filters", multiple = true)]
pub struct ConnectionFilterArgs {
    /// Version of IP
    #[arg(short, long, value_enum, value_name = "VERSION")]
    pub family: Option<Family>,
    /// Protocol: tcp, udp, icmp, icmpv6, sctp, gre or a number
    #[arg(
        short = 'p',
        long = "proto",
        visible_alias = "protonum",
        value_name = "PROTOCOL"
    )]
    pub protocol: Option<String>,
    /// Source of what the initiator sends, an address or a prefix
    #[arg(short = 's', long = "orig-src", visible_alias = "src", value_name = "ADDRESS")]
    pub orig_src: Option<String>,
    /// Its destination
    #[arg(short = 'd', long = "orig-dst", visible_alias = "dst", value_name = "ADDRESS")]
    pub orig_dst: Option<String>,
    /// Source of what the responder answers
    #[arg(short = 'r', long, value_name = "ADDRESS")]
    pub reply_src: Option<String>,
    /// Its destination: the external address of a connection that is masqueraded
    #[arg(short = 'q', long, value_name = "ADDRESS")]
    pub reply_dst: Option<String>,
    /// Source port of what the initiator sends
    #[arg(long = "sport", visible_alias = "orig-port-src", value_name = "PORT")]
    pub orig_sport: Option<u16>,
    /// Its destination port
    #[arg(long = "dport", visible_alias = "orig-port-dst", value_name = "PORT")]
    pub orig_dport: Option<u16>,
    /// Source port of what the responder answers
    #[arg(long = "reply-port-src", value_name = "PORT")]
    pub reply_sport: Option<u16>,
    /// Its destination port
    #[arg(long = "reply-port-dst", value_name = "PORT")]
    pub reply_dport: Option<u16>,
    /// State of TCP or SCTP, such as ESTABLISHED
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// How far a connection is, whatever its protocol
    #[arg(short = 'u', long, value_enum, ignore_case = true, value_name = "STATUS")]
    pub status: Option<Status>,
    /// Name or id of a network that one of its sides is on
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// Name or id of a sandbox that is one of its sides
    #[arg(long, visible_alias = "container", value_name = "SANDBOX")]
    pub sandbox: Option<String>,
}

/// A table of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// The only one
    Conntrack,
}

/// What a line has, or JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// The version of IP comes first
    Extended,
    /// The API's JSON; of events a line each
    Json,
    /// Events begin with the time
    Timestamp,
}

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EventKind {
    /// All kinds
    All,
    /// A connection has ended
    Destroy,
    /// A connection has begun
    New,
    /// Its state has changed
    #[value(alias = "update")]
    Updates,
}

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// Version 4
    Ipv4,
    /// Version 6
    Ipv6,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// It is spared when room is needed
    Assured,
    /// An answer was seen
    #[value(name = "seen_reply")]
    SeenReply,
    /// No answer was seen
    Unreplied,
}

pub(super) const ABOUT: &str = "\
Show and remove connections that are translated, as conntrack(8) does, in its format.

These are connections of networks that leave by a device uplink (vswitchd --uplink device=…), and calls of published ports \
between containers. Connections that end in sockets of the host are not here: `vswitch flows` shows those. At the end of a line are the networks and sandboxes that the \
connection's sides are on; zone-orig and zone-reply number the networks' routing domains.";

pub(super) const EXIT_CODES: &str = "\
Exit codes, as conntrack's:
  0      done; Ctrl-C ends -E well
  1      the command failed, or -D found nothing to remove
  2      the command line is wrong";
