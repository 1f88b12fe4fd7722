"""Figures of what clients ask for in their hellos: server names and protocols."""

from collections import Counter

from tests.oracle.captures import Record, Truth, streams_of
from tests.oracle.figure import Figure
from tests.oracle.tcp import final_tcp


def name_figures(records: list[Record], truth: Truth) -> list[Figure]:
    return [
        tls_server_names(records, truth),
        quic_server_names(records, truth),
        quic_protocols(records, truth),
    ]


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


def final_quic(records: list[Record]) -> list[Record]:
    return [r for r in records if r["app_protocol"] == "quic" and r["record_kind"] == "final"]


def quic_server_names(records: list[Record], truth: Truth) -> Figure:
    """One name per connection; tshark says it again where the hello is sent again.

    Google's own QUIC is another dissector's, which does not say in which connection.
    """
    quic = truth.get("quic", {})
    google = set(quic.get("gquic_sni", {}))
    ours = Counter(name for record in final_quic(records) if (name := hello_name(record)))
    hellos = {(hello["udp_stream"], hello.get("sni")) for hello in quic.get("client_hellos", [])}
    theirs = Counter(name.lower() for _, name in hellos if name)
    of_ietf = Counter({name: count for name, count in ours.items() if name not in google})
    off = [*(of_ietf - theirs).elements(), *(theirs - of_ietf).elements(), *(google - set(ours))]
    return Figure("QUIC server names", theirs.total() + len(google), off)


def quic_protocols(records: list[Record], truth: Truth) -> Figure:
    """Every protocol that a client offers, in whichever connection, where tshark opens a hello: it
    opens none of a client that began with a reserved version.
    """
    offers = [r["alpn"].split(",") for r in final_quic(records) if r["alpn"]]
    ours = {protocol for offer in offers for protocol in offer}
    theirs = set(truth.get("quic", {}).get("alpn", {}))
    off = sorted(ours ^ theirs) if theirs else []
    return Figure("QUIC protocols offered", len(theirs), off)
