//! Segments of TCP connections, most as they should be and many as they should not.

use super::{
    flow::Party,
    packet::{ACK, FIN, PSH, RST, SYN, Segment, URG},
    random::Random,
};

/// What the two ends of a connection have said.
#[derive(Debug, Clone, Default)]
pub(super) struct TcpModel {
    ends: [End; 2],
    is_reset: bool,
}

#[derive(Debug, Clone, Default)]
struct End {
    has_syn: bool,
    has_acked: bool,
    has_fin: bool,
    /// Sequence number of its next byte.
    next: u32,
    /// What it sent, for sending again.
    sent: Vec<Segment>,
}

/// What to send next.
#[derive(Debug, Clone)]
pub(super) struct Move {
    pub(super) from: Party,
    pub(super) segment: Segment,
    pub(super) what: &'static str,
}

impl TcpModel {
    /// The next segment.
    pub(super) fn next(&self, random: &mut Random) -> Move {
        let kind = random.weighted(&[
            (66, Kind::Natural),
            (7, Kind::Again),
            (12, Kind::Reset),
            (8, Kind::Window),
            (7, Kind::Syn),
            (4, Kind::Flags),
            (2, Kind::Probe),
        ]);
        match kind {
            Kind::Natural => self.natural(random),
            Kind::Again => self.again(random),
            // Most connections should live for a while.
            Kind::Reset if random.percent(60) => self.natural(random),
            Kind::Reset => self.reset(random),
            Kind::Window => self.misfit(random),
            Kind::Syn if random.percent(50) => self.natural(random),
            Kind::Syn => self.syn(random),
            Kind::Flags => self.flags(random),
            Kind::Probe => self.probe(random),
        }
    }

    /// Notes that a segment reached the other end.
    pub(super) fn arrived(&mut self, Move { from, segment, what }: &Move) {
        if segment.flags & RST != 0 {
            self.is_reset |= *what == "exact RST";
            return;
        }
        if *what != "natural" {
            return;
        }
        if segment.flags & (SYN | ACK) == SYN && *from == Party::Client && self.is_over() {
            *self = Self::default();
        }
        let end = &mut self.ends[*from as usize];
        if segment.flags & SYN != 0 {
            end.has_syn = true;
            end.next = segment.seq;
        }
        end.has_acked |= segment.flags & ACK != 0;
        end.has_fin |= segment.flags & FIN != 0;
        end.next = segment.seq.wrapping_add(segment.length());
        if end.sent.len() == 8 {
            end.sent.remove(0);
        }
        end.sent.push(segment.clone());
    }

    fn is_over(&self) -> bool {
        self.is_reset || self.ends.iter().all(|end| end.has_fin)
    }

    fn natural(&self, random: &mut Random) -> Move {
        let [client, server] = &self.ends;
        let last_words = self.is_over() && random.percent(60);
        let (from, segment) = if !client.has_syn || self.is_over() && !last_words {
            (Party::Client, opening(random, SYN, 0))
        } else if !server.has_syn {
            match random.below(20) {
                0 | 1 => (Party::Server, opening(random, SYN, 0)),
                _ => (Party::Server, opening(random, SYN | ACK, client.next)),
            }
        } else if !client.has_acked && random.percent(90) {
            (Party::Client, self.segment(random, Party::Client, ACK))
        } else {
            let from = random.pick(&[Party::Client, Party::Server]);
            let mut segment = self.segment(random, from, ACK);
            match random.below(10) {
                0 | 1 if !self.ends[from as usize].has_fin => segment.flags |= FIN,
                2..=5 if !self.ends[from as usize].has_fin => {
                    segment.payload = {
                        let length = data_length(random);
                        random.bytes(length)
                    };
                    segment.flags |= random.pick(&[0, PSH]);
                }
                6 => segment.options = sack(random, segment.ack),
                _ => {}
            }
            (from, segment)
        };
        Move {
            from,
            segment,
            what: "natural",
        }
    }

    fn again(&self, random: &mut Random) -> Move {
        let from = random.pick(&[Party::Client, Party::Server]);
        let sent = &self.ends[from as usize].sent;
        if sent.is_empty() {
            return self.natural(random);
        }
        Move {
            from,
            segment: sent[random.below(sent.len() as u32) as usize].clone(),
            what: "again",
        }
    }

    fn reset(&self, random: &mut Random) -> Move {
        let from = random.pick(&[Party::Client, Party::Server]);
        let exact = self.ends[from as usize].next;
        let mut segment = self.segment(random, from, RST);
        segment.flags |= random.pick(&[0, ACK]);
        let what = random.weighted(&[
            (5, "exact RST"),
            (3, "RST within the window"),
            (3, "old RST"),
            (3, "RST beyond the window"),
            (2, "RST of nothing"),
        ]);
        segment.seq = match what {
            "RST within the window" => exact.wrapping_add(1 + random.below(200)),
            "old RST" => exact.wrapping_sub(1 + random.below(2000)),
            "RST beyond the window" => exact.wrapping_add(100_000_000),
            "RST of nothing" => 0,
            _ => exact,
        };
        Move { from, segment, what }
    }

