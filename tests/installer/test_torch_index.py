import http.server
import threading
from collections.abc import Iterator

import pytest

from installer.torch_index import IndexUnreachableError, Target, newest_version, read_index

RANGE = ">=2.9,<2.14"
LINUX = Target(python_tag="cp311", system="Linux", machine="x86_64")

PAGE = """<!DOCTYPE html><html><body>
<a href="/whl/cu130/torch-2.8.0%2Bcu130-cp311-cp311-manylinux_2_28_x86_64.whl#sha256=0">x</a><br/>
<a href="/whl/cu130/torch-2.9.1%2Bcu130-cp311-cp311-manylinux_2_28_x86_64.whl">x</a><br/>
<a href="/whl/cu130/torch-2.10.0%2Bcu130-cp311-cp311-manylinux_2_28_x86_64.whl">x</a><br/>
<a href="/whl/cu130/torch-2.10.0%2Bcu130-cp311-cp311-win_amd64.whl">x</a><br/>
<a href="/whl/cu130/torch-2.11.0%2Bcu130-cp312-cp312-manylinux_2_28_x86_64.whl">x</a><br/>
<a href="/whl/cu130/torch-2.11.0%2Bcu130-cp313-cp313t-manylinux_2_28_x86_64.whl">x</a><br/>
<a href="/whl/cu130/torch-2.11.0%2Bcu130-cp311-cp311-manylinux_2_28_aarch64.whl">x</a><br/>
<a href="/whl/cu130/torch-2.12.0rc1%2Bcu130-cp311-cp311-manylinux_2_28_x86_64.whl">x</a><br/>
<a href="/whl/cu130/torch-2.14.0%2Bcu130-cp311-cp311-manylinux_2_28_x86_64.whl">x</a><br/>
<a href="/whl/cu130/torchvision-2.13.0%2Bcu130-cp311-cp311-manylinux_2_28_x86_64.whl">x</a><br/>
</body></html>"""


@pytest.mark.parametrize(
    ("python_tag", "system", "machine", "version"),
    [
        ("cp311", "Linux", "x86_64", "2.10.0+cu130"),
        ("cp311", "Windows", "AMD64", "2.10.0+cu130"),
        ("cp312", "Linux", "x86_64", "2.11.0+cu130"),
        ("cp311", "Linux", "aarch64", "2.11.0+cu130"),
        ("cp313", "Linux", "x86_64", ""),
        ("cp312", "Windows", "AMD64", ""),
        ("cp311", "Windows", "ARM64", ""),
        ("cp311", "Darwin", "arm64", ""),
    ],
)
def test_newest_version_that_fits(python_tag, system, machine, version):
    target = Target(python_tag=python_tag, system=system, machine=machine)
    assert newest_version(PAGE, target=target, specifier=RANGE) == version


def test_no_page_has_no_version():
    assert newest_version("", target=LINUX, specifier=RANGE) == ""


class PageHandler(http.server.BaseHTTPRequestHandler):
    """Answers like the index: one page, and errors by number."""

    def do_GET(self) -> None:
        status = {"/cu130/torch/": 200, "/secret/torch/": 403, "/ill/torch/": 500}.get(
            self.path, 404
        )
        self.send_response(status)
        self.end_headers()
        if status == 200:
            self.wfile.write(PAGE.encode())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.fixture
def server_url() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), PageHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_index_page_is_read(server_url):
    page = read_index("cu130", base_url=server_url)
    assert newest_version(page, target=LINUX, specifier=RANGE) == "2.10.0+cu130"


@pytest.mark.parametrize("name", ["cu999", "secret"])
def test_index_that_does_not_exist_is_empty(server_url, name):
    assert read_index(name, base_url=server_url) == ""


def test_index_in_trouble_is_unreachable(server_url):
    with pytest.raises(IndexUnreachableError):
        read_index("ill", base_url=server_url)


def test_index_that_does_not_answer_is_unreachable():
    with http.server.HTTPServer(("127.0.0.1", 0), PageHandler) as server:
        port = server.server_port
    with pytest.raises(IndexUnreachableError):
        read_index("cu130", base_url=f"http://127.0.0.1:{port}")
