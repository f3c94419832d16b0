#!/usr/bin/env python3
"""Audits what a pool published, from docs/publication.md and docs/money.md alone, independently of caii's own code.

    audit.py DIRECTORY ... [--key NAME+ID+KEY ...]

Without a key, the log's keys are those of pool.json; a witness's key counts only if it is given. For each directory one
line of JSON says which checks found something wrong and at which entry first; the exit code is 0 if none did. Python's
standard library, tlog.py and reward.py are all it needs. Left out, and said so in the answer: the stewards' signatures,
the files of tariffs and payouts.
"""

import argparse
import base64
import functools
import hashlib
import json
import os
import struct
import sys

import reward
import tlog

ACCOUNTS = {1: "member", 2: "escrow", 3: "held", 4: "fees", 5: "verification", 6: "treasury", 7: "payable"}
TRANSFERS = ["grant", "payment", "reserve", "return", "reward", "holdback", "surcharge", "unearned", "fee",
             "audit-reward", "audit-holdback", "refund", "fee-refund", "release", "forfeit", "clawback", "availability",
             "payout-request", "payout-done", "payout-failed"]


# Several directories of one pool have the same signatures.
ed25519_verify = functools.cache(tlog.ed25519_verify)


def sha256(data):
    return hashlib.sha256(data).digest()


