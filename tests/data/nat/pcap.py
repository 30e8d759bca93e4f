#!/usr/bin/env python3
"""Makes the captures of these fixtures; make.sh calls it. On purpose no code of ours.

    pcap.py hex DIR                  in.pcap and out.pcap of the lines `in SIDE HEX` and `out SIDE HEX` in DIR/README
    pcap.py split RAW DIR SIDE=MAC…  the same of a dumpcap file: frames to MAC on interface SIDE arrive at the router,
                                     frames from it leave
"""

import struct
import sys

# Captures begin at this second, so that making them again changes as little as possible.
START = 1_767_225_600 * 10**9
ETHERNET, RAW = 1, 101


def block(kind, body):
    body += b"\0" * (-len(body) % 4)
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def option(code, value):
    return struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def write(path, link, sides, packets):
    with open(path, "wb") as file:
        file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        for side in sides:
            options = option(2, side.encode()) + option(9, b"\x09") + option(0, b"")
            file.write(block(1, struct.pack("<HHI", link, 0, 0) + options))
        for time, side, data in packets:
            fixed = (sides.index(side), time >> 32, time & 0xFFFFFFFF, len(data), len(data))
            file.write(block(6, struct.pack("<IIIII", *fixed) + data))


def hexadecimal(directory):
    time, found = START, {"in": [], "out": []}
    for line in open(f"{directory}/README"):
        words = line.split()
        if len(words) == 3 and words[0] in found:
            time += 100_000_000 if words[0] == "in" else 0
            found[words[0]].append((time, words[1], bytes.fromhex(words[2])))
    sides = sorted({side for packets in found.values() for _, side, _ in packets})
    for name, packets in found.items():
        write(f"{directory}/{name}.pcap", RAW, sides, packets)


def blocks(data):
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        yield kind, data[at + 8 : at + size - 4]
        at += size


def options(data):
    while len(data) >= 4:
        code, size = struct.unpack_from("<HH", data)
        if code == 0:
            return
        yield code, data[4 : 4 + size]
        data = data[4 + size + -size % 4 :]


def split(raw, directory, *sides):
    macs = {side: bytes.fromhex(mac.replace(":", "")) for side, mac in (pair.split("=") for pair in sides)}
    interfaces, packets = [], []
    for kind, body in blocks(open(raw, "rb").read()):
        if kind == 1:
            known = dict(options(body[8:]))
            interfaces.append((known[2].decode(), known.get(9, b"\x06")[0]))
        elif kind == 6:
            number, high, low, size, wire = struct.unpack_from("<IIIII", body)
            assert size == wire, "a packet was cut"
            side, power = interfaces[number]
            packets.append(((high << 32 | low) * 10 ** (9 - power), side, body[20 : 20 + size]))
    packets.sort(key=lambda packet: packet[0])
    found = {"in": [], "out": []}
    for time, side, frame in packets:
        kind, mac = frame[12:14], macs[side]
        # What the router says to groups, and neighbour discovery, is none of the NAT's business.
        if frame[0] & 1:
            continue
        if kind == b"\x86\xdd" and frame[20] == 58 and 133 <= frame[54] <= 137:
            continue
        if kind in (b"\x08\x00", b"\x86\xdd"):
            where = "in" if frame[:6] == mac else "out" if frame[6:12] == mac else None
            if where:
                found[where].append((time - packets[0][0] + START, side, frame))
    for name, kept in found.items():
        write(f"{directory}/{name}.pcap", ETHERNET, list(macs), kept)
        print(f"{directory}/{name}.pcap: {len(kept)} packets")


{"hex": hexadecimal, "split": split}[sys.argv[1]](*sys.argv[2:])
