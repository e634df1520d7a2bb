"""
What the broker is compared with, by nginx: one that says the same to everybody, an API that demands a client
certificate, and a proxy to that.

Each is one process that leaves nothing behind. The proxy does what the broker does for a call and no more: TLS
with a client certificate on connections that are kept, a fixed ``Authorization``, bodies streamed. It asks nobody
who the caller is, has no token to keep fresh and writes no record.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.rig import PATIENCE, POLL, GaveUpError, pin

SMALL = 1_024
LARGE = 10_000_000
"""Bytes of the two bodies."""

HEAD = """
daemon off;
master_process off;
pid {home}/pid;
error_log {home}/error.log warn;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  default_type application/octet-stream;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
"""

API = """
  # It answers when it has all of a body, as an API does: nginx itself answers before, where nobody wants the body.
  server {{
    listen unix:{home}/taken.sock;
    location / {{ return 204; }}
  }}
  upstream taken {{ server unix:{home}/taken.sock; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_client_certificate {ca};
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
    client_body_buffer_size 11m;
    if ($http_authorization = "") {{ return 401; }}
    location = /api/small {{ return 200 "{small}"; }}
    location = /api/large {{ alias {home}/large; }}
    location = /api/taken {{
      proxy_pass http://taken/;
      proxy_http_version 1.1;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection "";
    }}
  }}
}}
"""

PROXY = """
  upstream api {{ server 127.0.0.1:{port}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen unix:{home}/proxy.sock;
    location / {{
      proxy_pass https://api;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost:{port};
      proxy_set_header Authorization "Bearer {token}";
      proxy_request_buffering off;
      client_body_buffer_size 256k;
      proxy_buffers 16 64k;
      proxy_buffer_size 64k;
      proxy_busy_buffers_size 128k;
      proxy_max_temp_file_size 0;
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_certificate {certificate};
      proxy_ssl_certificate_key {key};
      proxy_ssl_trusted_certificate {ca};
      proxy_ssl_verify on;
      proxy_ssl_name localhost;
      proxy_ssl_server_name on;
    }}
  }}
}}
"""


CONSTANT = """
  server {{
    listen unix:{home}/constant.sock;
    location / {{ default_type application/json; return 200 "{body}"; }}
  }}
}}
"""


def start_constant(home: Path, size: int, *, core: int | None) -> Nginx:
    """Start one that gives everybody the same body of *size* bytes, at ``constant.sock``, and wait until it serves."""
    home.mkdir(mode=0o700)
    one = Nginx.start(home, (HEAD + CONSTANT).format(home=home, body="x" * size), core=core)
    one.wait_for(home / "constant.sock")
    return one


def program(path: str | None = None) -> Path:
    """Find nginx on *path*, by default where commands are and where only root looks. Raises GaveUpError."""
    found = shutil.which(
        "nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin" if path is None else path
    )
    if found is None:
        raise GaveUpError("there is no nginx to compare with: install it (Debian, Ubuntu: apt-get install nginx-light)")
    return Path(found)


@dataclass(kw_only=True)
class Nginx:
    """One nginx with its files in *home*."""

    home: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, home: Path, configuration: str, *, core: int | None) -> Nginx:
        """Start it; its listeners are open soon after."""
        file = home / "nginx.conf"
        file.write_text(configuration)
        arguments = [str(program()), "-p", str(home), "-e", str(home / "error.log"), "-c", str(file)]
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
        pin(process.pid, core)
        return cls(home=home, process=process)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE)

    def wait_for(self, socket: Path) -> None:
        """Wait until *socket* is there, which is the last thing before it serves. Raises GaveUpError."""
        deadline = time.monotonic() + PATIENCE
        while not socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise GaveUpError(f"nginx does not start:\n{(self.home / 'error.log').read_text()[-2_000:]}")
            time.sleep(POLL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Files: the *ca* that both sides believe, and *certificate* and *key* of one side."""

    ca: Path
    certificate: Path
    key: Path


def start_api(home: Path, port: int, trust: Trust, *, core: int | None) -> Nginx:
    """Start the API at *port* of 127.0.0.1, and wait until it serves."""
    home.mkdir(mode=0o700)
    (home / "large").write_bytes(bytes(LARGE))
    api = Nginx.start(home, _written(HEAD + API, home, port, trust, small="x" * SMALL), core=core)
    api.wait_for(home / "taken.sock")
    return api


def start_proxy(home: Path, port: int, trust: Trust, *, token: str, core: int | None) -> Nginx:
    """Start the proxy to that API, and wait until it serves at ``proxy.sock``."""
    home.mkdir(mode=0o700)
    proxy = Nginx.start(home, _written(HEAD + PROXY, home, port, trust, token=token), core=core)
    proxy.wait_for(home / "proxy.sock")
    return proxy


def _written(template: str, home: Path, port: int, trust: Trust, **more: str) -> str:
    return template.format(home=home, port=port, ca=trust.ca, certificate=trust.certificate, key=trust.key, **more)