class Malformed(Exception):
    pass


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Malformed("short")
        self.at += count
        return self.data[self.at - count : self.at]

    def u(self, width):
        return int.from_bytes(self.take(width), "little")

    def i64(self):
        return int.from_bytes(self.take(8), "little", signed=True)

    def name(self):
        return self.take(self.u(2)).decode("ascii")

    def list(self, read):
        return [read() for _ in range(self.u(4))]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.u(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 28:
                raise Malformed("varint")

    def end(self):
        if self.at != len(self.data):
            raise Malformed("long")


def read_tariff(data):
    r = Reader(data)
    if r.take(8) != b"caiitrf1":
        raise Malformed("tariff")
    fields = {"number": r.u(4), "effective_from": r.u(8), "compute_rate": r.i64(), "reliability_bonus": r.u(4),
              "reliability_share_floor": r.u(4), "availability_rate": r.i64(), "availability_daily_max": r.u(8),
              "energy_rate": r.i64(), "energy_certified_joules": r.u(8), "verification_surcharge": r.u(4),
              "pool_fee": r.u(4), "probation_holdback": r.u(4)}
    r.end()
    return fields


def read_claim(data):
    r = Reader(data)
    if r.take(8) != b"caiiclm1":
        raise Malformed("claim")
    claim = {"pool": r.take(8), "device": r.take(8), "sequence": r.u(8), "job": r.u(8), "index": r.u(4),
             "workload": r.take(32), "meter": r.take(32), "input": r.take(32), "root": r.take(32), "items": r.u(4),
             "items_failed": r.u(4), "fuel": r.u(8), "cpu": r.u(8), "wall": r.u(8), "energy": r.u(8),
             "method": r.u(1), "jail": r.take(32)}
    r.end()
    return claim


def read_receipt(r):
    data = r.take(245)
    receipt = {"claim": read_claim(data), "claim_bytes": data, "signature": r.take(64), "owner": r.name(),
               "policy": {1: "audit", 2: "quorum", 3: "spot"}[r.u(1)], "copies": r.u(4), "tariff": r.take(32),
               "at": r.u(8), "verdict": r.u(1)}
    if receipt["verdict"] == 1:
        receipt.update(accepted=r.u(8), decided=r.u(8), probation=r.u(1) == 1, audit_fuel=r.u(8),
                       reward=[r.i64() for _ in range(4)], charge=r.i64())
    else:
        receipt["reason"] = r.u(1)
    return receipt


def read_purpose(r):
    code = r.u(1)
    if code in (1, 2):
        return code, r.take(16)
    if code in (3, 4):
        return code, r.u(8)
    if code in (5, 6):
        return code, (r.u(8), r.u(4)), r.take(8)
    if code in (7, 8):
        return code, r.take(8), r.u(8)
    if code == 9:
        return code, r.take(8), r.u(4)
    if code == 10:
        return code, r.name(), r.u(8)
    if code == 11:
        return code, r.u(8), r.name()
    raise Malformed("purpose")


def read_account(r):
    kind = ACCOUNTS[r.u(1)]
    if kind in ("member", "held", "payable"):
        return kind, r.name()
    return (kind, r.u(8)) if kind == "escrow" else (kind,)


def read_entry(r):
    purpose, at = read_purpose(r), r.u(8)
    postings = [(read_account(r), read_account(r), r.i64(), TRANSFERS[r.u(1) - 1]) for _ in range(r.u(1))]
    return {"purpose": purpose, "at": at, "postings": postings}


def read_logged(data):
    """The kind and the fields of an entry."""
    r = Reader(data)
    kind = r.take(8).decode("ascii", "replace")
    if kind == "caiircp1":
        fields = read_receipt(r)
    elif kind == "caiient1":
        fields = read_entry(r)
    elif kind == "caiiopn1":
        fields = {"key": r.take(32), "charter": r.take(32), "limit": r.i64(), "at": r.u(8)}
    elif kind == "caiitae1":
        canonical = r.take(80)
        fields = {"tariff": read_tariff(canonical), "digest": sha256(canonical), "at": r.u(8)}
    elif kind == "caiidev1":
        fields = {"key": r.take(32), "owner": r.name(), "at": r.u(8)}
    elif kind == "caiicrt1":
        fields = {"workload": r.take(32), "charter": r.take(32), "envelope": r.take(32), "at": r.u(8)}
    elif kind in ("caiisec1", "caiisrv1"):
        fields = {"period": r.u(8), "value": r.take(32), "at": r.u(8)}
    elif kind == "caiidrw1":
        fields = {"claim": (r.take(8), r.u(8)), "period": r.u(8), "depth": r.u(4), "before": r.u(8), "at": r.u(8),
                  "items": r.list(lambda: r.u(4))}
    elif kind == "caiidrm1":
        fields = {"job": r.u(8), "device": r.take(8), "period": r.u(8), "before": r.u(8), "at": r.u(8),
                  "open": r.list(lambda: r.u(8)), "items": r.list(lambda: (r.u(8), r.u(4)))}
    elif kind == "caiiout1":
        fields = {"of": r.take(8), "auditor": (r.take(8), r.u(8)), "at": r.u(8),
                  "items": r.list(lambda: (r.u(8), r.u(4), r.u(1)))}
    elif kind == "caiicnv1":
        fields = {"device": r.take(8), "evidence": (r.take(8), r.u(8)), "item": r.u(4), "as_auditor": r.u(1), "at": r.u(8)}
    elif kind == "caiipay1":
        fields = {"run": r.u(8), "currency": r.take(3), "rate": r.u(8), "xml": r.take(32), "csv": r.take(32),
                  "at": r.u(8), "payments": r.list(lambda: (r.name(), r.u(8)))}
    elif kind == "caiivoi1":
        fields = {"claim": (r.take(8), r.u(8)), "reason": r.u(1), "at": r.u(8)}
        if not 1 <= fields["reason"] <= 10:
            raise Malformed("reason")
    else:
        raise Malformed(kind)
    r.end()
    return kind, fields


def read_openings(data, width):
    r = Reader(data)
    if r.take(8) != b"caiiops1":
        raise Malformed("head")
    openings = []
    for _ in range(width):
        marker = r.u(1)
        if marker == 0:
            openings.append((None, r.u(1), b""))
            continue
        back = r.u(1) if marker == 2 else 0
        salt = r.take(32)
        if marker == 1:
            content = r.take(r.varint())
        elif marker == 2:
            other, content = openings[len(openings) - back][1], b""
            while len(content) < len(other):
                equal, differ = r.varint(), r.varint()
                content += other[len(content) : len(content) + equal]
                content += r.take(differ)
        else:
            raise Malformed("opening")
        openings.append((salt, content, r.take(r.varint())))
    signature = r.take(64)
    r.end()
    return openings, signature


def signed(domain, digest):
    return b"caii signature 1\x01" + struct.pack("<Q", len(domain)) + domain + digest


# Draws: crates/verify.


class Stream:
    def __init__(self, seed):
        self.seed, self.counter, self.rest = seed, 0, b""

    def below(self, limit):
        fair = 2**64 // limit * limit
        while True:
            if not self.rest:
                self.rest = sha256(self.seed + struct.pack("<Q", self.counter))
                self.counter += 1
            bits, self.rest = int.from_bytes(self.rest[:8], "little"), self.rest[8:]
            if bits < fair:
                return bits % limit


def subset(seed, of, count):
    stream, chosen = Stream(seed), set()
    for last in range(max(0, of - count), of):
        place = stream.below(last + 1)
        chosen.add(last if place in chosen else place)
    return sorted(chosen)


def drawn_items(secret, claim, before, depth):
    seed = lambda label: sha256(label + secret + struct.pack("<QI", claim["job"], claim["index"]) + claim["root"])
    chance = Stream(seed(b"caii audit chance 1")).below(100)
    items = claim["items"]
    count = min(items, max(items // 100 + (chance < items % 100), max(0, depth - before)))
    return subset(seed(b"caii audit draw 1"), items, count)


class Audit:
    def __init__(self, directory, keys):
        self.directory, self.keys = directory, keys
        self.wrong, self.erased = {}, {}
        self.last, self.limit = 0, 0
        self.devices, self.tariffs, self.certified, self.claims = {}, [], {}, {}
        self.tasks, self.balances, self.purposes, self.jobs = {}, {}, set(), {}
        self.secrets, self.current, self.drawn, self.survived, self.depths = {}, 0, {}, {}, {}
        # Of each job: drawn items and the devices that gave their outcomes so far; claims that are neither paid nor void.
        self.pending, self.waiting, self.evidence = {}, {}, {}
        self.runs, self.requests, self.totals = {}, {}, {}
        self.missing_receipts = 0

    def bad(self, check, index, condition=True):
        if condition:
            self.wrong[check] = min(index, self.wrong.get(check, index)) if index is not None else None
        return condition

    def lacks(self, check, index, kinds):
        """Something is not there that an erased entry of these kinds may have said."""
        if not any(kind in self.erased for kind in kinds):
            self.bad(check, index)

    def run(self):
        with open(os.path.join(self.directory, "pool.json"), "rb") as file:
            self.pool = json.load(file)
        self.pool_key = bytes.fromhex(self.pool["key"])
        checkpoint = os.path.join(self.directory, "checkpoint")
        verdict = tlog.verdict(self.directory, checkpoint, self.keys or self.pool["log"])
        if verdict["verdict"] == "bad":
            signature = verdict["check"] in ("note", "checkpoint", "unsigned", "signature", "key")
            self.wrong["checkpoint" if signature else "tiles"] = verdict.get("index")
            return
        size = verdict["size"]
        for number in range(-(-size // 256)):
            self.bundle(number, min(256, size - 256 * number))
        self.finish()

    def bundle(self, number, width):
        _, entries = tlog.read_bundle(self.directory, number, width)
        path = tlog.tile_path("entries", number, width).replace("tile/entries/", "opening/")
        try:
            with open(os.path.join(self.directory, path), "rb") as file:
                openings, signature = read_openings(file.read(), width)
        except (OSError, Malformed, IndexError, TypeError):
            self.bad("openings", 256 * number)
            return
        digest = sha256(b"caiibdl1" + struct.pack("<Q", number) + b"".join(entries))
        good = ed25519_verify(self.pool_key, signed(b"bundle", digest), signature)
        self.bad("pool-signatures", 256 * number, not good)
        for index, entry, (salt, content, beside) in zip(range(256 * number, 256 * number + width), entries, openings):
            if salt is None:
                self.erased[content] = self.erased.get(content, 0) + 1
                continue
            if sha256(salt + content) != entry:
                self.bad("openings", index)
                continue
            try:
                kind, fields = read_logged(content)
            except (Malformed, KeyError, IndexError, UnicodeDecodeError):
                self.bad("openings", index)
                continue
            self.bad("order", index, fields["at"] < self.last)
            self.last = max(self.last, fields["at"])
            self.bad("pool", index, (index == 0) != (kind == "caiiopn1"))
            getattr(self, kind)(index, fields, beside)

    def caiiopn1(self, index, f, _):
        charter = self.pool["charter"]
        self.limit = f["limit"]
        other = f["key"] != self.pool_key or (charter and charter[7:]) != (f["charter"].hex() if any(f["charter"]) else None)
        self.bad("pool", index, other)

    def caiitae1(self, index, f, _):
        number = self.tariffs[-1][1]["number"] + 1 if self.tariffs else 1
        if f["tariff"]["number"] != number:
            self.lacks("tariffs", index, [2])
        self.bad("tariffs", index, f["tariff"]["effective_from"] < f["at"])
        self.tariffs.append((f["digest"], f["tariff"]))

    def caiidev1(self, index, f, _):
        device = sha256(f["key"])[:8]
        if not self.bad("devices", index, device in self.devices):
            self.devices[device] = {"key": f["key"], "owner": f["owner"], "next": 1, "accepted": 0, "convicted": False,
                                    "held": 0, "paid_for_void": 0, "releases": 0, "released": 0}

    def caiicrt1(self, index, f, beside):
        if self.bad("certificates", index, sha256(beside) != f["envelope"]):
            return
        statement = json.loads(base64.b64decode(json.loads(beside)["payload"]))
        predicate, subject = statement["predicate"], statement["subject"][0]["digest"]["sha256"]
        charter = "sha256:" + f["charter"].hex()
        if self.bad("certificates", index, subject != f["workload"].hex() or charter != self.pool["charter"]):
            return
        self.certified.setdefault(f["workload"], []).append((ms(predicate["issued"]), ms(predicate["expires"])))

    def tariff_at(self, at):
        return next((t for t in reversed(self.tariffs) if t[1]["effective_from"] <= at), None)

    def caiircp1(self, index, f, _):
        claim = f["claim"]
        device = self.devices.get(claim["device"])
        if device is None:
            self.lacks("devices", index, [3])
            return
        owned = claim["pool"] == sha256(self.pool_key)[:8] and f["owner"] == device["owner"]
        self.bad("devices", index, not owned)
        message = signed(b"claim", sha256(f["claim_bytes"]))
        self.bad("claim-signatures", index, not ed25519_verify(device["key"], message, f["signature"]))
        gap = claim["sequence"] - device["next"]
        if gap > 0 and self.erased.get(5, 0) >= self.missing_receipts + gap:
            self.missing_receipts += gap
        elif self.bad("sequences", index, gap != 0) and gap < 0:
            return
        known = {**f, **claim, "index_in_log": index, "task": (claim["job"], claim["index"]), "ok": False, "settled": None, "drawn": None,
                 "paid": None, "voided": False, "wrong": False, "audited": False, "lied": False}
        self.claims[claim["device"], claim["sequence"]] = known
        if f["verdict"] == 1:
            self.accepted(index, known, device)
        device["next"] = claim["sequence"] + 1
        device["accepted"] += known["ok"]

    def accepted(self, index, f, device):
        f["ok"], f["own"] = True, f["fuel"] > f["audit_fuel"]
        if f["policy"] == "audit" and f["own"]:
            secret = self.secrets.get(self.current)
            if secret and not secret["revealed"]:
                secret["awaiting"][f["device"], f["sequence"]] = index
            else:
                self.lacks("draws", index, [7])
        self.bad("convictions", index, device["convicted"])
        holds = any(issued <= f["at"] < expires for issued, expires in self.certified.get(f["workload"], []))
        if self.pool["charter"] and not holds:
            self.lacks("certificates", index, [4])
        claims = self.tasks.setdefault(f["task"], [])
        claims.append(f)
        if len(claims) > 1:
            self.lacks("once", index, [6, 14])
        times = [f["at"], self.jobs.get(f["job"], {}).get("at", f["at"])]
        in_force = [tariff and tariff[0] for tariff in map(self.tariff_at, times)]
        if f["tariff"] not in in_force:
            self.lacks("tariffs", index, [2, 6])
        tariff = dict(self.tariffs).get(f["tariff"])
        if tariff is None:
            self.lacks("rewards", index, [2])
            return
        work = {"fuel": f["fuel"] - f["audit_fuel"], "audit_fuel": f["audit_fuel"], "accepted": f["accepted"],
                "decided": f["decided"], "energy": f["energy"], "energy_method": "none" if f["method"] == 0 else "rapl",
                "probation": f["probation"]}
        f["settled"] = reward.reward(tariff, work, True), reward.reward(tariff, work, False), reward.price(tariff, work["fuel"], f["policy"])
        (compute, reliability, energy, _, held), _, price = f["settled"]
        more = self.erased.get(5, 0)
        record = device["accepted"] <= f["accepted"] <= device["accepted"] + more and f["decided"] <= device["next"] - 1 + more
        right = f["reward"] == [compute, reliability, energy, held] and f["charge"] == price[3] and record
        self.bad("rewards", index, not right)
        if price[3] > 0 or f["settled"][0][3] > 0:
            self.waiting.setdefault(f["job"], []).append(f)

    def caiient1(self, index, f, _):
        purpose = f["purpose"]
        if self.bad("entries", index, purpose in self.purposes):
            return
        self.purposes.add(purpose)
        expected, kinds = self.follows(purpose, f)
        if expected is None:
            self.lacks("entries", index, kinds)
        elif f["postings"] != [posting for posting in expected if posting[2] != 0]:
            self.lacks("entries", index, [2, 5, 6] if purpose[0] in (4, 7, 8) else [])
        change = {}
        for debit, credit, amount, kind in f["postings"]:
            self.bad("entries", index, amount <= 0 or debit == credit)
            change[debit] = change.get(debit, 0) - amount
            change[credit] = change.get(credit, 0) + amount
        free = any(kind != "reserve" for _, _, _, kind in f["postings"])
        fits = True
        for account, amount in change.items():
            after = self.balances.get(account, 0) + amount
            floor = {"treasury": None, "verification": None}.get(account[0], 0)
            if account[0] == "member" and not free:
                floor = None if self.limit == -1 else -self.limit
            if amount < 0 and floor is not None and after < floor:
                self.lacks("balances", index, [6])
                fits = False
        # An entry that takes what is not there moves nothing.
        for account, amount in change.items():
            self.balances[account] = self.balances.get(account, 0) + amount * fits
        self.follow(index, purpose, f)

    def follows(self, purpose, f):
        """The postings that follow from what is logged, or nothing and the kinds that could say more."""
        code, first = purpose[0], f["postings"][0]
        if code in (1, 2):
            return [(("treasury",), first[1] if first[1][0] == "member" else None, first[2], TRANSFERS[code - 1])], []
        if code == 3:
            return [(first[0] if first[0][0] == "member" else None, ("escrow", purpose[1]), first[2], "reserve")], []
        if code == 4:
            job = self.jobs.get(purpose[1])
            escrow = ("escrow", purpose[1])
            return job and [(escrow, job["requester"], self.balances.get(escrow, 0), "return")], [6]
        if code in (5, 6):
            claim = next((c for c in self.tasks.get(purpose[1], []) if c["device"] == purpose[2] and c["ok"]), None)
            if claim is None:
                return None, [5]
            if not claim["settled"]:
                return None, [2]
            (_, _, _, total, held), (_, _, _, own, _), (work, surcharge, fee, _) = claim["settled"]
            owner, escrow = self.devices[purpose[2]]["owner"], ("escrow", claim["job"])
            member, back = ("member", owner), ("held", owner)
            if code == 5:
                own_paid, own_held = reward.split(own, [total - held, held]) if own else (0, 0)
                audits_held = held - own_held
                audits_paid = total - own - audits_held
                verification = ("verification",)
                return [(escrow, member, own_paid, "reward"), (escrow, back, own_held, "holdback"),
                        (escrow, verification, surcharge, "surcharge"), (escrow, verification, work - own, "unearned"),
                        (escrow, ("fees",), fee, "fee"), (verification, member, audits_paid, "audit-reward"),
                        (verification, back, audits_held, "audit-holdback")], []
            if not self.devices[purpose[2]]["convicted"]:
                return None, [12]
            if claim["paid"] is None:
                return None, [6]
            job = self.jobs.get(claim["job"])
            to = first[1] if job and first[1] in (escrow, job["requester"]) and not (job["returned"] and first[1] == escrow) else None
            return [(("verification",), to, work, "refund"), (("verification",), to, surcharge, "refund"),
                    (("fees",), to, fee, "fee-refund")], []
        if code in (7, 8):
            device = self.devices.get(purpose[1])
            if device is None or device["convicted"] != (code == 8):
                return None, [12] if code == 8 else []
            if purpose[2] < device["released"]:
                return None, []
            held = device["held"]
            member, back = ("member", device["owner"]), ("held", device["owner"])
            if code == 7:
                return [(back, member, held, "release")], []
            clawed = max(0, min(device["paid_for_void"], self.balances.get(member, 0)))
            return [(back, ("verification",), held, "forfeit"), (member, ("verification",), clawed, "clawback")], []
        if code == 9:
            device, tariff = self.devices.get(purpose[1]), self.tariff_at(f["at"])
            if device is None or tariff is None or first[2] > reward.availability(tariff[1], 2**64 - 1):
                return None, []
            return [(("treasury",), ("member", device["owner"]), first[2], "availability")], []
        if code == 10:
            if purpose[2] != self.requests.get(purpose[1], 0) + 1:
                return None, [6]
            return [(("member", purpose[1]), ("payable", purpose[1]), first[2], "payout-request")], []
        amount = self.runs.get(purpose[1], {}).get(purpose[2])
        if amount is None:
            return None, [13]
        to = ("treasury",) if first[3] == "payout-done" else ("member", purpose[2])
        return [(("payable", purpose[2]), to, amount, "payout-done" if to == ("treasury",) else "payout-failed")], []

    def follow(self, index, purpose, f):
        code = purpose[0]
        if code == 3:
            self.jobs.setdefault(purpose[1], {"requester": f["postings"][0][0], "at": f["at"], "returned": False})
        elif code == 4:
            if purpose[1] in self.jobs:
                self.jobs[purpose[1]]["returned"] = True
            if self.balances.get(("escrow", purpose[1])):
                self.lacks("balances", index, [6])
            if self.pending.pop(purpose[1], {}):
                self.lacks("outcomes", index, [11, 14])
            for claim in self.waiting.pop(purpose[1], []):
                self.lacks("finality", claim["index_in_log"], [6, 14])
        elif code in (5, 6):
            claims = [c for c in self.tasks.get(purpose[1], []) if c["device"] == purpose[2]][:1]
            for claim in claims:
                device, total, held = self.devices[purpose[2]], 0, 0
                if claim["settled"]:
                    _, _, _, total, held = claim["settled"][0]
                if code == 5:
                    self.bad("convictions", index, device["convicted"])
                    if not self.final(claim):
                        self.lacks("finality", index, [5, 9, 10, 11])
                    claim["paid"] = device["releases"]
                    device["held"] += held
                else:
                    if claim["paid"] is not None:
                        device["paid_for_void"] += total - (held if claim["paid"] == device["releases"] else 0)
                    claim["voided"] = True
                    self.tasks[purpose[1]].remove(claim)
                self.stop_waiting(claim)
        elif code in (7, 8) and purpose[1] in self.devices:
            device = self.devices[purpose[1]]
            device["held"], device["released"] = 0, max(device["released"], purpose[2])
            if code == 7:
                device["releases"] += 1
            else:
                device["paid_for_void"] = 0
        elif code == 10:
            self.requests[purpose[1]] = purpose[2]
        elif code == 11:
            self.runs.get(purpose[1], {}).pop(purpose[2], None)

    def stop_waiting(self, claim):
        self.waiting[claim["job"]] = [c for c in self.waiting.get(claim["job"], []) if c is not claim]

    def final(self, claim):
        """Whether the claim may be paid, by what is logged so far."""
        drawn = claim["drawn"]
        if claim["wrong"] or claim["lied"]:
            return False
        if claim["policy"] == "quorum":
            return claim["agreements"] == claim["items"] * (claim["copies"] - 1) if drawn is not None else claim["audited"]
        if not claim["own"]:
            return claim["audited"]
        if drawn is None:
            return claim["policy"] == "spot"
        enough = claim["mark"] + claim["depth"] if claim["depth"] else 0
        since = self.survived.get((claim["device"], claim["workload"]), 0) >= enough
        return claim["survived"] == len(drawn) and (since or len(drawn) == claim["items"])

    def caiivoi1(self, index, f, _):
        claim = self.claims.get(f["claim"])
        if claim is None or not claim["ok"]:
            return self.lacks("finality", index, [5])
        if self.bad("finality", index, claim["voided"] or claim["paid"] is not None):
            return
        # 6 and 8 say that the device is guilty; the rest, 7 without a conviction too, is the pool's word.
        if f["reason"] in (6, 8) and not self.devices[claim["device"]]["convicted"]:
            self.lacks("convictions", index, [12])
        pending = self.pending.get(claim["job"], {})
        mine = [key for key in pending if key[:2] == f["claim"]]
        open_items = [key for key in mine if not pending[key]]
        for key in mine:
            del pending[key]
        if open_items:
            self.drawn[claim["device"], claim["workload"]] -= len(open_items)
            self.lacks("outcomes", index, [11])
        claim["voided"] = True
        self.tasks[claim["task"]].remove(claim)
        self.stop_waiting(claim)

    def caiisec1(self, index, f, _):
        self.bad("secrets", index, f["period"] != self.current + 1)
        self.bad("secrets", index, sum(not s["revealed"] for s in self.secrets.values()) > 7)
        self.secrets.setdefault(f["period"], {"commitment": f["value"], "revealed": False, "awaiting": {}, "draws": []})
        self.current = f["period"]

    def caiisrv1(self, index, f, _):
        secret = self.secrets.get(f["period"])
        if secret is None:
            return self.lacks("secrets", index, [7])
        wrong = secret["revealed"] or sha256(b"caii audit secret 1" + f["value"]) != secret["commitment"]
        if self.bad("secrets", index, wrong):
            return
        for at, follows in secret["draws"]:
            self.bad("draws", at, not follows(f["value"]))
        for at in secret["awaiting"].values():
            if 9 not in self.erased:
                self.bad("draws", at)
        secret.update(revealed=True, awaiting={}, draws=[])

    def count(self, index, device, workload, before, more):
        known = self.drawn.get((device, workload), 0)
        if before != known:
            self.lacks("draws", index, [5, 9, 10, 11])
        self.drawn[device, workload] = max(before, known) + more

    def keep(self, index, period, follows, claim):
        secret = self.secrets.get(period)
        if secret is None or secret["revealed"]:
            return self.lacks("draws", index, [7])
        waited = claim is not None and secret["awaiting"].pop(claim, None) is not None
        secret["draws"].append((index, follows))
        self.bad("draws", index, not waited and period != self.current)

    def caiidrw1(self, index, f, _):
        claim = self.claims.get(f["claim"])
        if claim is None or not open_claim(claim) or claim["drawn"] is not None:
            return self.lacks("draws", index, [5])
        items = f["items"]
        if self.bad("draws", index, items != sorted(set(items)) or any(item >= claim["items"] for item in items)):
            return
        self.count(index, claim["device"], claim["workload"], f["before"], len(items))
        depth = self.depths.setdefault(claim["job"], f["depth"])
        self.bad("draws", index, f["depth"] != depth or (claim["policy"] == "audit" and depth == 0))
        claim.update(drawn=set(items), mark=f["before"], depth=f["depth"], survived=0, agreements=0)
        self.pending.setdefault(claim["job"], {}).update({(*f["claim"], item): [] for item in items})
        if claim["policy"] == "quorum":
            self.bad("draws", index, len(items) != claim["items"])
            return
        self.keep(index, f["period"], lambda s: drawn_items(s, claim, f["before"], f["depth"]) == items, f["claim"])

    def caiidrm1(self, index, f, _):
        claims = [self.claims.get((f["device"], sequence)) for sequence in f["open"]]
        fits = lambda claim: claim and claim["job"] == f["job"] and open_claim(claim) and claim["drawn"] is not None
        known = list(filter(fits, claims))
        unknown = set(f["open"]) - {claim["sequence"] for claim in known}
        if unknown:
            self.lacks("draws", index, [5, 9])
        undrawn = [(c["sequence"], item) for c in known for item in range(c["items"]) if item not in c["drawn"]]
        there = set(undrawn)
        if self.bad("draws", index, not claims or any(i not in there and i[0] not in unknown for i in f["items"])):
            return
        if known:
            self.count(index, f["device"], known[0]["workload"], f["before"], len(f["items"]))
        for sequence, item in (drawn for drawn in f["items"] if drawn[0] not in unknown):
            self.claims[f["device"], sequence]["drawn"].add(item)
            self.pending.setdefault(f["job"], {})[f["device"], sequence, item] = []

        def follows(secret):
            data = b"caii audit more 1" + secret + struct.pack("<Q", f["job"]) + f["device"] + struct.pack("<Q", f["before"])
            places = subset(sha256(data), len(undrawn), len(f["items"]))
            return [undrawn[place] for place in places] == f["items"]

        if not unknown:
            self.keep(index, f["period"], follows, None)

    def caiiout1(self, index, f, _):
        auditor, of = f["auditor"], f["of"]
        by = self.claims.get(auditor) if auditor[1] != 0 else None
        owner = lambda device: self.devices.get(device, {}).get("owner")
        if auditor[1] != 0:
            first = self.claims.get((of, f["items"][0][0])) if f["items"] else None
            spot = first is not None and first["policy"] == "spot"
            if by is None or not by["ok"]:
                self.lacks("outcomes", index, [5])
            if self.bad("outcomes", index, auditor[0] == of or (owner(auditor[0]) == owner(of) and not spot)):
                return
            if by:
                by["audited"] = True
                by["lied"] |= any(finding in (4, 5) for _, _, finding in f["items"])
        for sequence, item, finding in f["items"]:
            claim = self.claims.get((of, sequence))
            pending = self.pending.get(claim["job"], {}) if claim else {}
            before = pending.get((of, sequence, item))
            if before is None:
                self.lacks("outcomes", index, [5, 9, 10])
                continue
            # In a quorum every copy gives an outcome, each by another owner's device.
            same_owner = auditor[1] != 0 and any(other and owner(other) == owner(auditor[0]) for other in before)
            if self.bad("outcomes", index, same_owner):
                continue
            first = not before
            before.append(auditor[0] if auditor[1] != 0 else None)
            if finding == 3 or len(before) >= (claim["copies"] - 1 if claim["policy"] == "quorum" else 1):
                del pending[of, sequence, item]
            if self.bad("outcomes", index, finding in (4, 5) and auditor[1] == 0):
                continue
            if finding in (1, 4):
                standing = of, claim["workload"]
                self.survived[standing] = self.survived.get(standing, 0) + first
                claim["survived"] += first
                claim["agreements"] += 1
            if finding == 3 and first:
                self.drawn[of, claim["workload"]] -= 1
                claim["drawn"].discard(item)
            if finding in (2, 5):
                claim["wrong"] = True
                self.evidence[(of, sequence), item, of] = index, False, (of, sequence)
            if finding in (4, 5):
                self.evidence[(of, sequence), item, auditor[0]] = index, True, auditor

    def caiicnv1(self, index, f, _):
        shown = self.evidence.get((f["evidence"], f["item"], f["device"]))
        if shown is None or shown[1] != bool(f["as_auditor"]):
            self.lacks("convictions", index, [5, 9, 10, 11])
        if f["device"] in self.devices:
            self.bad("convictions", index, self.devices[f["device"]]["convicted"])
            self.devices[f["device"]]["convicted"] = True

    def caiipay1(self, index, f, _):
        if self.bad("payouts", index, any(run >= f["run"] for run in self.runs)):
            return
        open_run = {}
        for account, amount in f["payments"]:
            twice = account in open_run or any(account in run for run in self.runs.values())
            due = self.balances.get(("payable", account), 0) // f["rate"]
            if twice or due != amount or amount == 0:
                self.lacks("payouts", index, [6])
            open_run[account] = amount * f["rate"]
        self.runs[f["run"]] = open_run

    def finish(self):
        for job, claims in self.waiting.items():
            returned = job in self.jobs and self.jobs[job]["returned"]
            for claim in claims:
                unpayable = claim["settled"][2][3] > 0 and self.balances.get(("escrow", job), 0) == 0
                if returned or unpayable or self.devices[claim["device"]]["convicted"]:
                    self.lacks("finality", claim["index_in_log"], [6, 14])
        for (_, _, who), (index, _, claim) in self.evidence.items():
            if not self.devices.get(who, {}).get("convicted"):
                self.lacks("convictions", index, [12])
            elif claim in self.claims and not self.claims[claim]["voided"]:
                self.lacks("convictions", index, [6, 14])
        if sum(self.balances.values()) != 0 and 6 not in self.erased:
            self.wrong["trial-balance"] = None


def open_claim(claim):
    return claim["ok"] and claim["paid"] is None and not claim["voided"]


def ms(text):
    import calendar
    import time
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", nargs="+")
    parser.add_argument("--key", action="append", default=[])
    args = parser.parse_args()
    left_out = ["stewards' signatures", "payout files", "tariff files"]
    red = False
    for directory in args.directory:
        audit = Audit(directory, args.key)
        audit.run()
        red = red or bool(audit.wrong)
        verdict, erased = "red" if audit.wrong else "green", sum(audit.erased.values())
        print(json.dumps({"verdict": verdict, "wrong": audit.wrong, "erased": erased, "left_out": left_out}))
    sys.exit(1 if red else 0)


if __name__ == "__main__":
    main()
