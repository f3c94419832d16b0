#!/usr/bin/env python3
"""Rewards, prices, receipts and their digests once more, written from the documents alone, to compare with.

Reads one JSON object a line and writes one line of text for each; plain Python 3.11, standard library. It follows
docs/money.md and the layouts in crates/model (tariff.rs, receipt.rs), and shares no code with what it checks.
"""

import hashlib
import json
import sys
from fractions import Fraction
from math import ceil, floor

AMOUNT_MAX = 2**63 - 1
COUNT_MAX = 2**64 - 1

RECEIPT_POLICY = {"audit": 1, "quorum": 2, "spot": 3}
ENERGY_METHOD = {"none": 0, "rapl": 1, "emi": 2, "tdp": 3, "model": 4}
VOID_REASON = {
    "late": 1, "job-ended": 2, "lease": 3, "malformed": 4, "meter": 5, "wrong": 6, "outvoted": 7, "distrusted": 8,
    "quarantined": 9,
    "undecided": 10,
}


class Overflow(Exception):
    """A step's result does not fit; its argument is the step's name."""


def fits(step, value, largest=AMOUNT_MAX):
    if value > largest:
        raise Overflow(step)
    return value


def split(total, weights):
    """By largest remainder; among equal remainders the earlier part."""
    whole = sum(weights)
    exact = [Fraction(total * weight, whole) for weight in weights]
    parts = [floor(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda place: (parts[place] - exact[place], place))
    for place in order[: total - sum(parts)]:
        parts[place] += 1
    return parts


def reward(tariff, work, audits):
    """(compute, reliability, energy, total, held) of the requester's fuel and, if asked, of that of audits."""
    fuel = fits("fuel", work["fuel"] + (work["audit_fuel"] if audits else 0), COUNT_MAX)
    compute = fits("compute", floor(Fraction(fuel * tariff["compute_rate"], 10**9)))
    share = floor(Fraction(work["accepted"] * 10**6, work["decided"])) if work["decided"] else 0
    start = tariff["reliability_share_floor"]
    bonus = floor(Fraction(tariff["reliability_bonus"] * max(0, share - start), 10**6 - start))
    reliability = fits("reliability", floor(Fraction(compute * bonus, 10**6)))
    certified = fits("certified energy", floor(Fraction(fuel * tariff["energy_certified_joules"] * 1000, 10**9)), COUNT_MAX)
    reported = 0 if work["energy_method"] == "none" else work["energy"]
    energy = fits("energy", floor(Fraction(min(reported, certified) * tariff["energy_rate"], 10**6)))
    total = fits("reward", compute + reliability + energy)
    holdback = tariff["probation_holdback"] if work["probation"] else 0
    _, held = split(total, [10**6 - holdback, holdback])
    return compute, reliability, energy, total, held


def price(tariff, fuel, policy):
    """(part for work, for verification, for the pool, total)."""
    compute = fits("price of compute", ceil(Fraction(fuel * tariff["compute_rate"], 10**9)))
    reliability = fits("price of reliability", ceil(Fraction(compute * tariff["reliability_bonus"], 10**6)))
    certified = fits("charged energy", ceil(Fraction(fuel * tariff["energy_certified_joules"] * 1000, 10**9)), COUNT_MAX)
    energy = fits("price of energy", ceil(Fraction(certified * tariff["energy_rate"], 10**6)))
    work = fits("price of work", compute + reliability + energy)
    surcharge = 0 if policy == "quorum" else tariff["verification_surcharge"]
    weights = [10**6, surcharge, tariff["pool_fee"]]
    total = fits("price", ceil(Fraction(work * sum(weights), 10**6)))
    return (*split(total, weights), total)


def availability(tariff, present):
    paid = min(present, tariff["availability_daily_max"])
    return fits("availability", floor(Fraction(paid * tariff["availability_rate"], 3_600_000)))


def u(width, value):
    return value.to_bytes(width, "little")


def tariff_bytes(tariff):
    return (
        b"caiitrf1"
        + u(4, tariff["number"])
        + u(8, tariff["effective_from"])
        + tariff["compute_rate"].to_bytes(8, "little", signed=True)
        + u(4, tariff["reliability_bonus"])
        + u(4, tariff["reliability_share_floor"])
        + tariff["availability_rate"].to_bytes(8, "little", signed=True)
        + u(8, tariff["availability_daily_max"])
        + tariff["energy_rate"].to_bytes(8, "little", signed=True)
        + u(8, tariff["energy_certified_joules"])
        + u(4, tariff["verification_surcharge"])
        + u(4, tariff["pool_fee"])
        + u(4, tariff["probation_holdback"])
    )


def claim_bytes(claim, work):
    return (
        b"caiiclm1"
        + bytes.fromhex(claim["pool"])
        + bytes.fromhex(claim["device"])
        + u(8, claim["sequence"])
        + u(8, claim["job"])
        + u(4, claim["index"])
        + b"".join(bytes.fromhex(claim[name]) for name in ("workload", "meter", "input", "root"))
        + u(4, claim["items"])
        + u(4, claim["items_failed"])
        + u(8, work["fuel"] + work["audit_fuel"])
        + u(8, claim["cpu"])
        + u(8, claim["wall"])
        + u(8, work["energy"])
        + u(1, ENERGY_METHOD[work["energy_method"]])
        + bytes.fromhex(claim["jail"])
    )


def receipt_bytes(case, earned, charge):
    """Accepted with these amounts, or void if there are none."""
    claim, work, owner = case["claim"], case["work"], case["owner"].encode()
    head = (
        b"caiircp1"
        + claim_bytes(claim, work)
        + bytes.fromhex(claim["signature"])
        + u(2, len(owner)) + owner
        + u(1, RECEIPT_POLICY[case["policy"]])
        + u(4, case["copies"])
        + hashlib.sha256(tariff_bytes(case["tariff"])).digest()
        + u(8, case["at"])
    )
    if case["void"] is not None:
        return head + u(1, 2) + u(1, VOID_REASON[case["void"]])
    compute, reliability, energy, _, held = earned
    amounts = [work["audit_fuel"], compute, reliability, energy, held, charge]
    return (
        head + u(1, 1) + u(8, work["accepted"]) + u(8, work["decided"]) + u(1, int(work["probation"]))
        + b"".join(u(8, amount) for amount in amounts)
    )


def answer(case):
    tariff, work = case["tariff"], case["work"]

    def told(compute):
        try:
            value = compute()
            return value, " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        except Overflow as overflow:
            return None, f"overflow in {overflow}"

    earned, earned_text = told(lambda: reward(tariff, work, True))
    cost, cost_text = told(lambda: price(tariff, work["fuel"], case["policy"]))
    _, present_text = told(lambda: availability(tariff, case["present"]))
    parts = [earned_text, cost_text, present_text]
    if earned is not None and cost is not None:
        own = reward(tariff, work, False)[3]
        parts.append(f"{own} {earned[3] - own} {cost[0] - own}")
    parts.append(hashlib.sha256(tariff_bytes(tariff)).hexdigest())
    if case["void"] is not None or (earned is not None and cost is not None):
        receipt = receipt_bytes(case, earned, cost and cost[3])
        parts.append(f"{len(receipt)} {hashlib.sha256(receipt).hexdigest()}")
    return " | ".join(parts)


def main():
    for line in sys.stdin:
        print(answer(json.loads(line)))


if __name__ == "__main__":
    main()
