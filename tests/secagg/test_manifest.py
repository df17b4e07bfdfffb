import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Manifest, Member, MisuseError, Mode, Terms
from secagg.errors import ManifestError
from secagg.manifest import Noise
from tests.federation import identity, manifest

MEMBERS = manifest().members


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"run_id": b"short"}, "run_id"),
        ({"study_digest": "S" * 32}, "study_digest"),
        ({"collusion": 0}, "at least 1"),
        ({"collusion": -1}, "collusion"),
        ({"minimum_roster": 2}, "forked histories"),
        ({"minimum_roster": 5}, "larger than the 4 members"),
        ({"collusion": 2, "minimum_roster": 3}, "forked histories"),
        ({"members": MEMBERS[:3], "collusion": 2, "minimum_roster": 3}, "fewer than 2 honest"),
        ({"minimum_roster": True}, "integer"),
        ({"roster_changes": -1}, "roster_changes"),
        ({"max_rounds": 0}, "max_rounds"),
        ({"max_rounds": 1 << 21}, "max_rounds"),
        ({"suite": "X25519-AES-128-CTR"}, "never negotiated"),
        ({"mode": "C"}, "mode"),
        ({"lane_bits": 13}, "lane_bits"),
        ({"noise": "some"}, "noise 'some' is none of distributed, local, none"),
        ({"noise": Noise.LOCAL, "collusion": 0}, "at least 1"),
        ({"noise": Noise.NONE}, "nobody may collude"),
        ({"noise": Noise.NONE, "collusion": 0, "roster_changes": 0}, "one fixed roster"),
        ({"noise": Noise.NONE, "collusion": 0, "minimum_roster": 4}, "4 roster changes"),
        (
            {"noise": Noise.NONE, "collusion": 0, "minimum_roster": 2, "roster_changes": 0, "members": MEMBERS[:2]},
            "3 or more",
        ),
        ({"members": MEMBERS[::-1]}, "ascending"),
        ({"members": (*MEMBERS, MEMBERS[3])}, "ascending"),
        ({"members": (*MEMBERS, Member(9, "Hospital 1", identity(9).public))}, "same name"),
        ({"members": (*MEMBERS, Member(9, "Other", identity(1).public))}, "same identity"),
    ],
)
def test_a_manifest_nobody_should_agree_to(change: Any, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        manifest(4, 1, **change)


@pytest.mark.parametrize(
    ("index", "name", "key"),
    [
        (0, "A", b"k" * 32),
        (256, "A", b"k" * 32),
        (True, "A", b"k" * 32),
        (1, "", b"k" * 32),
        (1, "a\nb", b"k" * 32),
        (1, "A", b"k" * 31),
    ],
)
def test_a_member_nobody_can_be(index: int, name: str, key: Any) -> None:
    with pytest.raises(ManifestError):
        Member(index, name, key)


@given(st.integers(3, 40), st.integers(1, 10), st.integers(1, 40))
def test_two_rosters_always_share_an_honest_site(n: int, c: int, smallest: Any) -> None:
    """Two forks need 2·(n_min − c) ≤ n − c honest sites."""
    members = tuple(Member(i, f"H{i}", bytes([i]) * 32) for i in range(1, n + 1))
    try:
        Manifest(b"R" * 32, b"S" * 32, members, c, smallest, 4, 100)
    except ManifestError:
        return
    assert 2 * (smallest - c) > n - c
    assert smallest - c >= 2


def test_the_digest_covers_every_field() -> None:
    base = manifest()
    changed = {
        "run_id": b"r" * 32,
        "study_digest": b"s" * 32,
        "members": (*base.members[:3], Member(4, "Hospital 4", identity(5).public)),
        "collusion": 1,
        "minimum_roster": 4,
        "roster_changes": 5,
        "max_rounds": 5001,
        "mode": Mode.B,
        "lane_bits": 32,
        "noise": Noise.LOCAL,
    }
    digests = {dataclasses.replace(base, **{name: value}).digest() for name, value in changed.items()}
    assert len(digests | {base.digest()}) == len(changed)  # collusion is unchanged here …
    other = manifest(5, 1), manifest(5, 2, minimum_roster=4)
    assert other[0].digest() != other[1].digest()  # … and changed here
    assert set(changed) | {"suite"} == {field.name for field in dataclasses.fields(Manifest)}


def test_whose_noise_is_counted_on() -> None:
    """A roster of four of five with one colluder; in mode B four of five survivors open a sum."""
    of = manifest(5, 1)
    assert of.honest(4) == 3
    assert dataclasses.replace(of, mode=Mode.B, minimum_roster=4).honest(5) == 3
    for mode in Mode:
        local = dataclasses.replace(of, mode=mode, minimum_roster=4, noise=Noise.LOCAL)
        assert [local.honest(size) for size in (4, 5)] == [1, 1]
    silent = manifest(5, 0, noise=Noise.NONE, minimum_roster=5, roster_changes=0)
    assert silent.honest(5) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"query": b"short"},
        {"length": 0},
        {"length": -1},
        {"honest": 1.5},
        {"total_bound": 1 << 47},
        {"steps": True},
        {"clamp": None},
    ],
)
def test_terms_out_of_range(change: Any) -> None:
    values = {
        "query": b"q" * 32,
        "length": 1,
        "share_variance": 1,
        "honest": 2,
        "steps": 1,
        "clamp": 1,
        "total_bound": 1,
    }
    Terms(**values)
    with pytest.raises(MisuseError):
        Terms(**(values | change))
