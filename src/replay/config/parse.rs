//! Texts of a configuration, and what is wrong with them.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use ipnet::IpNet;
use vswitch_wire::IpProtocol;

/// Every invalid value, one line each, with its path.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Problems {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, path: &str, problem: impl fmt::Display) {
        self.0.push(format!("{path}: {problem}"));
    }

    pub(super) fn push(&mut self, problem: String) {
        self.0.push(problem);
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        path: &str,
        text: Option<&str>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = text?;
        let chosen = words.iter().find(|(word, _)| *word == text);
        if chosen.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.add(path, format_args!("{text:?} is none of {}", words.join(", ")));
        }
        chosen.map(|&(_, value)| value)
    }

    /// Anything that is read from text; `kind` says what it should have been.
    pub(super) fn value<T: FromStr>(&mut self, path: &str, text: &str, kind: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.add(path, format_args!("{text:?} is not {kind}"));
        }
        value
    }

    /// Those of several texts that can be read.
    pub(super) fn each<T: FromStr>(&mut self, path: &str, texts: &[String], kind: &str) -> Vec<T> {
        let values = texts.iter().enumerate();
        values
            .filter_map(|(index, text)| self.value(&format!("{path}[{index}]"), text, kind))
            .collect()
    }

    pub(super) fn prefixes(&mut self, path: &str, texts: &[String]) -> Vec<IpNet> {
        let prefixes: Vec<IpNet> = self.each(path, texts, "a prefix such as 10.0.0.0/24");
        for prefix in &prefixes {
            if prefix.trunc() != *prefix {
                self.add(
                    path,
                    format_args!("{prefix} has host bits set: it should be {}", prefix.trunc()),
                );
            }
        }
        prefixes
    }

    pub(super) fn mtu(&mut self, path: &str, mtu: Option<u16>) -> u16 {
        let mtu = mtu.unwrap_or(DEFAULT_MTU);
        if mtu < MIN_MTU {
            self.add(
                path,
                format_args!("{mtu} is less than any link has: at least {MIN_MTU}"),
            );
        }
        mtu
    }

    /// `port` or `first-last`.
    pub(super) fn ports(&mut self, path: &str, text: &str) -> Option<RangeInclusive<u16>> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Some(first..=last),
            _ => None,
        };
        if ports.is_none() {
            self.add(
                path,
                format_args!("{text:?} is neither a port nor a range first-last, from 1 to 65535"),
            );
        }
        ports
    }

    pub(super) fn protocol(&mut self, path: &str, text: &str) -> Option<IpProtocol> {
        self.choice(path, Some(text), PROTOCOLS)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Protocols with ports.
const PROTOCOLS: &[(&str, IpProtocol)] = &[
    ("tcp", IpProtocol::TCP),
    ("udp", IpProtocol::UDP),
    ("sctp", IpProtocol::SCTP),
];

/// Ethernet's.
const DEFAULT_MTU: u16 = 1500;

/// RFC 791: every link takes packets of 68 bytes.
const MIN_MTU: u16 = 68;
