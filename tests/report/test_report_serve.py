"""The report of a running study, served to this machine."""

from __future__ import annotations

import http.client
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import torch

import zoosparse_ext as zs
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.report.serve import ReportServer
from zoosparse_ext.study import reporting


@pytest.fixture
def server(page):
    with ReportServer(page.parent, port=0) as server:
        yield server


def get(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:
        return answer.read()


def test_the_page_and_its_files_are_served(server, page):
    shown = get(server.url)
    assert shown.startswith(page.read_bytes()) and shown == get(server.url + "report.html")
    assert get(server.url + "tables/claims.csv") == (page.parent / "tables" / "claims.csv").read_bytes()
    with pytest.raises(HTTPError, match="404"):
        get(server.url + "../conftest.py")


def test_open_pages_learn_of_a_new_report(server):
    assert get(server.url + "state") == b"0"
    server.renew()
    assert get(server.url + "state") == b"1"


def test_only_this_machine_is_answered(server):
    assert server.server_address[0] == "127.0.0.1"
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", "/", headers={"Host": f"elsewhere.example:{server.server_port}"})
    assert connection.getresponse().status == 403
    connection.close()


def test_a_port_that_is_taken_or_none(server, page):
    for port in (server.server_port, 70_000):
        with pytest.raises(InputError, match="choose another with --port"):
            ReportServer(page.parent, port)


def test_a_browser_that_leaves_in_the_middle_is_no_error(server, capsys):
    for error, told in ((BrokenPipeError(), False), (ValueError("odd"), True)):
        try:
            raise error
        except Exception:
            server.handle_error(None, ("127.0.0.1", 1))
        assert ("Traceback" in capsys.readouterr().err) == told


def test_a_saved_stage_renews_the_report(tmp_path):
    def zoo(title: str) -> zs.Zoo:
        population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
        population.models["accuracy"] = torch.tensor([0.8, 0.9]).numpy()
        return zs.Zoo({"original": [population]}, models=population.models, provenance={"stage": title})

    path, folder = tmp_path / "zoo", tmp_path / "report"
    with pytest.raises(StoreError):
        next(reporting.serve(path, folder, "Live", port=0))
    first = zoo("originals only")
    first.save(path)
    live = reporting.serve(path, folder, "Live", port=0, every=0.01)
    url = next(live)
    assert b"originals only" in get(url)
    first.provenance = {"stage": "one stage further"}
    first.save(path)
    assert next(live) == url
    assert b"one stage further" in get(url) and get(url + "state") == b"1"
    live.close()
    with pytest.raises(OSError, match="refused"):
        get(url)
