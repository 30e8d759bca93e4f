//! `vswitch network …`.

use std::io::{self, BufRead, Write};

use super::{
    args::{AddressArgs, ConnectArgs, NetworkCommand, NetworkCreateArgs},
    daemon::Session,
    failure::{Failure, report},
    ipam::{self, SubnetFlags},
    list, progress,
};
use crate::{
    api::{
        client::{Client, ClientError},
        types::{
            EndpointIpam, EndpointSettings, Ipam, IpamConfig, NetworkConnect, NetworkCreate,
            NetworkDisconnect, StringMap,
        },
    },
    model::LinkKind,
};

/// Does what the command says.
///
/// # Errors
///
/// The flags do not go together; those of the daemon and of standard output; where a command names several objects, each that fails
/// is reported and the others are still done.
pub fn run(session: &Session, command: NetworkCommand, out: &mut impl Write) -> Result<(), Failure> {
    match command {
        NetworkCommand::Connect(args) => {
            let wish = connection(&args);
            session.ask(async |client| Ok(client.connect_network(&args.network, &wish).await?))
        }
        NetworkCommand::Create(args) => {
            let wish = wish(args).map_err(Failure::usage)?;
            session.ask(async |client| create(client, &wish, out).await)
        }
        NetworkCommand::Disconnect {
            network,
            sandbox,
            force,
        } => {
            let wish = NetworkDisconnect {
                container: sandbox,
                force,
            };
            session.ask(async |client| Ok(client.disconnect_network(&network, &wish).await?))
        }
        NetworkCommand::Inspect { networks, format } => {
            session.ask(async |client| list::inspect_networks(client, &networks, format, out).await)
        }
        NetworkCommand::Ls(args) => session.ask(async |client| {
            let networks = client.networks(&list::pairs(&args.filter)).await?;
            Ok(list::networks(out, networks, &args.list)?)
        }),
        NetworkCommand::Prune { force, filter } => {
            session.ask(async |client| prune(client, force, &filter, out).await)
        }
        NetworkCommand::Rm { networks, force } => {
            session.ask(async |client| remove(client, &networks, force, out).await)
        }
    }
}

/// What `network create` asks the daemon for.
///
/// # Errors
///
/// The address flags do not go together.
pub fn wish(args: NetworkCreateArgs) -> Result<NetworkCreate, ipam::GroupError> {
    let subnets = ipam::group(&args.subnet, &args.ip_range, &args.gateway, &args.aux_address)?;
    Ok(NetworkCreate {
        name: args.name,
        driver: args.driver,
        enable_ipv4: args.ipv4,
        enable_ipv6: args.ipv6,
        ipam: Some(Ipam {
            driver: "default".to_owned(),
            options: Some(StringMap::new()),
            config: subnets.into_iter().map(subnet).collect(),
        }),
        internal: args.internal,
        attachable: args.attachable,
        options: args.opt.into_iter().collect(),
        labels: args.label.into_iter().collect(),
        ..NetworkCreate::default()
    })
}

/// What `network connect` asks the daemon for.
pub fn connection(args: &ConnectArgs) -> NetworkConnect {
    let AddressArgs { ip, ip6, mac } = &args.addresses;
    let text = |address: &Option<_>| {
        address
            .map(|a: std::net::IpAddr| a.to_string())
            .unwrap_or_default()
    };
    let endpoint = args
        .endpoint
        .map(|kind| (LinkKind::OPTION.to_owned(), kind.to_string()));
    NetworkConnect {
        container: args.sandbox.clone(),
        endpoint_config: Some(EndpointSettings {
            ipam_config: Some(EndpointIpam {
                ipv4_address: text(ip),
                ipv6_address: text(ip6),
                ..EndpointIpam::default()
            }),
            aliases: Some(args.alias.clone()),
            mac_address: mac.map(|mac| mac.to_string()).unwrap_or_default(),
            driver_opts: Some(
                args.ifname
                    .iter()
                    .map(|name| (IFNAME.to_owned(), name.clone()))
                    .chain(endpoint)
                    .collect(),
            ),
            ..EndpointSettings::default()
        }),
    }
}

async fn create(client: &Client, wish: &NetworkCreate, out: &mut impl Write) -> Result<(), Failure> {
    let created = client.create_network(wish).await?;
    if !created.warning.is_empty() {
        report(&format!("warning: {}", created.warning));
    }
    Ok(writeln!(out, "{}", created.id)?)
}

async fn remove(client: &Client, names: &[String], force: bool, out: &mut impl Write) -> Result<(), Failure> {
    let mut failed = false;
    for name in names {
        match client.remove_network(name).await {
            Ok(()) => writeln!(out, "{name}")?,
            Err(error) if force && error.is_not_found() => {}
            Err(error @ ClientError::Refused { .. }) => {
                failed = true;
                report(&error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    if failed { Err(Failure::reported()) } else { Ok(()) }
}

async fn prune(
    client: &Client,
    force: bool,
    filters: &[(String, String)],
    out: &mut impl Write,
) -> Result<(), Failure> {
    if !force && !confirmed(&mut io::stdin().lock(), out)? {
        return Ok(());
    }
    let filters = list::pairs(filters);
    let removed = progress::with_spinner("removing unused networks", client.prune_networks(&filters)).await?;
    Ok(print_pruned(out, &removed)?)
}

/// Docker's question; only a clear yes is one.
fn confirmed(input: &mut impl BufRead, out: &mut impl Write) -> Result<bool, Failure> {
    write!(
        out,
        "WARNING! This will remove all custom networks not used by at least one sandbox.\n\
         Are you sure you want to continue? [y/N] "
    )?;
    out.flush()?;
    let mut answer = String::new();
    input
        .read_line(&mut answer)
        .map_err(|error| Failure::new(format_args!("read the answer: {error}; --force does not ask")))?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn print_pruned(out: &mut impl Write, removed: &[String]) -> io::Result<()> {
    if removed.is_empty() {
        return Ok(());
    }
    writeln!(out, "Deleted Networks:")?;
    removed
        .iter()
        .try_for_each(|name| writeln!(out, "{}", super::print::plain(name)))?;
    writeln!(out)
}

fn subnet(flags: SubnetFlags) -> IpamConfig {
    IpamConfig {
        subnet: flags.subnet,
        ip_range: flags.ip_range.unwrap_or_default(),
        gateway: flags.gateway.unwrap_or_default(),
        auxiliary_addresses: flags.aux_addresses,
    }
}

/// Docker's endpoint option for the interface's name.
const IFNAME: &str = "com.docker.network.endpoint.ifname";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_prunes() {
        for (answer, yes) in [
            ("y\n", true),
            ("Y\n", true),
            ("yes\n", false),
            ("n\n", false),
            ("", false),
        ] {
            let mut out = Vec::new();
            assert_eq!(confirmed(&mut answer.as_bytes(), &mut out), Ok(yes), "{answer:?}");
            assert!(out.ends_with(b"[y/N] "));
        }
    }

    #[test]
    fn pruned_networks_are_listed_as_docker_lists_them() {
        let mut out = Vec::new();
        print_pruned(&mut out, &["a".into(), "b\n".into()]).expect("a vector takes everything");
        assert_eq!(out, b"Deleted Networks:\na\nb\\n\n\n");
        out.clear();
        print_pruned(&mut out, &[]).expect("a vector takes everything");
        assert!(out.is_empty());
    }
}
