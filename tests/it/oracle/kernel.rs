//! The oracle: a network namespace in which nftables translates.
//!
//! ```text
//! ours, inside ──── N 10.0.0.1 │ 198.51.100.1 ──── ours, outside
//! ```
//!
//! Its rules are those of a careful administrator: what the tracker finds invalid is dropped (N-INV-1), nothing
//! is taken for the machine itself (N-FLT-4, N-FLT-5), and nothing enters that was not published.
//!
//! A packet's outputs are known to be all there when a second packet, which is not tracked, has come through behind
//! it: one CPU takes frames of veth devices in the order in which they were sent.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use vswitch_wire::MacAddr;

use super::{
    packet::{Ends, Header, udp},
    plan::{self, Side},
    router::{Entry, Passage, Router},
    wire::{self, Wire},
};

/// A namespace with nftables, at both of whose ends is the test.
pub(super) struct Kernel {
    keeper: Child,
    wires: [Wire; 2],
    sentinel: u64,
}

impl Kernel {
    /// Whether there can be one: programs, privileges, and what the kernel was built with.
    pub(super) fn probe() -> io::Result<()> {
        script(&["unshare", "--net", "sh"], PROBE).map(drop)
    }

    /// Makes one; `name` tells its interfaces from those of another.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        if let Some(stdout) = keeper.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        let pid = keeper.id();
        let ends = [format!("{name}-inside"), format!("{name}-outside")];
        for (end, theirs, mac) in [(&ends[0], "inside", ROUTER[0]), (&ends[1], "outside", ROUTER[1])] {
            script(
                &["sh"],
                &format!(
                    "ip link add {end} type veth peer name {theirs} address {mac} netns {pid}
                     echo 1 >/proc/sys/net/ipv6/conf/{end}/disable_ipv6
                     ip link set {end} mtu 9000 arp off up"
                ),
            )?;
        }
        let wires = [Wire::open(&ends[0], ROUTER[0])?, Wire::open(&ends[1], ROUTER[1])?];
        let macs = wires.each_ref().map(Wire::own);
        let kernel = Self {
            keeper,
            wires,
            sentinel: 0,
        };
        kernel.run(&set_up(macs))?;
        Ok(kernel)
    }

    fn run(&self, commands: &str) -> io::Result<String> {
        let namespace = format!("--net=/proc/{}/ns/net", self.keeper.id());
        script(&["nsenter", &namespace, "--", "sh"], commands)
    }

    fn outputs(&mut self, side: Side) -> io::Result<Vec<(Side, Vec<u8>)>> {
        self.sentinel += 1;
        let sentinel = sentinel(side, self.sentinel);
        self.wires[side as usize].send(&sentinel)?;
        let far = side.opposite();
        let mut outputs = Vec::new();
        let mut is_complete = false;
        while !is_complete {
            // The near side last: what is there when the far side has the sentinel was there before it.
            for from in [far, side] {
                while let Some(packet) = self.wires[from as usize].receive()? {
                    // Its time to live has changed.
                    if packet.len() == sentinel.len() && packet[12..] == sentinel[12..] {
                        is_complete = true;
                    } else {
                        outputs.push((from, packet));
                    }
                }
            }
            if !is_complete && !wire::wait(&self.wires)? {
                return Err(io::Error::other("the namespace does not forward any more"));
            }
        }
        Ok(outputs)
    }
}

