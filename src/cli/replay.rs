//! A capture through the NAT engine.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::{
    args::ReplayArgs,
    failure::{self, Failure},
    print::{self, Columns},
};
use crate::replay::{
    self, Recorder, Report, RunError, Skip,
    capture::{Reader, Timestamp},
    config::Config,
};

/// `vswitch replay`.
///
/// # Errors
///
/// Files that cannot be read or written, with their names and the packet; a configuration that is not valid, with
/// all that is wrong with it.
pub fn replay(args: &ReplayArgs, out: &mut impl Write) -> Result<(), Failure> {
    let config = Config::load(&args.config).map_err(Failure::explained)?;
    let input = File::open(&args.input).map_err(|error| about("open", &args.input, error))?;
    let in_input = |error: &dyn Display| Failure::new(format_args!("{}: {error}", args.input.display()));
    let mut reader = Reader::new(BufReader::new(input)).map_err(|error| in_input(&error))?;
    let mut recorder = match &args.output {
        Some(path) => Some(begin(path, &args.input, &config)?),
        None => None,
    };
    let (mut start, mut unprinted): (_, Option<io::Error>) = (None::<Timestamp>, None);
    let played = replay::run(&config, &mut reader, |step| {
        if args.explain && unprinted.is_none() {
            let start = *start.get_or_insert(step.time);
            // A reader who has seen enough must not keep the capture from being written.
            unprinted = replay::explain(out, &config, start, step).err();
        }
        recorder.as_mut().map_or(Ok(()), |recorder| recorder.record(step))
    });
    if let (Some(recorder), Some(path)) = (recorder, &args.output) {
        // What was played before a failure is written, too.
        recorder.finish().map_err(|error| about("write", path, error))?;
    }
    let report = played.map_err(|error| match (&error, &args.output) {
        (RunError::Output { .. }, Some(path)) => about("write", path, error),
        _ => in_input(&error),
    })?;
    if let Some(error) = unprinted {
        return Err(error.into());
    }
    if args.stats || args.format.format.is_some() {
        print_stats(args, &report, out)?;
    }
    warn(&report);
    Ok(())
}

/// Makes the output file. It must not be the input, which would be lost.
fn begin(path: &Path, input: &Path, config: &Config) -> Result<Recorder<BufWriter<File>>, Failure> {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    if identity(path).is_some_and(|file| Some(file) == identity(input)) {
        return Err(Failure::new(format_args!(
            "{} is the capture to play; give --out another name",
            path.display()
        )));
    }
    let recorder = File::create(path).and_then(|file| Recorder::new(BufWriter::new(file), config));
    recorder.map_err(|error| about("create", path, error))
}

fn print_stats(args: &ReplayArgs, report: &Report, out: &mut impl Write) -> io::Result<()> {
    let skipped = Skip::ALL.into_iter().map(Skip::name).zip(report.skipped);
    let counters = [("packets", report.packets), ("emitted", report.emitted)]
        .into_iter()
        .chain(skipped)
        .chain(report.engine.iter());
    if args.format.is_json() {
        return print::json(out, &counters.collect::<BTreeMap<_, _>>());
    }
    let mut columns = Columns::new(["COUNTER", "VALUE"]).numbers(&[1]);
    for (name, value) in counters.filter(|(_, value)| *value > 0) {
        columns.row([name.to_owned(), value.to_string()]);
    }
    columns.print(out)
}

/// Says what makes a replay differ from what happened, for nothing else does.
fn warn(report: &Report) {
    for skip in [Skip::Cut, Skip::OtherSide] {
        let count = report.skipped[skip as usize];
        if count > 0 {
            failure::report(&format!(
                "warning: {count} of {} packets were skipped: {}",
                report.packets,
                skip.reason()
            ));
        }
    }
}

fn about(operation: &str, path: &Path, error: impl Display) -> Failure {
    Failure::new(format_args!("{operation} {}: {error}", path.display()))
}
