//! Names: which resolvers the host has, and what becomes of that when it changes.

mod resolv_conf;
mod watch;

pub use resolv_conf::ResolvConf;
pub use watch::ResolverWatch;

/// Where the host's resolvers are named.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
