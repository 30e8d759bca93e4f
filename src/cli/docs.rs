//! Shell completions and man pages, generated from the grammar so that they cannot fall behind it.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::args::Cli;

/// Writes the completion script for a shell.
///
/// # Errors
///
/// Those of the writer.
pub fn completion(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // The generator panics when it cannot write, so it writes into memory first.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vswitch", &mut script);
    out.write_all(&script)
}

/// Writes the page of the program itself.
///
/// # Errors
///
/// Those of the writer.
pub fn main_page(out: &mut impl Write) -> io::Result<()> {
    page(Cli::command(), "vswitch").render(out)
}

/// Writes one page per visible command into a directory, which is made where it is missing, and gives
/// the files' paths.
///
/// # Errors
///
/// Those of the file system, with the path.
pub fn pages(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory).map_err(|error| named("create", directory, error))?;
    let mut command = Cli::command();
    command.build();
    let mut files = Vec::new();
    write_pages(&command, "vswitch", directory, &mut files)?;
    Ok(files)
}

fn write_pages(command: &Command, name: &str, directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let path = directory.join(format!("{name}.1"));
    let mut text = Vec::new();
    page(command.clone(), name).render(&mut text)?;
    fs::write(&path, text).map_err(|error| named("write", &path, error))?;
    files.push(path);
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .try_for_each(|command| {
            write_pages(
                command,
                &format!("{name}-{}", command.get_name()),
                directory,
                files,
            )
        })
}

fn page(command: Command, name: &str) -> Man {
    Man::new(command)
        .title(name.to_uppercase())
        .manual("vswitch manual")
}

fn named(operation: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{operation} {}: {error}", path.display()))
}
