from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli import main
from tests.unit.cli.fake_daemon import fake_daemon


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--port", "0"], "--port"),
        (["--port", "65536"], "--port"),
        (["--port", "8765", "--redirect-uri", "http://127.0.0.1:8765/callback"], "leave --port out"),
        (["--redirect-uri", "https://app.example/callback"], "--paste"),
        (["--redirect-uri", "http://localhost:8765/callback"], "--paste"),
        (["--redirect-uri", "http://127.0.0.1:99999/callback"], "--paste"),
        (["--redirect-uri", "http://127.0.0.1:0/callback"], "--paste"),
        (["--redirect-uri", "http://127.0.0.1:08765/callback"], "--paste"),
        (["--redirect-uri", "http://a@127.0.0.1:8765/callback"], "--paste"),
        (["--redirect-uri", "http://127.0.0.1:8765"], "--paste"),
        (["--redirect-uri", "http://127.0.0.1:8765/callback?a=b"], "--paste"),
        (["--redirect-uri", "http://127.0.0.1:8765/callback#x"], "--paste"),
        (["--redirect-uri", "http://127.0.0.1:8765/start/x"], "--paste"),
        (["--redirect-uri", "http://127.0.0.1:8765/done"], "--paste"),
    ],
)
def test_what_cannot_be_listened_for_is_wrong_usage(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
):
    """Nobody is asked for anything."""
    code = main(["login", "ledger", "--socket", "/nowhere", *arguments])

    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert word in captured.err


@pytest.mark.parametrize("way", [[], ["--paste"]])
def test_a_daemon_that_refuses_is_quoted(tmp_path: Path, way: list[str], capsys: pytest.CaptureFixture[str]):
    """Before anybody opens a browser, and with what could be asked for."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["POST authorizations"] = (
            400,
            {"error": "invalid_request", "error_description": "not one of the client's", "hint": "one of: x"},
        )

        code = main(["login", "ledger", "--socket", str(fake.path), *way])

    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    assert captured.err == "not one of the client's [invalid_request]\n  one of: x\n"


def test_a_daemon_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]):
    """As every command does."""
    code = main(["login", "ledger", "--socket", "/nowhere"])

    assert (code, "[daemon_unreachable]" in capsys.readouterr().err) == (1, True)
