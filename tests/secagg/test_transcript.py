"""A recorded session, refusals included: a change of any label, encoding or order shows here."""

from typing import Any

import numpy as np
import pytest

from secagg import PROTOCOL_VERSION, PeerError
from secagg.messages import Bundles, decode, encode
from tests.secagg.record_transcript import FILE, STUDY, client, session, terms
from tests.secagg.vectors import load

RECORD = load(FILE.name)


def message(record: Any) -> object:
    return decode(bytes.fromhex(record))


def replay() -> Any:
    """Clients after every recorded event, each answer compared."""
    clients = {member: client(member) for member in (1, 2, 3)}
    for event in RECORD["events"]:
        member, received = event["member"], message(event["message"])
        match event["call"]:
            case "receive":
                if "snapshot" in event:  # it encapsulated: take the state from the record
                    clients[member] = client(member, bytes.fromhex(event["snapshot"]))
                else:
                    answers = clients[member].receive(received)
                    assert [encode(answer).hex() for answer in answers] == event["answers"]
            case "upload":
                context = clients[member].open(received, terms(clients[member].sums))
                assert context.digest.hex() == event["context"]
                upload = clients[member].upload(context, np.array(event["values"], dtype=np.int64))
                assert [encode(upload).hex()] == event["answers"]
            case "accept":
                values = clients[member].accept(received, terms(clients[member].sums))
                assert values.tolist() == event["values"]
                assert clients[member].transcript.hex() == event["transcript"]
    return clients


def test_the_recorded_session() -> None:
    assert RECORD["protocol"] == PROTOCOL_VERSION
    assert session().digest().hex() == RECORD["manifest"]
    bundles = message(RECORD["bundles"])
    assert isinstance(bundles, Bundles)
    for bundle in bundles.bundles:
        assert client(bundle.member).begin() == [bundle]
    clients = replay()
    assert all(each.ready and each.sums == 1 for each in clients.values())


def test_the_sum_in_the_record_is_the_plain_sum() -> None:
    uploads = [event for event in RECORD["events"] if event["call"] == "upload"][:3]
    accepted = next(event for event in RECORD["events"] if event["call"] == "accept")
    assert [sum(column) for column in zip(*(each["values"] for each in uploads), strict=True)] == accepted["values"]


@pytest.mark.parametrize("case", RECORD["refusals"], ids=lambda case: case["why"].replace(" ", "_"))
def test_the_recorded_refusals(case: dict[str, Any]) -> None:
    received = message(case["message"])
    each = replay()[1]
    call = each.open if case["call"] == "open" else each.accept
    with pytest.raises(PeerError) as refusal:
        call(received, STUDY.terms(1, len(received.roster), 1))
    assert refusal.value.code == case["code"]
    assert not each.ready
