//! Tokens of the poll set and what they stand for.

use std::collections::VecDeque;

use mio::Token;
use vswitch_switch::PortId;

/// What a token stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    /// A port of the network in a slot.
    Port {
        /// The network's.
        slot: usize,
        /// Of its switch.
        port: PortId,
    },
    /// The device uplink.
    Uplink,
}

/// Tokens of the poll set, dense, with a mark for those that are in the ready queue.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    slots: Vec<Option<(Owner, bool)>>,
    free: Vec<usize>,
}

impl Tokens {
    pub(super) fn insert(&mut self, owner: Owner) -> Token {
        let slot = Some((owner, false));
        Token(match self.free.pop() {
            Some(index) => {
                self.slots[index] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        })
    }

    pub(super) fn remove(&mut self, token: Token) {
        if self.slots.get_mut(token.0).and_then(Option::take).is_some() {
            self.free.push(token.0);
        }
    }

    /// Puts the token into `ready` unless it is there or unknown.
    pub(super) fn mark_ready(&mut self, token: Token, ready: &mut VecDeque<Token>) {
        if let Some(Some((_, queued))) = self.slots.get_mut(token.0)
            && !std::mem::replace(queued, true)
        {
            ready.push_back(token);
        }
    }

    pub(super) fn clear_ready(&mut self, token: Token) -> Option<Owner> {
        let (owner, queued) = self.slots.get_mut(token.0)?.as_mut()?;
        *queued = false;
        Some(*owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(port: u32) -> Owner {
        Owner::Port {
            slot: 0,
            port: PortId(port),
        }
    }

    #[test]
    fn a_token_is_queued_once() {
        let (mut tokens, mut ready) = (Tokens::default(), VecDeque::new());
        let token = tokens.insert(owner(1));
        tokens.mark_ready(token, &mut ready);
        tokens.mark_ready(token, &mut ready);
        assert_eq!(ready, [token]);
        assert!(tokens.clear_ready(token).is_some());
        tokens.mark_ready(token, &mut ready);
        assert_eq!(ready.len(), 2);
    }

    #[test]
    fn a_removed_token_is_ignored_until_reused() {
        let (mut tokens, mut ready) = (Tokens::default(), VecDeque::new());
        let token = tokens.insert(owner(1));
        tokens.remove(token);
        tokens.remove(token);
        tokens.mark_ready(token, &mut ready);
        assert!(ready.is_empty());
        assert!(tokens.clear_ready(token).is_none());
        assert_eq!(tokens.insert(owner(2)), token);
        assert_ne!(tokens.insert(owner(3)), token);
    }
}
