"""The life of a token file: what is in it, when it is replaced, and when it is gone."""

from __future__ import annotations

import asyncio
import errno

from broker.errors import LocalError
from broker.events import (
    AuditUnavailableError,
    SinkFileRemoved,
    SinkHookEnded,
    SinkHookFailed,
    SinkWriteFailed,
    SinkWritten,
    TokenFiled,
    UnexpectedFailure,
)
from broker.sinks.files import Mark
from broker.sinks.hook import Ended, Outcome
from broker.sinks.keeper import LOOK
from broker.sinks.spec import Format
from broker.tokens.serving import ConsentRequiredError
from tests.fakes import WALL_AT_BOOT
from tests.unit.api.world import unavailable
from tests.unit.sinks.world import HOOK, PATH, World, running, sink, token, world

FULL = OSError(errno.ENOSPC, "no space")


def removals(here: World) -> list[str]:
    return [event.reason for event in here.events.of(SinkFileRemoved)]


async def test_a_token_is_written_after_its_record() -> None:
    """The record is an issuance: to whom, which token, and until when."""
    here = world(token("first"))

    async with running(here.keeper(sink())):
        pass

    kinds = [type(event) for event in here.events.seen]
    assert kinds == [TokenFiled, SinkWritten]
    (record,) = here.events.of(TokenFiled)
    assert (record.sink, record.token, record.path, record.fingerprint) == (
        "app",
        "directory",
        str(PATH),
        "a-fingerprint",
    )
    assert record.expires_at == here.events.of(SinkWritten)[0].expires_at == WALL_AT_BOOT + 1_300
    assert here.content == b"the-access-token"
    assert here.files.files[PATH][1] == Mark(
        token="directory", written_at=int(WALL_AT_BOOT + 1_000), ends_at=int(WALL_AT_BOOT + 1_300)
    )


async def test_a_file_stays_when_its_keeper_stops() -> None:
    """A restart disturbs no program."""
    here = world()

    async with running(here.keeper(sink())):
        pass

    assert here.content is not None
    assert removals(here) == []


async def test_the_same_token_is_written_once() -> None:
    """However often it is looked at, and whatever else there is news of."""
    here = world(token(lifetime=300))

    async with running(here.keeper(sink())):
        for _ in range(60):
            here.tokens.tell()
            await asyncio.sleep(1)

    assert here.files.writes == 1


async def test_a_sink_is_a_standing_user_of_its_token() -> None:
    """Who watches keeps a token on demand fresh."""
    here = world()

    async with running(here.keeper(sink())):
        watched = here.tokens.watched

    assert watched == 1
    assert here.tokens.watched == 0


async def test_the_next_token_is_there_at_once() -> None:
    """Not at the next look."""
    here = world(token("first"))

    async with running(here.keeper(sink())):
        here.give(token("second"))
        await asyncio.sleep(LOOK / 100)
        writes = here.files.writes

    assert writes == 2


async def test_a_token_leaves_the_file_before_its_end() -> None:
    """The server is down: nobody reads a token that he could not use any more."""
    here = world(token(lifetime=300))

    async with running(here.keeper(sink())):
        await asyncio.sleep(294)
        there = here.content
        await asyncio.sleep(1.1)
        gone = here.content

    assert there is not None
    assert gone is None
    assert removals(here) == ["expired"]


async def test_a_token_that_is_short_lived_stays_until_its_last_tenth() -> None:
    """It is refreshed when half of it is left: five seconds before its end would be too soon."""
    here = world(token(lifetime=10))

    async with running(here.keeper(sink())):
        await asyncio.sleep(8.8)
        there = here.content
        await asyncio.sleep(0.3)
        gone = here.content

    assert there is not None
    assert gone is None


async def test_a_token_that_is_not_served_any_more_is_not_in_the_file() -> None:
    """A narrower configuration, a key that was compromised."""
    here = world()

    async with running(here.keeper(sink())):
        here.give(unavailable())
        await asyncio.sleep(LOOK / 100)
        gone = here.content
        here.give(token("second"))
        await asyncio.sleep(LOOK / 100)

    assert gone is None
    assert removals(here) == ["withdrawn"]
    assert here.content is not None


async def test_a_grant_that_ended_takes_the_file_with_it() -> None:
    """And a new consent brings it back."""
    here = world()

    async with running(here.keeper(sink())):
        here.give(ConsentRequiredError("revoked"))
        await asyncio.sleep(LOOK / 100)
        gone = here.content
        here.tokens.answers["directory"] = token("second")
        await asyncio.sleep(2 * LOOK)

    assert gone is None
    assert removals(here) == ["consent_required"]
    assert here.content is not None


