//! Points in time as Docker writes them.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Wall-clock time in nanoseconds since 1970 (UTC), printed as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The present time.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Nanoseconds since 1970.
    pub const fn nanoseconds(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(NANOS)
    }

    /// Time from `earlier` to this; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads what Docker's `since`, `until` and filters take: unix seconds with an optional fraction,
    /// RFC 3339 in UTC, or a duration before `now` such as `1h30m`.
    ///
    /// # Errors
    ///
    /// The text is none of them.
    pub fn parse(text: &str, now: Self) -> Result<Self, InvalidTime> {
        unix(text)
            .or_else(|| rfc3339(text))
            .or_else(|| duration(text).map(|back| Self(now.0.saturating_sub(back))))
            .ok_or_else(|| InvalidTime(text.to_owned()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.seconds().div_euclid(DAY), self.seconds().rem_euclid(DAY));
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let nanos = self.0.rem_euclid(NANOS);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        if nanos != 0 {
            // Go's RFC3339Nano leaves trailing zeros out.
            write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// The text is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither unix seconds, nor RFC 3339 in UTC, nor a duration such as 10m")]
pub struct InvalidTime(String);

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

fn unix(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    Some(Timestamp(
        seconds.checked_mul(NANOS)?.checked_add(nanos(fraction)?)?,
    ))
}

/// The digits after a decimal point, in units of 10^-9.
fn nanos(fraction: &str) -> Option<i64> {
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}").parse().ok()
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text
        .strip_suffix('Z')
        .unwrap_or(text)
        .split_once('T')
        .unwrap_or((text, "0:0:0"));
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let valid = (1970..=2262).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !valid || date.next().is_some() || time.next().is_some() {
        return None;
    }
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    Some(Timestamp(
        seconds.checked_mul(NANOS)?.checked_add(nanos(fraction)?)?,
    ))
}

/// Nanoseconds of a Go duration: numbers with units `h`, `m`, `s` and `ms`.
fn duration(mut text: &str) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    let mut total = 0i64;
    while !text.is_empty() {
        let unit_at = text.find(|letter: char| !letter.is_ascii_digit())?;
        let number: i64 = text[..unit_at].parse().ok()?;
        let rest = &text[unit_at..];
        let unit_end = rest
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..unit_end] {
            "h" => 3600 * NANOS,
            "m" => 60 * NANOS,
            "s" => NANOS,
            "ms" => NANOS / 1000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        text = &rest[unit_end..];
    }
    Some(total)
}

/// Days since 1970 of a Gregorian date: years are counted from March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days`].
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_print_as_go_prints_them() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400 * NANOS, "2000-02-29T00:00:00Z"),
            (1_795_193_441_569_858_846, "2026-11-20T16:50:41.569858846Z"),
            (1_709_251_199 * NANOS + 500_000_000, "2024-02-29T23:59:59.5Z"),
        ] {
            assert_eq!(Timestamp(nanos).to_string(), text);
            assert_eq!(Timestamp::parse(text, Timestamp(0)), Ok(Timestamp(nanos)));
        }
    }

    #[test]
    fn every_day_of_three_centuries_survives() {
        for day in 0..110_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn queries_take_seconds_and_durations() {
        let now = Timestamp(10_000 * NANOS);
        assert_eq!(Timestamp::parse("12.5", now), Ok(Timestamp(12_500_000_000)));
        assert_eq!(Timestamp::parse("1h30m", now), Ok(Timestamp(4600 * NANOS)));
        for text in ["", "x", "1y", "-3", "1.x", "2024-13-01", "99999999999999999999"] {
            Timestamp::parse(text, now).expect_err(text);
        }
    }
}
