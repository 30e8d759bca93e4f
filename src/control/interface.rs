//! Names of devices in containers.

use std::collections::BTreeSet;

use super::error::ControlError;

/// Checks a device name by the kernel's rule (net/core/dev.c, `dev_valid_name`), and refuses `lo`.
///
/// # Errors
///
/// [`ControlError::Invalid`].
pub(super) fn check_interface(name: &str) -> Result<(), ControlError> {
    // The kernel would expand `%d`; IFNAMSIZ is 16 with the final NUL.
    let valid = (1..=15).contains(&name.len())
        && !matches!(name, "." | ".." | "lo")
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte));
    if valid {
        return Ok(());
    }
    Err(ControlError::Invalid(format!(
        "invalid interface name {name:?}: 1 to 15 visible characters without '/', ':' and '%', and not \"lo\""
    )))
}

/// The name with the lowest number that is not taken, such as `eth1`.
pub(super) fn next_interface(prefix: &str, taken: &BTreeSet<String>) -> String {
    let mut index = 0usize;
    loop {
        let name = format!("{prefix}{index}");
        if !taken.contains(&name) {
            return name;
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_takes_passes() {
        for name in ["eth0", "a", "wan-0.1", "fifteen-letters"] {
            check_interface(name).expect(name);
        }
        for name in [
            "",
            "sixteen-letters!",
            "a/b",
            "a:1",
            "a b",
            "eth%d",
            ".",
            "..",
            "lo",
            "é",
            "a\0",
        ] {
            check_interface(name).expect_err(name);
        }
    }

    #[test]
    fn the_lowest_free_number_is_used_again() {
        let taken = ["eth0", "eth2"].map(str::to_owned).into();
        assert_eq!(next_interface("eth", &taken), "eth1");
        assert_eq!(next_interface("wan", &taken), "wan0");
    }
}
