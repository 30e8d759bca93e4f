#!/usr/bin/env bash
# Makes the captures of this directory again. Not run in CI: what real stacks send differs a little each time.
#
#   make.sh golden               g*: from the hexadecimal lines in their README
#   make.sh kernel [PATTERN]     k*: real programs through the kernel's NAT, in namespaces; rootless
#
# The router's two interfaces are captured by dumpcap; what arrives there is in.pcap, what leaves is out.pcap.
# Needs: python3; for "kernel" also dumpcap, dnsmasq, busybox, iproute2, nftables, iptables, ethtool, util-linux, and the programs
# that the fixtures are named for.
#
#   inside --- router --- transit --- server          inside 10.0.0.2, ::a:2    router 10.0.0.1, 198.51.100.1
#                                                     transit 198.51.100.4, 203.0.113.1    server 203.0.113.2
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

golden() {
    for directory in "$here"/g*/; do python3 "$here/pcap.py" hex "${directory%/}"; done
}

lan_mac=02:00:00:00:01:01
outside_mac=02:00:00:00:02:01

in_() { ip netns exec "$1" "${@:2}"; }

# link NETNS NAME MAC ADDRESS… -- NETNS NAME MAC ADDRESS…: without offloads, so that what is captured is what is sent.
link() {
    local first=$1 first_name=$2 second=() side=1
    shift
    local one=("$@")
    for index in "${!one[@]}"; do
        [ "${one[$index]}" = -- ] && { second=("${one[@]:$((index + 1))}"); one=("${one[@]:0:$index}"); break; }
    done
    ip link add "$first_name" netns "$first" address "${one[1]}" type veth \
        peer name "${second[1]}" netns "${second[0]}" address "${second[2]}"
    for side in "$first ${one[*]}" "${second[*]}"; do
        read -ra words <<<"$side"
        for address in "${words[@]:3}"; do in_ "${words[0]}" ip address add "$address" dev "${words[1]}"; done
        in_ "${words[0]}" ethtool -K "${words[1]}" tx off gso off tso off gro off >/dev/null
        in_ "${words[0]}" ip link set "${words[1]}" up
    done
}

world() {
    mount -t tmpfs tmpfs /run
    for name in inside router transit server; do
        ip netns add $name
        in_ $name ip link set lo up
        in_ $name sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0 \
            net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
    done
    # Our errors have no flow label.
    in_ router sysctl -qw net.ipv6.auto_flowlabels=0
    link inside eth0 02:00:00:00:01:02 10.0.0.2/24 2001:db8:a::2/64 -- router inside $lan_mac 10.0.0.1/24 2001:db8:a::1/64
    link router outside $outside_mac 198.51.100.1/24 2001:db8:b::1/64 -- transit eth0 02:00:00:00:02:02 198.51.100.4/24 2001:db8:b::4/64
    link transit eth1 02:00:00:00:03:01 203.0.113.1/24 2001:db8:c::1/64 -- server eth0 02:00:00:00:03:02 203.0.113.2/24 2001:db8:c::2/64
    in_ inside ip route add default via 10.0.0.1
    in_ inside ip -6 route add default via 2001:db8:a::1
    in_ router ip route add default via 198.51.100.4
    in_ router ip -6 route add default via 2001:db8:b::4
    in_ server ip route add default via 203.0.113.1
    in_ server ip -6 route add default via 2001:db8:c::1
    cat >/run/rules <<RULES
table ip nat {
    chain in { type nat hook prerouting priority dstnat; ip daddr 198.51.100.1 tcp dport 8080 dnat to 10.0.0.2:80; }
    chain out { type nat hook postrouting priority srcnat; oifname outside masquerade; }
}
table ip6 nat {
    chain out { type nat hook postrouting priority srcnat; oifname outside masquerade; }
}
RULES
    in_ router nft -f /run/rules
    mkdir /run/www
    head -c 3000 /dev/zero | tr '\0' x >/run/www/index.html
    in_ server busybox httpd -f -p '[::]:80' -h /run/www &
    in_ inside busybox httpd -f -p '[::]:80' -h /run/www &
    in_ server dnsmasq --no-daemon --user=root --conf-file=/dev/null --no-resolv --no-hosts --log-facility=/dev/null \
        --address=/host.test/203.0.113.2 --address=/host.test/2001:db8:c::2 2>/dev/null &
    in_ server iperf3 -s >/dev/null &
    : >/run/dumpcap.log
    sleep 1
}

