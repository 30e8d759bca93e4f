//! What the control plane, the data plane and the API share: identifiers, and the objects behind them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::{
    objects::{
        Driver, Endpoint, EndpointRequest, GatewayMode, Inbound, InvalidLinkKind, LinkKind, Namespace,
        Network, NetworkSettings, Origin, OutboundSettings, Sandbox, Subnet, UplinkKind,
    },
    port_text::{InvalidPort, InvalidRange},
    ports::{PortMapping, PortRange, PortRequest, PortRules, ProxyProtocol, Transport},
    timestamp::{InvalidTime, Timestamp},
};

mod objects;
mod port_text;
mod ports;
mod timestamp;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 32]);

        impl $name {
            /// An id made of these 256 bits; callers pass fresh random ones.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// A fresh id from the kernel's random numbers.
            ///
            /// # Errors
            ///
            /// The kernel has none to give.
            pub fn random() -> std::io::Result<Self> {
                let mut bytes = [0; 32];
                rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
                Ok(Self(bytes))
            }

            /// The id's 256 bits.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first 12 hexadecimal digits, as `docker network ls` shows them.
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(12);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse(text).map(Self).ok_or(InvalidId)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
    };
}

id! {
    /// A network: one broadcast domain with its own switch and gateway.
    NetworkId
}
id! {
    /// An endpoint: one sandbox's attachment to one network.
    EndpointId
}
id! {
    /// A sandbox: one network namespace that endpoints are attached to.
    SandboxId
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id has 64 hexadecimal digits")]
pub struct InvalidId;

fn parse(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text() {
        let id = NetworkId::from_bytes(std::array::from_fn(|i| (i * 37) as u8));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), &id.to_string()[..12]);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "00", &"g".repeat(64), &"0".repeat(63), &"A".repeat(64)] {
            assert_eq!(text.parse::<NetworkId>(), Err(InvalidId), "{text}");
        }
    }
}
