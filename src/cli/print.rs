//! What all printers share: columns, JSON, and how durations and sizes are said.

use std::{
    io::{self, Write},
    time::Duration,
};

use comfy_table::{CellAlignment, ColumnConstraint, Table, presets};
use serde::Serialize;
use serde_json::{Serializer, ser::PrettyFormatter};

/// Columns under a header, without borders, as Docker prints them.
#[derive(Debug)]
pub struct Columns {
    table: Table,
}

impl Columns {
    /// An empty list under these column titles.
    pub fn new<const N: usize>(titles: [&str; N]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(titles);
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        Self { table }
    }

    /// Aligns these columns to the right, for numbers.
    pub fn numbers(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            if let Some(column) = self.table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        self
    }

    /// Adds a row; control characters in it cannot reach the terminal.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.table.add_row(cells.map(|cell| plain(&cell)));
    }

    /// Writes the list, each line without trailing blanks.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        self.table
            .lines()
            .try_for_each(|line| writeln!(out, "{}", line.trim_end()))
    }
}

/// Writes a value as indented JSON and a newline.
///
/// # Errors
///
/// Those of the writer.
pub fn json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    // Docker indents by four.
    let formatter = PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut Serializer::with_formatter(&mut *out, formatter))?;
    writeln!(out)
}

/// The first 12 digits of an id, or all when nothing is to be shortened.
pub fn id(full: &str, no_trunc: bool) -> &str {
    if no_trunc {
        full
    } else {
        full.get(..12).unwrap_or(full)
    }
}

/// A time span in a narrow column: `7s`, `4m05s`, `3h12m`, `2d01h`.
pub fn short_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// A number of bytes with three significant digits and a decimal unit, as `docker stats` says it.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let (mut value, mut unit) = (count as f64, 0);
    // 999.5 would be printed as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// The text without characters that steer a terminal or break a line.
pub fn plain(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.to_owned()
    }
}

/// Blanks between two columns (docker/cli: three).
const GAP: u16 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("printers write UTF-8")
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut columns = Columns::new(["NAME", "FRAMES", "STATE"]).numbers(&[1]);
        columns.row(["web".into(), "12345678".into(), "up".into()]);
        columns.row(["a-long-name".into(), "7".into(), String::new()]);
        assert_eq!(
            printed(|out| columns.print(out)),
            "NAME            FRAMES   STATE\n\
             web           12345678   up\n\
             a-long-name          7\n"
        );
    }

    #[test]
    fn an_empty_list_is_its_header() {
        assert_eq!(
            printed(|out| Columns::new(["NAME", "ID"]).print(out)),
            "NAME   ID\n"
        );
    }

    #[test]
    fn cells_cannot_steer_the_terminal() {
        let mut columns = Columns::new(["NAME"]);
        columns.row(["a\x1b[2Jb\nc".into()]);
        assert_eq!(printed(|out| columns.print(out)), "NAME\na\\u{1b}[2Jb\\nc\n");
    }

    #[test]
    fn json_is_indented_and_ends_its_line() {
        assert_eq!(printed(|out| json(out, &[1, 2])), "[\n    1,\n    2\n]\n");
    }

    #[test]
    fn ids_are_shortened_unless_told_not_to() {
        let full = "0123456789abcdef";
        assert_eq!(
            (id(full, false), id(full, true), id("ab", false)),
            ("0123456789ab", full, "ab")
        );
    }

    #[test]
    fn short_durations_keep_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (245, "4m05s"),
            (3599, "59m59s"),
            (11_520, "3h12m"),
            (86_399, "23h59m"),
            (176_400, "2d01h"),
        ] {
            assert_eq!(short_duration(Duration::from_secs(seconds)), text, "{seconds} s");
        }
    }

    #[test]
    fn sizes_keep_three_digits() {
        for (count, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (9994, "9.99kB"),
            (9996, "10.0kB"),
            (99_960, "100kB"),
            (999_499, "999kB"),
            (999_500, "1.00MB"),
            (1_234_567_890, "1.23GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(bytes(count), text, "{count} bytes");
        }
    }
}
