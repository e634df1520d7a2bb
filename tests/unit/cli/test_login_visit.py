from __future__ import annotations

import base64
import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from broker.cli.local_consents import Consented
from broker.cli.login_http import Answer, Form, Request
from broker.cli.login_pages import EXPIRED, USED_TWICE
from broker.cli.login_visit import MAX_HELD, Place, Visit
from broker.errors import BrokerError, LocalError

CONSENTED = Consented(grant="g", subject="alice", subject_verified=True, scope="openid accounts")
SERVER = "https://as.example/authorize?x"


@dataclass(slots=True)
class FakeSteps:
    """Steps that note what they were given."""

    result: Consented | BrokerError = CONSENTED
    url: str | BrokerError = SERVER
    finished: list[tuple[str, Form | None]] = field(default_factory=list)
    asked: int = 0
    begun: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.resume.set()

    def authorization_url(self) -> str:
        self.asked += 1
        if isinstance(self.url, BrokerError):
            raise self.url
        return self.url

    def is_of(self, state: str) -> bool:
        return state == "s"

    def finish(self, callback: str, form: Form | None) -> Consented:
        self.finished.append((callback, form))
        self.begun.set()
        self.resume.wait(5)
        if isinstance(self.result, BrokerError):
            raise self.result
        return self.result


def visit_of(steps: FakeSteps) -> Visit:
    numbers = itertools.count(1)
    return Visit(Place(token="ledger", port=4000, path="/callback"), steps, draw=lambda: f"random-{next(numbers)}")


def get(target: str, cookie: str | None = None) -> Request:
    fields = {} if cookie is None else {"cookie": (f"other=1; {cookie}",)}
    return Request(method="GET", target=target, fields=fields)


def post(form: Form | None, cookie: str | None = None, target: str = "/callback") -> Request:
    fields = {} if cookie is None else {"cookie": (cookie,)}
    return Request(method="POST", target=target, fields=fields, form=form)


def signed_response(claims: dict[str, Any]) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


def started(visit: Visit) -> str:
    """Open the link; give the cookie."""
    cookie = visit.answer(get(visit.start_path)).cookie
    assert cookie is not None
    return cookie


def way(answer: Answer) -> tuple[int, str | None]:
    return int(answer.status), answer.location


def test_the_link_leads_to_the_server_with_a_cookie():
    """The cookie is random, not the key, and of this port."""
    visit = visit_of(FakeSteps())

    answer = visit.answer(get(visit.start_path))

    assert (visit.start_path, way(answer)) == ("/start/random-1", (303, SERVER))
    assert answer.cookie == "token_broker_login_4000=random-2"


def test_a_login_ends_at_a_page_that_says_what_was_granted():
    """The callback is handed over as it came; the page stays the same when it is loaded again."""
    steps = FakeSteps()
    visit = visit_of(steps)
    cookie = started(visit)

    answer = visit.answer(get("/callback?code=c&state=s", cookie))
    pages = [visit.answer(get("/done", cookie)) for _ in range(2)]

    assert (way(answer), steps.finished) == ((303, "/done"), [("/callback?code=c&state=s", None)])
    assert (visit.outcome, visit.ended.is_set(), visit.shown.is_set()) == (CONSENTED, True, True)
    assert [page.status for page in pages] == [200, 200]
    assert b"accounts" in pages[0].page
    assert b"alice" not in pages[0].page


def test_a_login_that_fails_ends_at_a_page_that_says_so():
    """And not at the other one."""
    steps = FakeSteps(result=LocalError("daemon_unreachable", "said by nobody"))
    visit = visit_of(steps)
    cookie = started(visit)

    answer = visit.answer(get("/callback?error=access_denied&state=s", cookie))
    page = visit.answer(get("/failed", cookie))

    assert way(answer) == (303, "/failed")
    assert b"cannot be reached" in page.page
    assert b"said by nobody" not in page.page
    assert visit.answer(get("/done", cookie)).status == 400


def test_a_second_use_of_the_link_ends_the_login_for_both():
    """Whoever came first may have been somebody else: the cookie that they got is worth nothing any more."""
    steps = FakeSteps()
    visit = visit_of(steps)
    cookie = started(visit)

    second = visit.answer(get(visit.start_path))
    late = visit.answer(get("/callback?code=c&state=s", cookie))

    assert (second.status, second.cookie, b"opened twice" in second.page) == (409, None, True)
    assert (visit.outcome, steps.finished, steps.asked) == (USED_TWICE, [], 1)
    assert way(late) == (303, "/failed")


def test_a_link_that_is_used_again_while_its_login_is_redeemed_is_noticed():
    """What was handed over cannot be taken back; the person at the terminal is told."""
    steps = FakeSteps()
    steps.resume.clear()
    visit = visit_of(steps)
    cookie = started(visit)
    thread = threading.Thread(target=visit.answer, args=(get("/callback?code=c&state=s", cookie),))
    thread.start()
    assert steps.begun.wait(5)

    answer = visit.answer(get(visit.start_path))
    given_up = visit.give_up(EXPIRED)
    steps.resume.set()
    thread.join(5)

    assert (answer.status, visit.key_came_late, given_up) == (400, True, False)
    assert visit.outcome == CONSENTED


def test_a_reload_during_redemption_waits_for_the_same_end():
    """The code is handed over once."""
    steps = FakeSteps()
    steps.resume.clear()
    visit = visit_of(steps)
    cookie = started(visit)
    answers: list[Answer] = []

    def come() -> None:
        answers.append(visit.answer(get("/callback?code=c&state=s", cookie)))

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert steps.begun.wait(5)
    steps.resume.set()
    for thread in threads:
        thread.join(5)

    assert [way(answer) for answer in answers] == [(303, "/done")] * 2
    assert len(steps.finished) == 1