    fn misfit(&self, random: &mut Random) -> Move {
        let from = random.pick(&[Party::Client, Party::Server]);
        let mut segment = self.segment(random, from, ACK);
        let length = random.below(200) as usize;
        segment.payload = random.bytes(length);
        let what = random.pick(&[
            "far ahead",
            "ahead",
            "just beyond",
            "behind",
            "far behind",
            "acknowledges what was not sent",
            "acknowledges old data",
            "acknowledges very old data",
        ]);
        let (seq, ack) = (&mut segment.seq, &mut segment.ack);
        match what {
            "far ahead" => *seq = seq.wrapping_add(100_000_000),
            "ahead" => *seq = seq.wrapping_add(random.below(1000)),
            "just beyond" => *seq = seq.wrapping_add(60_000 + random.below(10_000)),
            "behind" => *seq = seq.wrapping_sub(random.below(2000)),
            "far behind" => *seq = seq.wrapping_sub(70_000),
            "acknowledges what was not sent" => *ack = ack.wrapping_add(random.pick(&[1, 1000, 100_000])),
            "acknowledges old data" => *ack = ack.wrapping_sub(random.below(60_000)),
            _ => *ack = ack.wrapping_sub(66_000 + random.below(40_000)),
        }
        if random.percent(15) {
            segment.flags |= FIN;
        }
        Move { from, segment, what }
    }

    fn syn(&self, random: &mut Random) -> Move {
        let from = random.pick(&[Party::Client, Party::Client, Party::Server]);
        let flags = random.pick(&[SYN, SYN, SYN | ACK]);
        let ack = self.ends[from.opposite() as usize].next;
        Move {
            from,
            segment: opening(random, flags, ack),
            what: "new SYN",
        }
    }

    fn flags(&self, random: &mut Random) -> Move {
        let from = random.pick(&[Party::Client, Party::Server]);
        let flags = random.pick(&[
            0,
            FIN,
            SYN | FIN,
            SYN | RST,
            0x3f,
            0xff,
            FIN | PSH | URG,
            ACK | URG,
            FIN | ACK | URG,
            SYN | URG,
            ACK | 0xc0,
            RST | FIN,
            PSH,
        ]);
        Move {
            from,
            segment: self.segment(random, from, flags),
            what: "odd flags",
        }
    }

    fn probe(&self, random: &mut Random) -> Move {
        let from = random.pick(&[Party::Client, Party::Server]);
        let mut segment = self.segment(random, from, ACK);
        segment.seq = segment.seq.wrapping_sub(1);
        let length = random.below(2) as usize;
        segment.payload = random.bytes(length);
        Move {
            from,
            segment,
            what: "keep-alive",
        }
    }

    /// What fits, without data.
    fn segment(&self, random: &mut Random, from: Party, flags: u8) -> Segment {
        let [own, other] = [from, from.opposite()].map(|party| &self.ends[party as usize]);
        Segment {
            flags,
            seq: own.next,
            ack: if flags & ACK != 0 { other.next } else { 0 },
            window: random.weighted(&[(10, 29_200), (10, 65_535), (3, 1000), (1, 0)]),
            options: Vec::new(),
            payload: Vec::new(),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Again,
    Flags,
    Natural,
    Probe,
    Reset,
    Syn,
    Window,
}

fn opening(random: &mut Random, flags: u8, ack: u32) -> Segment {
    let mut options = Vec::new();
    if random.percent(80) {
        options.extend([2, 4]);
        options.extend(random.pick(&[536_u16, 1200, 1240]).to_be_bytes());
    }
    if random.percent(60) {
        options.extend([1, 3, 3, random.pick(&[0, 1, 2, 7, 14, 15, 200])]);
    }
    if random.percent(60) {
        options.extend([1, 1, 4, 2]);
    }
    if random.percent(5) {
        options = random
            .pick(&[&[3, 0, 1, 1][..], &[2, 40, 0, 0], &[3, 2, 0, 0], &[99, 3, 1, 0]])
            .to_vec();
    }
    let length = if random.percent(5) {
        random.below(100) as usize
    } else {
        0
    };
    Segment {
        flags,
        // Sometimes near the end of the sequence space.
        seq: if random.percent(20) {
            0u32.wrapping_sub(random.below(500))
        } else {
            random.next() as u32
        },
        ack: if flags & ACK != 0 { ack } else { 0 },
        window: random.pick(&[65_535, 29_200, 4096, 0]),
        options,
        payload: random.bytes(length),
    }
}

fn data_length(random: &mut Random) -> usize {
    let limit = random.pick(&[10, 200, 1200]);
    1 + random.below(limit) as usize
}

fn sack(random: &mut Random, ack: u32) -> Vec<u8> {
    let left = ack.wrapping_add(random.below(3000)).wrapping_sub(500);
    let right = left.wrapping_add(1 + random.below(1000));
    let mut options = vec![1, 1, 5, 10];
    options.extend(left.to_be_bytes());
    options.extend(right.to_be_bytes());
    options
}
