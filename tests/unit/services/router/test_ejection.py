"""Who is taken out of traffic and who is let back: the judges and the panic threshold, without a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from meshwork.router.v1 import router_pb2
from meshwork.xds.snapshot import ENDPOINTS
from services.router import contract
from services.router.ejection import PANIC_SHARE, admitted, overruled
from services.router.hung import SETTLE_S, HungJudge
from services.router.incremental import Planner
from services.router.planner import PlanSettings, plan
from services.router.slow import CONFIRM_S, MOST_PATIENCE_S, PATIENCE_S, TRIAL_S, SlowJudge, slow_ones

HUNG, SLOW = router_pb2.EJECTION_REASON_HUNG, router_pb2.EJECTION_REASON_SLOW
REASONS = [HUNG, SLOW, router_pb2.EJECTION_REASON_FAILING, router_pb2.EJECTION_REASON_UNREACHABLE, 0]


def replica(name: str, item_ms: float = 0.0, device: str = "cpu") -> router_pb2.Replica:
    return router_pb2.Replica(
        name=name,
        service="nlp",
        address=f"127.0.0.1:{1000 + int(name)}",
        state=router_pb2.REPLICA_STATE_READY,
        models=[
            router_pb2.Model(
                name="minilm",
                version="1",
                state=router_pb2.MODEL_STATE_READY,
                item_ms=item_ms,
                device=device,
                methods=["Embed"],
                default_methods=["Embed"],
            )
        ],
    )


def ejection(reason: router_pb2.EjectionReason.ValueType, seconds: int = 0) -> router_pb2.Ejection:
    made = router_pb2.Ejection(reason=reason)
    made.since.FromSeconds(seconds)
    return made


@given(
    count=some.integers(0, 12),
    reasons=some.dictionaries(some.integers(0, 14).map(str), some.sampled_from(REASONS)),
    share=some.sampled_from([0.0, 0.3, PANIC_SHARE, 0.9]),
)
def test_never_more_than_the_panic_share_is_out_and_none_but_ejected(
    count: int, reasons: dict[str, router_pb2.EjectionReason.ValueType], share: float
) -> None:
    members = [replica(str(number)) for number in range(count)]
    out = {name: ejection(reason) for name, reason in reasons.items()}
    left = [each.name for each in admitted(members, out, share)]
    gone = {each.name for each in members} - set(left)
    assert left == [each.name for each in members if each.name in left]
    assert gone <= out.keys()
    assert len(gone) == min(int(share * count), len(out.keys() & {each.name for each in members}))
    assert bool(left) == bool(members)


def test_the_worst_stay_out_and_the_others_are_overruled() -> None:
    members = [replica(str(number)) for number in range(4)]
    out = {
        "0": ejection(SLOW, 1),
        "1": ejection(HUNG, 9),
        "2": ejection(HUNG, 8),
        "3": ejection(REASONS[3]),
    }
    assert [each.name for each in admitted(members, out)] == ["0", "3"]
    assert overruled([members], out) == {"0", "3"}
    assert overruled([members], {"1": out["1"]}) == frozenset()
    assert overruled([members[:1]], out) == {"0"}  # a lone one


def test_an_ejected_replica_is_no_endpoint_and_a_lone_one_stays() -> None:
    settings = PlanSettings(services=contract.services(), routers=("127.0.0.1:9000",))

    def endpoints(*names: str, out: str) -> bytes:
        snapshot = plan([replica(name) for name in names], settings, ejected={out: ejection(HUNG)})
        return snapshot.resources(ENDPOINTS)["nlp/minilm@1"].body

    both = plan([replica("1"), replica("2")], settings).resources(ENDPOINTS)["nlp/minilm@1"].body
    alone = plan([replica("2")], settings).resources(ENDPOINTS)["nlp/minilm@1"].body
    assert endpoints("1", "2", out="1") == alone
    assert endpoints("1", "2", out="3") == both
    assert endpoints("2", out="2") == alone


def test_a_plan_that_is_kept_up_to_date_leaves_the_same_ones_out() -> None:
    settings = PlanSettings(services=contract.services(), routers=("127.0.0.1:9000",))
    replicas = {str(number): replica(str(number)) for number in range(5)}
    planner = Planner(settings)
    planner.update(replicas, replicas)
    before: dict[str, router_pb2.Ejection] = {}
    for out in ({"1": ejection(HUNG)}, {"1": ejection(SLOW), "2": ejection(HUNG), "4": ejection(SLOW)}, {}):
        kept = planner.update(before.keys() | out.keys(), replicas, ejected=out)
        assert kept.version == plan(replicas.values(), settings, ejected=out).version
        before = out


def test_a_replica_that_is_silent_hangs_until_it_renews() -> None:
    judge = HungJudge()
    judge.judge({"1": 2.3}, 4, 100)
    assert judge.hung == {"1": 2.3}
    judge.judge({"1": 2.6}, 3, 100.3)
    assert judge.hung == {"1": 2.6}
    judge.judge({}, 3, 100.6)
    assert judge.hung == {}


def test_when_most_are_late_it_is_not_they_who_hang() -> None:
    judge = HungJudge()
    judge.judge({"1": 3.0, "2": 3.0, "3": 3.0}, 4, 100)
    assert judge.hung == {}
    judge.judge({"1": 3.5}, 4, 100.5)  # the last of them to come back
    assert judge.hung == {}
    judge.judge({"1": 8.0}, 4, 100 + SETTLE_S)
    assert judge.hung == {"1": 8.0}


def test_one_who_could_not_see_ejects_nobody_for_a_while_and_lets_back_only_those_that_renew() -> None:
    judge = HungJudge()
    judge.judge({"1": 2.3, "2": 2.3}, 8, 100)
    judge.blind(101)
    judge.judge({"1": 9.0, "3": 5.0}, 8, 102)
    assert set(judge.hung) == {"1"}


@pytest.mark.parametrize(
    ("figures", "slow"),
    [
        ([10, 11, 90], {"2"}),
        ([10, 11, 79], set()),  # not eight times
        ([0.1, 0.1, 0.9], set()),  # nine times, and nothing to speak of
        ([10, 90], {"1"}),
        ([1, 15], set()),  # of two, the difference must be clear
        ([90], set()),
        ([0, 90], set()),  # nothing is known of the other
        ([10, 90, 91], set()),  # a fast one makes no peers slow
    ],
)
def test_a_replica_is_slow_beside_the_median_of_its_peers(figures: list[float], slow: set[str]) -> None:
    replicas = [replica(str(number), item_ms) for number, item_ms in enumerate(figures)]
    assert set(slow_ones(replicas, lambda _: 8)) == slow
    assert slow_ones(replicas, lambda _: 0) == {}


def test_other_devices_are_no_peers_and_the_evidence_is_given() -> None:
    assert (
        slow_ones([replica("0", 1, "cuda:0"), replica("1", 1, "cuda:1"), replica("2", 90)], lambda _: 8) == {}
    )
    found = slow_ones([replica("0", 9), replica("1", 9), replica("2", 98)], lambda _: 8)
    assert found == {"2": "98 ms an item of minilm@1 where its peers need 9"}


class Trial:
    """A slow judge and the time."""

    def __init__(self) -> None:
        self.judge = SlowJudge()
        self.now = 100.0

    def go_on(self, seconds: float, *slow: str) -> set[str]:
        for _ in range(int(seconds)):
            self.now += 1
            self.judge.judge(dict.fromkeys(slow, "98 ms"), ["1", "2"], self.now)
        return set(self.judge.slow)


def test_a_moment_of_slowness_ejects_nobody() -> None:
    trial = Trial()
    assert trial.go_on(CONFIRM_S, "1") == set()
    assert trial.go_on(1) == set()
    assert trial.go_on(CONFIRM_S, "1") == set()
    assert trial.go_on(1, "1") == {"1"}


def test_a_slow_replica_is_tried_again_and_each_failed_trial_doubles_its_time_out() -> None:
    trial = Trial()
    trial.go_on(CONFIRM_S + 1, "1")
    patience_s = PATIENCE_S
    for _ in range(8):
        assert trial.go_on(patience_s - 1, "1") == {"1"}
        assert trial.go_on(1, "1") == set()
        assert trial.go_on(TRIAL_S - 1, "1") == set()
        assert trial.go_on(1, "1") == {"1"}
        patience_s = min(2 * patience_s, MOST_PATIENCE_S)
    assert patience_s == MOST_PATIENCE_S


def test_one_that_stays_well_for_as_long_as_it_was_out_starts_afresh() -> None:
    trial = Trial()
    trial.go_on(CONFIRM_S + 1, "1")
    assert trial.go_on(PATIENCE_S, "1") == set()
    assert trial.judge.busy
    trial.go_on(PATIENCE_S)
    assert not trial.judge.busy


def test_another_judge_goes_on_from_what_was_ejected_and_forgets_who_has_gone() -> None:
    trial = Trial()
    trial.judge.adopt("1", "98 ms", 4.0, trial.now)
    trial.judge.adopt("9", "98 ms", 4.0, trial.now)
    assert trial.go_on(PATIENCE_S - 5) == {"1"}
    assert trial.go_on(1) == set()
