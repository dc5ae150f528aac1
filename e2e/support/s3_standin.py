# SPDX-License-Identifier: Apache-2.0
"""A stand-in for an S3 service: lists and gives the files of a folder, to requests signed with its one key.

A program of one file and the standard library: `s3_standin.py FOLDER BUCKET PORT`, the key in the environment.
Signatures are recomputed by the rules of AWS Signature Version 4 (Amazon S3 API reference, "Authenticating
requests"); the loader's and the indexer's own tests run against moto's server.
"""

import hashlib
import hmac
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

KEY_ID, SECRET = "S3_KEY_ID", "S3_SECRET"


def signature(method: str, target: str, headers: dict[str, str], secret: str) -> str:
    """Return the signature that a request must have; `headers` with names in lower case."""
    fields = dict(part.strip().split("=", 1) for part in headers["authorization"].partition(" ")[2].split(","))
    names = fields["SignedHeaders"].split(";")
    url = urlsplit(target)
    pairs = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in parse_qsl(url.query, True))
    query = "&".join(f"{name}={value}" for name, value in pairs)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    request = "\n".join((method, url.path, query, lines, ";".join(names), headers["x-amz-content-sha256"]))
    scope = fields["Credential"].partition("/")[2]
    digest = hashlib.sha256(request.encode()).hexdigest()
    derived = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
    text = "\n".join(("AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest))
    return hmac.new(derived, text.encode(), hashlib.sha256).hexdigest()


def listing(files: dict[str, bytes], prefix: str) -> bytes:
    """Return the answer to ListObjectsV2, of one page."""
    items = "".join(
        f"<Contents><Key>{escape(name)}</Key><Size>{len(data)}</Size>"
        f"<ETag>&quot;{hashlib.md5(data, usedforsecurity=False).hexdigest()}&quot;</ETag></Contents>"
        for name, data in sorted(files.items())
        if name.startswith(prefix)
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode()


class Handler(BaseHTTPRequestHandler):
    """GET of the bucket and of its objects."""

    files: dict[str, bytes]
    bucket: str

    def do_GET(self) -> None:
        """Answer one request."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not self._signed(headers):
            self._answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
            return
        url = urlsplit(self.path)
        _, bucket, *key = unquote(url.path).split("/", 2)
        data = self.files.get("/".join(key)) if any(key) else None
        if bucket != self.bucket:
            self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif not any(key):
            self._answer(200, listing(self.files, parse_qs(url.query).get("prefix", [""])[0]))
        elif data is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._answer(200, data)

    def _signed(self, headers: dict[str, str]) -> bool:
        given = headers.get("authorization", "")
        if f"Credential={os.environ[KEY_ID]}/" not in given:
            return False
        wanted = signature("GET", self.path, headers, os.environ[SECRET])
        return hmac.compare_digest(given.rpartition("Signature=")[2], wanted)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(folder: Path, bucket: str, port: int) -> int:
    """Serve until told to end; a file `a__b` is the object `a/b`, since a ConfigMap has no folders."""
    Handler.files = {
        path.name.replace("__", "/"): path.read_bytes() for path in folder.iterdir() if path.is_file()
    }
    Handler.bucket = bucket
    with ThreadingHTTPServer(("0.0.0.0", port), Handler) as server:  # noqa: S104 - inside a pod
        server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