@pytest.mark.parametrize(
    "request_of",
    [
        lambda _cookie: get("/"),
        lambda _cookie: get("/favicon.ico"),
        lambda _cookie: get("/start/"),
        lambda _cookie: get("/start/wrong"),
        lambda _cookie: get("/start/\xe9"),
        lambda _cookie: post({"a": "b"}, target="/start/random-1"),
        lambda _cookie: get("/callback?code=c&state=s"),
        lambda _cookie: get("/callback?code=c&state=s", "token_broker_login_4000=wrong"),
        lambda _cookie: get("/callback?code=c&state=s", "token_broker_login_4001=random-2"),
        lambda cookie: get("/callback", cookie),
        lambda cookie: get("/callback?state=s", cookie),
        lambda cookie: get("/callback?error=x", cookie),
        lambda cookie: get("/callback?code=c", cookie),
        lambda cookie: get("/callback?code=c&state=", cookie),
        lambda cookie: get("/callback?error=x&state=another", cookie),
        lambda cookie: get("/callback?response=x", cookie),
        lambda cookie: get("/callback?response=a.b.c", cookie),
        lambda cookie: get("/callback?response=a.W10.c", cookie),
        lambda cookie: get(f"/callback?response={signed_response({'state': 'another'})}", cookie),
        lambda cookie: get(f"/callback?response={signed_response({'state': 7})}", cookie),
        lambda cookie: post({"code": "c"}, cookie),
        lambda cookie: post({"code": "c", "state": ["another", "third"]}, cookie),
        lambda cookie: post({"response": signed_response({})}, cookie),
        lambda cookie: get("/callback/?code=c", cookie),
        lambda cookie: post(None, cookie),
        lambda cookie: post({"state": "s"}, cookie),
        lambda cookie: get("/held/unknown", cookie),
        lambda cookie: get("/done", cookie),
        lambda cookie: get("/failed", cookie),
    ],
)
def test_what_does_not_belong_to_the_login_changes_nothing(request_of: Callable[[str], Request]):
    """It is answered 400, and the login goes on as before it."""
    steps = FakeSteps()
    visit = visit_of(steps)
    cookie = started(visit)

    answer = visit.answer(request_of(cookie))

    assert (answer.status, answer.location, answer.cookie) == (400, None, None)
    assert (steps.finished, visit.outcome, visit.shown.is_set()) == ([], None, False)
    assert way(visit.answer(get("/callback?code=c&state=s", cookie))) == (303, "/done")


def test_a_callback_before_the_link_was_opened_changes_nothing():
    """There is no cookie yet that it could have."""
    steps = FakeSteps()
    visit = visit_of(steps)

    answer = visit.answer(get("/callback?code=c&state=s", "token_broker_login_4000="))

    assert (answer.status, steps.finished) == (400, [])


def test_a_form_comes_again_with_the_cookie():
    """The POST of another site has no cookies that are SameSite=Lax; the GET after it has."""
    steps = FakeSteps()
    visit = visit_of(steps)
    cookie = started(visit)

    posted = visit.answer(post({"code": "c", "state": "s"}))
    without = visit.answer(get(str(posted.location)))
    again = visit.answer(post({"code": "d", "state": "s"}))
    answer = visit.answer(get(str(again.location), cookie))

    assert posted.status == 303
    assert without.status == 400
    assert (way(answer), steps.finished) == ((303, "/done"), [("/callback", {"code": "d", "state": "s"})])
    assert visit.answer(get(str(again.location), cookie)).status == 400


def test_of_too_many_forms_the_first_is_kept():
    """Neither can they fill the memory, nor does whoever comes after the person take their place."""
    visit = visit_of(FakeSteps())
    cookie = started(visit)

    places = [visit.answer(post({"code": str(n), "state": "s"})).location for n in range(MAX_HELD + 1)]

    assert visit.answer(get(str(places[MAX_HELD - 1]), cookie)).status == 400
    assert way(visit.answer(get(str(places[0]), cookie))) == (303, "/done")


@pytest.mark.parametrize("posted", [False, True])
def test_a_signed_response_has_its_state_inside(posted: bool):
    """JARM: whether it is signed at all, the daemon finds out."""
    steps = FakeSteps()
    visit = visit_of(steps)
    cookie = started(visit)
    response = signed_response({"state": "s", "code": "c"})

    if posted:
        answer = visit.answer(get(str(visit.answer(post({"response": response})).location), cookie))
    else:
        answer = visit.answer(get(f"/callback?response={response}", cookie))

    assert way(answer) == (303, "/done")
    assert len(steps.finished) == 1


def test_a_server_that_cannot_be_asked_any_more_ends_the_login():
    """The request has to be made anew when the link is opened late; that can fail."""
    visit = visit_of(FakeSteps(url=LocalError("daemon_unreachable", "nobody listens")))

    answer = visit.answer(get(visit.start_path))

    assert (answer.status, answer.cookie, visit.ended.is_set(), visit.shown.is_set()) == (409, None, True, True)
    assert isinstance(visit.outcome, LocalError)


def test_a_login_that_is_given_up_stays_so():
    """Whatever the browser does then."""
    steps = FakeSteps()
    visit = visit_of(steps)
    cookie = started(visit)

    given_up = visit.give_up(EXPIRED)

    assert (given_up, visit.outcome) == (True, EXPIRED)
    assert way(visit.answer(get("/callback?code=c&state=s", cookie))) == (303, "/failed")
    assert (steps.finished, visit.outcome) == ([], EXPIRED)
