"""Owns the certificate in use: whether it serves the plan, when it is renewed, how another takes its place."""

from dataclasses import replace
from datetime import datetime

from gateway.acme import schedule
from gateway.acme.plan import AcmePlan
from gateway.acme.schedule import Step
from gateway.acme.state import AcmeState
from gateway.net.certificate import CertificateRefused, Pair, read_pair
from gateway.net.files import write_atomically
from gateway.net.tls import name_is_covered


def due_step(plan: AcmePlan, state: AcmeState, pair: Pair | None, now: datetime) -> Step:
    """What is due, for the pair in use (None = none that serves the plan)."""
    return schedule.next_step(
        state, plan_id=plan.id, usable=pair is not None, renew_at=renewal_time(state, pair), now=now
    )


def renewal_time(state: AcmeState, pair: Pair | None) -> datetime | None:
    """When the pair is to be renewed: as remembered, else by its own dates."""
    if pair is None:
        return None
    return state.renew_at or own_renewal_time(pair)


def own_renewal_time(pair: Pair) -> datetime:
    """When to renew the pair if the authority has no opinion."""
    leaf = pair.leaf
    return schedule.own_renewal_time(leaf.serial_number, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def usable_pair(plan: AcmePlan, now: datetime) -> Pair | None:
    """The pair in use, if it is good now for every name of the plan."""
    try:
        pair = read_pair(plan.live, plan.live, now=now)
    except CertificateRefused:
        return None
    return pair if all(name_is_covered(name, pair.names) for name in plan.names) else None


def install(plan: AcmePlan, pair: Pair, state: AcmeState, now: datetime) -> AcmeState:
    """Put a pair in use and remember when to renew it; every worker takes it up by itself."""
    write_atomically(plan.live, pair.pem, 0o600)
    done = schedule.succeeded(replace(state, plan_id=plan.id), now, own_renewal_time(pair))
    done.save(plan.folder)
    return done
