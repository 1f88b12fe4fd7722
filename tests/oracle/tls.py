"""Figures of TLS: the server names of hellos."""

from collections import Counter

from tests.oracle.captures import Record, Truth, streams_of
from tests.oracle.figure import Figure
from tests.oracle.tcp import final_tcp


def hello_name(record: Record) -> str | None:
    """The name of the hello; names from certificates and from DNS are not tshark's to give."""
    name: str | None = record["server_name"]
    return name if record["server_name_source"] == "sni" else None


def tls_server_names(records: list[Record], truth: Truth) -> Figure:
    of_tls = [record for record in final_tcp(records) if record["app_protocol"] == "tls"]
    ours = Counter(name for record in of_tls if (name := hello_name(record)))
    theirs = Counter(stream["sni"].lower() for stream in streams_of(truth) if stream.get("sni"))
    off = [*(ours - theirs).elements(), *(theirs - ours).elements()]
    return Figure("TLS server names", theirs.total(), off)
