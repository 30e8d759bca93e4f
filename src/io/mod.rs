//! Everything that touches the kernel.

pub mod attach;
pub mod device;
pub mod netlink;
pub mod netns;
pub mod packet;
pub mod restriction;
#[allow(unsafe_code)]
pub mod sys;
pub mod tap;

pub(crate) mod message;
