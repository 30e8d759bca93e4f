//! The `vswitch` command: a client of the daemon's API with Docker's verbs and flags.
//!
//! # Exit codes
//!
//! | code | means |
//! | --- | --- |
//! | 0 | done |
//! | 1 | the command failed; the reason is on stderr |
//! | 2 | the command line is wrong |
//! | 125 | `run`, `exec`: the sandbox could not be prepared or entered; the command never ran |
//! | 126 | `run`, `exec`: the command cannot be executed |
//! | 127 | `run`, `exec`: the command was not found |
//! | 128+n | `run`, `exec`: signal n ended the command |
//!
//! Otherwise `run` and `exec` pass the command's own code through. What fails says so on one line of
//! stderr that begins with `vswitch:`; standard output carries answers only.

pub mod args;
pub mod conntrack;
pub mod daemon;
pub mod docs;
pub mod failure;
pub mod flows;
pub mod ipam;
pub mod list;
pub mod names;
pub mod nat;
pub mod network;
pub mod network_flag;
pub mod port;
pub mod print;
pub mod progress;
pub mod replay;
pub mod sandbox;
pub mod show;

use std::{
    ffi::OsString,
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use clap::Parser;

use self::{
    args::{Cli, Command, NatCommand},
    daemon::Session,
    failure::Failure,
};

/// Does what the command line says and gives the code to exit with.
///
/// The process must have no threads yet: `run` blocks signals for all that follow.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. Nobody is left to tell when this cannot be printed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(failure) => {
            if let Some(message) = failure.message() {
                failure::say(message);
            }
            failure.exit_code()
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = perform(cli, &mut out);
    // What was found before a failure is printed too.
    let flushed = out.flush();
    let code = done?;
    flushed?;
    Ok(code)
}

fn perform(cli: Cli, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let session = || Session::new(cli.host.as_deref());
    match cli.command {
        Command::Attach(args) => sandbox::attach(&session()?, args, out)?,
        Command::Completion { shell } => docs::completion(shell, out)?,
        Command::Conntrack(args) => {
            session()?.ask(async |client| conntrack::conntrack(client, &args, out).await)?;
        }
        Command::Demo => return Ok(crate::demo::run()),
        Command::Detach(args) => session()?.ask(async |client| sandbox::detach(client, &args, out).await)?,
        Command::Exec(args) => return sandbox::exec(&session()?, args),
        Command::Fdb(args) => session()?.ask(async |client| show::fdb(client, &args, out).await)?,
        Command::Flows(args) => session()?.ask(async |client| flows::flows(client, &args, out).await)?,
        Command::Info(format) => session()?.ask(async |client| daemon::info(client, format, out).await)?,
        Command::Inspect(args) => session()?.ask(async |client| list::inspect(client, &args, out).await)?,
        Command::Man { dir: None } => docs::main_page(out)?,
        Command::Man { dir: Some(directory) } => manual(&directory, out)?,
        Command::Nat(NatCommand::Rules(format)) => {
            session()?.ask(async |client| nat::rules(client, format, out).await)?;
        }
        Command::Network(command) => network::run(&session()?, command, out)?,
        Command::Port(args) => session()?.ask(async |client| port::port(client, &args, out).await)?,
        Command::Ps(args) => session()?.ask(async |client| list::ps(client, &args, out).await)?,
        Command::Publish(args) => session()?.ask(async |client| port::publish(client, args, out).await)?,
        Command::Replay(args) => replay::replay(&args, out)?,
        Command::Run(args) => return sandbox::run(&session()?, args, out),
        Command::Show(args) => session()?.ask(async |client| show::show(client, &args, out).await)?,
        Command::Stats(args) => session()?.ask(async |client| show::stats(client, &args, out).await)?,
        Command::Stop(args) => session()?.ask(async |client| sandbox::stop(client, &args, out).await)?,
        Command::Unpublish(args) => session()?.ask(async |client| port::unpublish(client, args).await)?,
        Command::Version(format) => daemon::version(&session()?, format, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn manual(directory: &Path, out: &mut impl Write) -> Result<(), Failure> {
    for page in docs::pages(directory).map_err(Failure::new)? {
        writeln!(out, "{}", page.display())?;
    }
    Ok(())
}