# fixture NAME NETNS COMMAND…: captures while the command runs.
fixture() {
    local name=$1 netns=$2 raw=/run/raw.pcapng
    shift 2
    # shellcheck disable=SC2053 # It is a pattern.
    [[ $name == $pattern ]] || return 0
    ip netns exec router dumpcap -q -i inside -i outside -f 'ip or ip6' -w "$raw" 2>/run/dumpcap.log &
    local dumpcap=$!
    for _ in {1..50}; do grep -q '^File:' /run/dumpcap.log && break; sleep 0.1; done
    sleep 0.3
    in_ "$netns" timeout 10 "$@" >/run/command.log 2>&1 || true
    sleep 0.5
    # A background job of a script ignores SIGINT.
    kill -TERM $dumpcap
    wait $dumpcap || true
    mkdir -p "$here/$name"
    python3 "$here/pcap.py" split "$raw" "$here/$name" inside=$lan_mac outside=$outside_mac
}

kernel() {
    world
    fixture k-curl inside curl -s http://203.0.113.2/
    fixture k-curl6 inside curl -s 'http://[2001:db8:c::2]/'
    fixture k-curl-refused inside curl -s http://203.0.113.2:81/
    fixture k-curl-published server curl -s http://198.51.100.1:8080/
    fixture k-dig inside dig +tries=1 +time=2 @203.0.113.2 host.test
    fixture k-dig6 inside dig +tries=1 +time=2 @2001:db8:c::2 host.test AAAA
    fixture k-ping inside ping -c 3 -i 0.2 203.0.113.2
    fixture k-ping6 inside ping -c 3 -i 0.2 2001:db8:c::2
    fixture k-ping-fragments inside ping -c 2 -i 0.2 -s 3000 203.0.113.2
    fixture k-ping6-fragments inside ping -c 2 -i 0.2 -s 3000 2001:db8:c::2
    fixture k-traceroute inside traceroute -n -q 1 -m 4 203.0.113.2
    fixture k-traceroute6 inside traceroute -6 -n -q 1 -m 4 2001:db8:c::2
    fixture k-iperf3 inside iperf3 -c 203.0.113.2 -n 8K -l 1K
    fixture k-udp-fragments inside bash -c 'head -c 2500 /dev/zero >/dev/udp/203.0.113.2/7'
    in_ router nft flush ruleset
    in_ transit ip route add 10.0.0.0/24 via 198.51.100.1
    fixture k-routed-curl inside curl -s http://203.0.113.2/
    in_ inside ip address add fd01:203:405:1::2/64 dev eth0
    in_ router ip address add fd01:203:405:1::1/64 dev inside
    in_ transit ip -6 route add 2001:db8:1::/48 via 2001:db8:b::1
    in_ router ip6tables-legacy -t mangle -A POSTROUTING -o outside -s fd01:203:405::/48 \
        -j SNPT --src-pfx fd01:203:405::/48 --dst-pfx 2001:db8:1::/48
    in_ router ip6tables-legacy -t mangle -A PREROUTING -i outside -d 2001:db8:1::/48 \
        -j DNPT --src-pfx 2001:db8:1::/48 --dst-pfx fd01:203:405::/48
    fixture k-npt-curl6 inside curl -s --interface fd01:203:405:1::2 'http://[2001:db8:c::2]/'
    fixture k-npt-traceroute6 inside traceroute -6 -n -q 1 -m 4 -s fd01:203:405:1::2 2001:db8:c::2
    in_ router ip6tables-legacy -t mangle -F
    in_ router nft -f /run/rules
    in_ transit ip link set eth1 mtu 1300
    in_ server ip link set eth0 mtu 1300
    fixture k-path-mtu inside ping -c 2 -i 0.2 -M do -s 1400 203.0.113.2
    fixture k-path-mtu6 inside ping -c 2 -i 0.2 -M do -s 1400 2001:db8:c::2
    in_ router ip link set outside mtu 1280
    # What was learnt of the path would keep large packets from being sent.
    in_ inside ip route flush cache
    fixture k-own-mtu inside ping -c 2 -i 0.2 -M do -s 1360 203.0.113.2
    kill $(jobs -p)
}

case ${1-} in
golden) golden ;;
kernel) exec unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc "$0" kernel-inside "${2-*}" ;;
kernel-inside) pattern=$2; kernel ;;
*) sed -n '2,12s/^# \?//p' "$0" >&2; exit 2 ;;
esac