async def test_nothing_is_written_without_its_record() -> None:
    """It is tried again, and written when the audit log takes it."""
    here = world()
    here.unrecorded = AuditUnavailableError()

    async with running(here.keeper(sink())):
        await asyncio.sleep(3)
        unwritten = here.files.writes
        here.unrecorded = None
        await asyncio.sleep(60)

    assert unwritten == 0
    assert {event.reason for event in here.events.of(SinkWriteFailed)} == {"audit_unavailable"}
    assert here.files.writes == 1


async def test_a_full_disk_leaves_the_old_file_while_it_is_good() -> None:
    """Tried again on backoff: a second at first, a minute at most."""
    here = world(token("first", lifetime=300))

    async with running(here.keeper(sink())):
        here.files.refused = FULL
        await asyncio.sleep(225)
        here.give(token("second", lifetime=300))
        await asyncio.sleep(60)
        there = here.content
        await asyncio.sleep(20)
        gone = here.content
        await asyncio.sleep(60)
        here.files.refused = None
        await asyncio.sleep(61)

    failures = here.events.of(SinkWriteFailed)
    assert failures[0].reason == "enospc"
    assert failures[0].serving
    assert not failures[-1].serving
    assert len(failures) < 15
    assert all(1.0 <= event.retry_in <= 60.0 for event in failures)
    assert there is not None
    assert gone is None
    assert removals(here) == ["expired"]
    assert here.content is not None


async def test_a_failure_after_a_success_is_the_first_again() -> None:
    """Tried again soon."""
    here = world(token("first"))

    async with running(here.keeper(sink())):
        for etag in ("second", "third"):
            here.files.refused = FULL
            here.give(token(etag))
            await asyncio.sleep(0.1)
            here.files.refused = None
            await asyncio.sleep(5)

    assert [event.retry_in for event in here.events.of(SinkWriteFailed)] == [1.5, 1.5]
    assert here.files.writes == 3


async def test_a_place_that_has_become_unsafe_is_said_by_its_code() -> None:
    """Somebody changed the directory while we ran."""
    here = world()
    here.files.refused = LocalError("sink_directory_unsafe", "it is open")

    async with running(here.keeper(sink())):
        pass

    assert [event.reason for event in here.events.of(SinkWriteFailed)] == ["sink_directory_unsafe"]


async def test_a_file_that_cannot_be_removed_is_tried_again() -> None:
    """As long as it takes, and not in a circle."""
    here = world()
    here.files.irremovable = OSError(errno.EROFS, "read-only")

    async with running(here.keeper(sink())):
        here.give(unavailable())
        await asyncio.sleep(30)
        tries = len(here.events.of(SinkWriteFailed))
        here.files.irremovable = None
        await asyncio.sleep(61)

    assert 1 < tries < 12
    assert removals(here) == ["withdrawn"]


async def test_a_file_that_somebody_removed_is_written_again() -> None:
    """At the next look."""
    here = world()

    async with running(here.keeper(sink())):
        here.files.files.clear()
        await asyncio.sleep(1.1 * LOOK)

    assert here.files.writes == 2
    assert here.content is not None


async def test_a_clock_that_was_set_corrects_the_end_in_the_file() -> None:
    """The token is the same, its end in Unix seconds is not."""
    here = world(token("first"))

    async with running(here.keeper(sink(format=Format.JSON))):
        first = here.tokens.answers["directory"]
        assert not isinstance(first, Exception)
        here.clock.wall_offset = 3_600.0
        later = type(first)(
            token=first.token, expires_in=first.expires_in, expires_at=first.expires_at + 3_600, stale=False
        )
        here.give(later)
        await asyncio.sleep(0.1)

    assert here.files.writes == 2
    assert here.content is not None
    assert str(int(WALL_AT_BOOT + 4_900)).encode() in here.content


async def test_what_an_earlier_run_left_stays_while_it_is_good() -> None:
    """The server is down at a start: the program goes on with what it has, until that ends."""
    here = world(unavailable())
    wall = int(here.clock.wall())
    here.files.files[PATH] = (b"old", Mark(token="directory", written_at=wall - 10, ends_at=wall + 100), 7)

    async with running(here.keeper(sink())):
        await asyncio.sleep(94)
        there = here.content
        await asyncio.sleep(2)
        gone = here.content

    assert there == b"old"
    assert gone is None
    assert removals(here) == ["expired"]


