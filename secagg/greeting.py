"""The server's check of a Hello."""

from secagg.errors import UnexpectedMessage
from secagg.keys import PROTOCOL_VERSION, Purpose, verify
from secagg.manifest import Manifest
from secagg.messages import Hello

__all__ = ["check_hello"]


def check_hello(manifest: Manifest, hello: Hello, sums: int, last_round: int) -> None:
    """Accept only the hello of a member of this run that is not ahead of the server.

    Args:
        manifest: of the run.
        hello: as received.
        sums: how many sums the server has.
        last_round: the largest round number it has issued.

    Raises:
        UnexpectedMessage: of another run, not from a member, or with sums or rounds that never were.
        BadSignature: not signed by the member's pinned identity.
    """
    who = f"member {manifest.call(hello.member)}"
    if hello.run_id != manifest.run_id or hello.member not in manifest.indices:
        raise UnexpectedMessage(f"the hello of {who} is for another run or not from a member")
    where = (hello.nonce, hello.last_round, hello.sums, hello.transcript)
    signed = (PROTOCOL_VERSION, manifest.suite, manifest.run_id, manifest.digest(), hello.member, *where)
    verify(manifest.member(hello.member).identity, hello.signature, who, Purpose.HELLO, *signed)
    # Numbers are stored before they are sent, so nobody honest can be past ours; a member whose word were taken for
    # more could use up the numbers of a study.
    if hello.sums > sums or hello.last_round > last_round:
        raise UnexpectedMessage(
            f"{who} has {hello.sums} sums and is past round {hello.last_round}; the coordinator has "
            f"{sums} sums and is at round {last_round}: its store is older than the run"
        )
