//! Sandboxes: commands in namespaces of their own, without a container engine.
//!
//! `vswitch run` starts one with [`Launcher`], lets the daemon attach it, and then lets the command go;
//! `vswitch exec` puts another command beside it with [`Entry`].

pub mod enter;
pub mod init;
pub mod launch;
pub mod names;
pub mod signals;

mod exec;

pub use enter::{EnterError, Entry};
pub use exec::ExecError;
pub use launch::{LaunchConfig, LaunchError, Launcher, Prepared, Running, Stdio};
pub use names::{HostsEntry, Names};
pub use signals::Signals;