impl Router for Kernel {
    fn pass(&mut self, side: Side, packet: &[u8]) -> io::Result<Passage> {
        match self.wires[side as usize].send(packet) {
            Ok(()) => {}
            // No frame may be so long, or so short.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {}
            Err(error) => return Err(error),
        }
        Ok(Passage {
            outputs: self.outputs(side)?,
            reason: None,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.run("conntrack -F 2>/dev/null").map(drop)
    }

    fn entries(&mut self, protocol: Option<u8>) -> io::Result<Vec<Entry>> {
        let listing = fs::read_to_string(format!("/proc/{}/net/nf_conntrack", self.keeper.id()))?;
        let column = protocol.map(|protocol| format!(" {protocol} "));
        let lines = listing
            .lines()
            .filter(|line| column.as_ref().is_none_or(|column| line.contains(column)));
        let entries = lines.filter_map(Entry::read);
        Ok(entries
            .filter(|entry| protocol.is_none_or(|protocol| protocol == entry.protocol))
            .collect())
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Runs a shell's commands behind `entry`, up to the first that fails.
fn script(entry: &[&str], commands: &str) -> io::Result<String> {
    let mut shell = Command::new(entry[0])
        .args(&entry[1..])
        .args(["-e"])
        // An ordinary user's search path lacks where these programs are.
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = shell.stdin.take() {
        // A shell that ends early says why below.
        let _ = stdin.write_all(commands.as_bytes());
    }
    let output = shell.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(complaint.trim_end().to_owned()))
}

/// What no rule and no tracker touches.
fn sentinel(side: Side, number: u64) -> Vec<u8> {
    let hosts = match side {
        Side::Inside => [plan::SENTINEL_INSIDE, plan::SENTINEL_OUTSIDE],
        Side::Outside => [plan::SENTINEL_OUTSIDE, plan::SENTINEL_INSIDE],
    };
    let ends = Ends {
        src: hosts[0].into(),
        dst: hosts[1].into(),
        src_port: 1,
        dst_port: 1,
    };
    Header::plain(0).packet(&ends, 17, &udp(&ends, &number.to_be_bytes()))
}

fn set_up([inside, outside]: [MacAddr; 2]) -> String {
    let mut text = [SYSCTLS, ADDRESSES].concat();
    for last in (2..=9).chain([250]) {
        for (device, mac, v4, v6) in [
            ("inside", inside, "10.0.0", "2001:db8:a:"),
            ("outside", outside, "198.51.100", "2001:db8:b:"),
        ] {
            text += &format!("ip neighbour add {v4}.{last} dev {device} lladdr {mac} nud permanent\n");
            text += &format!("ip neighbour add {v6}:{last} dev {device} lladdr {mac} nud permanent\n");
        }
    }
    text += RULES;
    // They are there once a rule has loaded the tracker.
    for (name, value) in plan::timers().filter_map(|(_, name, value)| Some((name?, value))) {
        text += &format!("echo {value} >/proc/sys/net/netfilter/nf_conntrack_{name}\n");
    }
    for (name, value) in [("checksum", 1), ("tcp_loose", 0)] {
        text += &format!("echo {value} >/proc/sys/net/netfilter/nf_conntrack_{name}\n");
    }
    text
}

/// Whom the test sends frames to.
const ROUTER: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];

/// A router that answers everything at any rate, and says nothing of its own accord.
const SYSCTLS: &str = "\
cd /proc/sys/net
echo 1 >ipv4/ip_forward
echo 0 >ipv4/icmp_ratemask; echo 0 >ipv4/icmp_ratelimit
echo '' >ipv6/icmp/ratemask; echo 0 >ipv6/icmp/ratelimit
echo 0 >ipv6/auto_flowlabels
for i in all default inside outside; do
    echo 0 >ipv4/conf/$i/rp_filter; echo 0 >ipv4/conf/$i/send_redirects; echo 0 >ipv4/conf/$i/accept_redirects
    echo 0 >ipv6/conf/$i/accept_dad; echo 0 >ipv6/conf/$i/accept_redirects
done
echo 1 >ipv6/conf/all/forwarding
ip link set inside addrgenmode none; ip link set outside addrgenmode none
";

/// Routes have MTUs, the cables have room for frames that exceed them.
const ADDRESSES: &str = "
cd /
ip link set lo up
ip link set inside mtu 9000 up; ip link set outside mtu 9000 up
ip address add 10.0.0.1/24 dev inside noprefixroute; ip address add 198.51.100.1/24 dev outside noprefixroute
ip address add 2001:db8:a::1/64 dev inside nodad noprefixroute
ip address add 2001:db8:b::1/64 dev outside nodad noprefixroute
ip route add 10.0.0.0/24 dev inside mtu 1300; ip -6 route add 2001:db8:a::/64 dev inside mtu 1300
ip route add 198.51.100.0/24 dev outside mtu 1400; ip -6 route add 2001:db8:b::/64 dev outside mtu 1400
ip route add default via 198.51.100.4 dev outside mtu 1400
ip -6 route add default via 2001:db8:b::4 dev outside mtu 1400
";

const PROBE: &str = "\
ip link add inside type veth peer name outside
nft add table inet probe
nft 'add chain inet probe hiding { type nat hook postrouting priority srcnat; }'
nft add rule inet probe hiding ct state new masquerade
test -e /proc/net/nf_conntrack; conntrack -F 2>/dev/null
";

/// The published ports are those of [`plan::PUBLISHED`].
const RULES: &str = "
nft -f - <<END
table inet oracle {
    chain sentinels {
        type filter hook prerouting priority raw
        ip saddr { 10.0.0.250, 198.51.100.250 } notrack
    }
    chain valid {
        type filter hook prerouting priority mangle
        ct state invalid drop
    }
    chain machine {
        type filter hook input priority filter; policy drop
    }
    chain entry {
        type filter hook forward priority filter
        iifname outside ct status dnat accept
        iifname outside ct state new drop
    }
    chain published {
        type nat hook prerouting priority dstnat
        ip daddr 198.51.100.1 tcp dport 8080 dnat ip to 10.0.0.3:80
        ip daddr 198.51.100.1 udp dport 5353 dnat ip to 10.0.0.3:53
        ip daddr 198.51.100.1 udp dport 9000-9003 dnat ip to 10.0.0.4:udp dport map {
            9000 : 7000, 9001 : 7001, 9002 : 7002, 9003 : 7003
        }
        ip6 daddr 2001:db8:b::1 tcp dport 8080 dnat ip6 to [2001:db8:a::3]:80
        ip6 daddr 2001:db8:b::1 udp dport 5353 dnat ip6 to [2001:db8:a::3]:53
    }
    chain hiding {
        type nat hook postrouting priority srcnat
        oifname outside masquerade
        iifname inside oifname inside masquerade
    }
}
END
";