async def test_what_an_earlier_run_left_is_replaced_by_the_first_token() -> None:
    """Without a moment in which there is none."""
    here = world(token())
    wall = int(here.clock.wall())
    here.files.files[PATH] = (b"old", Mark(token="directory", written_at=wall - 10, ends_at=wall + 100), 7)

    async with running(here.keeper(sink())):
        pass

    assert here.content == b"the-access-token"
    assert removals(here) == []


async def test_what_is_short_lived_is_taken_over_until_its_last_tenth() -> None:
    """As the run that wrote it would have kept it."""
    here = world(unavailable())
    wall = int(here.clock.wall())
    here.files.files[PATH] = (b"old", Mark(token="directory", written_at=wall - 16, ends_at=wall + 4), 7)

    async with running(here.keeper(sink())):
        await asyncio.sleep(1.8)
        there = here.content
        await asyncio.sleep(0.4)
        gone = here.content

    assert there == b"old"
    assert gone is None


async def test_an_old_file_that_is_not_known_to_be_good_is_removed() -> None:
    """It says nothing of itself, has ended, is another token's, or is from the future of a clock that was set back."""
    wall = int(world().clock.wall())
    for mark in (
        None,
        Mark(token="directory", written_at=wall - 100, ends_at=wall + 1),
        Mark(token="other", written_at=wall - 10, ends_at=wall + 100),
        Mark(token="directory", written_at=wall + 50, ends_at=wall + 100),
    ):
        here = world(unavailable())
        here.files.files[PATH] = (b"old", mark, 7)
        async with running(here.keeper(sink())):
            pass

        assert here.content is None, mark
        assert removals(here) == ["outdated"], mark


async def test_what_a_keeper_left_in_the_same_file_is_not_written_again() -> None:
    """Another hook is no reason to."""
    here = world()
    first = here.keeper(sink())
    async with running(first):
        pass

    async with running(here.keeper(sink(hook=HOOK), first.held)):
        await asyncio.sleep(5)

    assert here.files.writes == 1
    assert here.runs == []


async def test_a_file_that_is_not_configured_any_more_is_removed() -> None:
    """And the event says why."""
    here = world()
    keeper = here.keeper(sink())
    async with running(keeper):
        pass

    await keeper.discard()

    assert here.content is None
    assert removals(here) == ["unconfigured"]


async def test_the_hook_is_run_after_each_token_one_at_a_time() -> None:
    """What is written meanwhile is told of by one more run."""
    here = world(token("first"))
    here.hook_takes = 5.0

    async with running(here.keeper(sink(hook=HOOK))):
        for etag in ("second", "third", "fourth"):
            here.give(token(etag))
            await asyncio.sleep(0.5)
        await asyncio.sleep(30)

    assert here.files.writes == 4
    assert len(here.runs) == 2
    assert [event.duration for event in here.events.of(SinkHookEnded)] == [5.0, 5.0]


async def test_a_hook_that_failed_is_told_and_run_again_after_the_next_token() -> None:
    """Not before."""
    here = world(token("first"))
    here.hook_ends = Ended(outcome=Outcome.EXIT, status=7)

    async with running(here.keeper(sink(hook=HOOK))):
        await asyncio.sleep(60)
        runs = len(here.runs)
        here.give(token("second"))
        await asyncio.sleep(1)

    failed = here.events.of(SinkHookFailed)
    assert runs == 1
    assert len(here.runs) == 2
    assert [(event.reason, event.status) for event in failed] == [("exit", 7)] * 2


async def test_no_hook_runs_on_when_the_keeper_stops() -> None:
    """It is cancelled with it."""
    here = world()
    here.hook_takes = 1_000.0

    async with running(here.keeper(sink(hook=HOOK))):
        begun = here.running

    assert begun == 1
    assert here.running == 0


async def test_a_bug_is_reported_and_the_file_kept_on() -> None:
    """It must not stop the daemon."""
    here = world()
    here.files.refused = ZeroDivisionError()

    async with running(here.keeper(sink())):
        here.files.refused = None
        await asyncio.sleep(2 * LOOK)

    assert [event.where for event in here.events.of(UnexpectedFailure)] == ["sink"]
    assert here.content is not None


async def test_a_token_that_a_reload_has_dropped_is_waited_out() -> None:
    """The reload replaces the keeper, too."""
    here = world()

    async with running(here.keeper(sink())):
        here.give(KeyError("directory"))
        await asyncio.sleep(1)

    assert here.events.of(UnexpectedFailure) == []
    assert here.content is not None
