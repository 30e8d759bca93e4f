//! Why a system may refuse unprivileged user namespaces, and what its administrator can do.

use std::fs;

use serde::{Deserialize, Serialize};

/// A system-wide restriction of user namespaces that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Restriction {
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1 (default in Ubuntu 24.04 and later).
    #[error(
        "AppArmor restricts unprivileged user namespaces \
         (kernel.apparmor_restrict_unprivileged_userns=1); allow this program with a profile in \
         /etc/apparmor.d/vswitchd:\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\
         profile vswitchd /usr/bin/vswitch{{,d}} flags=(unconfined) {{\n  userns,\n}}\n\
         then run `apparmor_parser -r /etc/apparmor.d/vswitchd`"
    )]
    AppArmor,
    /// `kernel.unprivileged_userns_clone` is 0 (Debian 10 and earlier, hardened kernels).
    #[error(
        "unprivileged user namespaces are switched off; run `sysctl -w kernel.unprivileged_userns_clone=1`"
    )]
    Clone,
    /// `user.max_user_namespaces` is 0 (RHEL 7, hardened systems).
    #[error("user namespaces are limited to none; run `sysctl -w user.max_user_namespaces=15000`")]
    Limit,
}

impl Restriction {
    /// The restriction in force on this system that best explains a refusal, if there is one.
    pub fn detect() -> Option<Self> {
        Self::find(|path| fs::read_to_string(path).ok())
    }

    fn find(read: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let holds = |path: &str, value: &str| read(path).is_some_and(|text| text.trim() == value);
        if holds("/proc/sys/user/max_user_namespaces", "0") {
            Some(Self::Limit)
        } else if holds("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            Some(Self::Clone)
        } else if holds("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
            Some(Self::AppArmor)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hardest_restriction_is_named() {
        type Settings = &'static [(&'static str, &'static str)];
        let cases: [(Settings, Option<Restriction>); 5] = [
            (&[], None),
            (
                &[
                    ("max_user_namespaces", "128\n"),
                    ("apparmor_restrict_unprivileged_userns", "0\n"),
                ],
                None,
            ),
            (
                &[("apparmor_restrict_unprivileged_userns", "1\n")],
                Some(Restriction::AppArmor),
            ),
            (&[("unprivileged_userns_clone", "0\n")], Some(Restriction::Clone)),
            (
                &[
                    ("apparmor_restrict_unprivileged_userns", "1\n"),
                    ("max_user_namespaces", "0\n"),
                ],
                Some(Restriction::Limit),
            ),
        ];
        for (settings, expected) in cases {
            let read = |path: &str| {
                let (_, value) = settings
                    .iter()
                    .find(|(name, _)| path.ends_with(&format!("/{name}")))?;
                Some((*value).to_owned())
            };
            assert_eq!(Restriction::find(read), expected, "{settings:?}");
        }
    }

    #[test]
    fn the_advice_contains_a_complete_profile() {
        let advice = Restriction::AppArmor.to_string();
        assert!(advice.contains("profile vswitchd /usr/bin/vswitch{,d} flags=(unconfined) {\n  userns,\n}"));
    }
}
