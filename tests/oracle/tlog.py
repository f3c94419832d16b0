#!/usr/bin/env python3
"""Checks a transparency log from its published files alone, independently of caii's own code.

    tlog.py DIRECTORY [--checkpoint FILE] --key NAME+ID+KEY [--key ...]

DIRECTORY holds tile/..., as https://c2sp.org/tlog-tiles has it, and `checkpoint` unless FILE says otherwise. The tree is
rebuilt from the entries; every tile, the root and every signature by one of the keys is compared. One line of JSON says
what came of it; the exit code is 0 if all is good, 1 if something is bad. Python's standard library is all it needs.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import sys


class Bad(Exception):
    """The first thing that is wrong, as the verdict's fields."""

    def __init__(self, check, **fields):
        super().__init__(check)
        self.verdict = {"verdict": "bad", "check": check, **fields}


def sha256(data):
    return hashlib.sha256(data).digest()


# Ed25519 verification, RFC 8032, sections 5.1.3 and 5.1.7, over points (X, Y, Z, T) of the twisted Edwards curve.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def point_add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_mul(scalar, point):
    product = (0, 1, 1, 0)
    while scalar > 0:
        if scalar & 1:
            product = point_add(product, point)
        point = point_add(point, point)
        scalar >>= 1
    return product


