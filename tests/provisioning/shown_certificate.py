"""An HTTPS server on a SuperLink's port, with a certificate that ends as one likes."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from primia_flwr.provisioning.federation import Federation
from primia_flwr.provisioning.renewal import load_authority


def end_certificate(federation: Federation, *, days: int) -> None:
    """Give the SuperLink a certificate that ends in so many days; negative: has ended."""
    authority, file = load_authority(federation.folder), federation.files.certificate
    old, now = x509.load_pem_x509_certificate(file.read_bytes()), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=20))
        .not_valid_after(now + timedelta(days=days))
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    pem = builder.sign(authority.key, hashes.SHA384()).public_bytes(Encoding.PEM)
    file.write_bytes(pem)


@contextmanager
def shown_certificate(federation: Federation, *, days: int) -> Iterator[None]:
    """Listen on the SuperLink's port with a certificate of its CA that ends in `days`."""

    class Quiet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    end_certificate(federation, days=days)
    port = int(federation.roster.superlink.rpartition(":")[2])
    http = HTTPServer(("127.0.0.1", port), Quiet)
    http.handle_error = lambda *_: None  # type: ignore[method-assign]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(federation.files.certificate, federation.files.key)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        http.shutdown()
        http.server_close()