def point_equal(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def point_decode(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P != 0 or (x == 0 and sign == 1):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
NEUTRAL = (0, 1, 1, 0)


def ed25519_verify(public, message, signature):
    """Strict: no point of small order, one encoding of each signature."""
    if len(signature) != 64:
        return False
    a, r = point_decode(public), point_decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L or any(point_equal(point_mul(8, p), NEUTRAL) for p in (a, r)):
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    return point_equal(point_mul(s, BASE), point_add(r, point_mul(h, a)))


# Notes, keys, checkpoints: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature.


def b64(text, check):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Bad(check) from None
    if base64.b64encode(data).decode() != text:
        raise Bad(check)
    return data


def decimal(text, check):
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text, re.ASCII) or int(text) >= 2**63:
        raise Bad(check)
    return int(text)


def read_key(text):
    name, key_id, encoded = text.split("+", 2)
    key = b64(encoded, "key")
    if key[0] not in (1, 4) or len(key) != 33 or sha256(name.encode() + b"\n" + key)[:4].hex() != key_id:
        raise Bad("key", name=name)
    return name, bytes.fromhex(key_id), key[0], key[1:]


def read_note(data):
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Bad("note") from None
    if any(c < " " and c != "\n" for c in text) or "\n\n" not in text or not text.endswith("\n"):
        raise Bad("note")
    end = text.rindex("\n\n")
    body, lines = text[: end + 1], text[end + 2 :]
    signatures = []
    for line in lines.split("\n")[:-1]:
        match = re.fullmatch("— ([^ ]+) ([^ ]+)", line)
        if not match or "+" in match[1] or any(c.isspace() for c in match[1]):
            raise Bad("note")
        signature = b64(match[2], "note")
        if len(signature) < 5:
            raise Bad("note")
        signatures.append((match[1], signature[:4], signature[4:]))
    if not 1 <= len(signatures) <= 100:
        raise Bad("note")
    return body, signatures


def verify_note(body, signatures, keys):
    signers = []
    for name, key_id, kind, public in keys:
        mine = [s for n, i, s in signatures if (n, i) == (name, key_id)]
        for signature in mine:
            message = body.encode()
            if kind == 4:
                time, signature = int.from_bytes(signature[:8], "big"), signature[8:]
                message = b"cosignature/v1\ntime %d\n" % time + message
                if time >= 2**63:
                    raise Bad("signature", name=name)
            if not ed25519_verify(public, message, signature):
                raise Bad("signature", name=name)
        if mine:
            signers.append(name)
    if not signers:
        raise Bad("unsigned")
    return signers


def read_checkpoint(body):
    lines = body.split("\n")[:-1]
    if len(lines) < 3 or "" in lines or len(lines[0].encode()) > 255:
        raise Bad("checkpoint")
    size, root = decimal(lines[1], "checkpoint"), b64(lines[2], "checkpoint")
    if len(root) != 32:
        raise Bad("checkpoint")
    return lines[0], size, root


# The tree: RFC 6962, section 2.1; c2sp.org/tlog-tiles.


def tree_hash(hashes):
    """The root over hashes that stand side by side."""
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01" + tree_hash(hashes[:split]) + tree_hash(hashes[split:]))


def tile_path(level, number, width):
    digits = "%03d" % number
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join(["x" + part for part in parts[:-1]] + parts[-1:])
    return "tile/%s/%s%s" % (level, name, "" if width == 256 else ".p/%d" % width)


def read_tile(directory, level, number, width, place):
    """The bytes of a tile; the beginning of the full one if a partial one is gone."""
    path = tile_path(level, number, width)
    for candidate, length in ((path, None), (tile_path(level, number, 256), width * place)):
        try:
            with open(os.path.join(directory, candidate), "rb") as file:
                return path, file.read()[:length]
        except OSError:
            pass
    raise Bad("missing", path=path)


def read_hashes(directory, level, number, width):
    path, data = read_tile(directory, level, number, width, 32)
    if len(data) != 32 * width:
        raise Bad("length", path=path)
    return path, [data[at : at + 32] for at in range(0, len(data), 32)]


def read_bundle(directory, number, width):
    path, data = read_tile(directory, "entries", number, width, 34)
    entries, at = [], 0
    while len(entries) < width:
        entry = data[at + 2 : at + 34]
        if data[at : at + 2] != b"\x00\x20" or len(entry) != 32:
            raise Bad("bundle", path=path, index=256 * number + len(entries))
        entries.append(entry)
        at += 34
    if at != len(data):
        raise Bad("bundle", path=path, index=256 * number + width)
    return path, entries


def check_files(directory, size):
    """Compares all files with each other; the hashes of all entries."""
    leaves = []

    def compare(level, number, rebuilt):
        path, found = read_hashes(directory, level, number, len(rebuilt))
        for place, (mine, theirs) in enumerate(zip(rebuilt, found)):
            if mine != theirs:
                raise Bad("hash", path=path, place=place)

    def full(level, hashes):
        """Compares the tiles above that become full with the last of these hashes, from below."""
        while hashes and len(hashes) % 256 == 0:
            above = levels.setdefault(level + 1, [])
            above.append(tree_hash(hashes[-256:]))
            if len(above) % 256 == 0:
                compare(level + 1, len(above) // 256 - 1, above[-256:])
            level, hashes = level + 1, above

    levels = {}
    for number in range(-(-size // 256)):
        width = min(256, size - 256 * number)
        bundle, entries = read_bundle(directory, number, width)
        _, hashes = read_hashes(directory, 0, number, width)
        for place, (entry, found) in enumerate(zip(entries, hashes)):
            if sha256(b"\x00" + entry) != found:
                raise Bad("entry", path=bundle, index=256 * number + place)
        leaves += hashes
        full(0, leaves)
    for level in sorted(levels):
        rest = len(levels[level]) % 256
        if rest:
            compare(level, len(levels[level]) // 256, levels[level][-rest:])
    return leaves


def verdict(directory, checkpoint, keys):
    try:
        try:
            with open(checkpoint, "rb") as file:
                note = file.read()
        except OSError:
            raise Bad("missing", path="checkpoint") from None
        body, signatures = read_note(note)
        origin, size, root = read_checkpoint(body)
        signers = verify_note(body, signatures, [read_key(key) for key in keys])
        # The whole tree at once, by the definition: nothing is shared with how tiles are put together.
        found = tree_hash(check_files(directory, size))
        if found != root:
            raise Bad("root", found=found.hex())
        return {"verdict": "good", "origin": origin, "size": size, "root": root.hex(), "signers": signers}
    except Bad as bad:
        return bad.verdict


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory")
    parser.add_argument("--checkpoint")
    parser.add_argument("--key", action="append", required=True)
    args = parser.parse_args()
    checkpoint = args.checkpoint or os.path.join(args.directory, "checkpoint")
    result = verdict(args.directory, checkpoint, args.key)
    print(json.dumps(result))
    sys.exit(0 if result["verdict"] == "good" else 1)


if __name__ == "__main__":
    main()
