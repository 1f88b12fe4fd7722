// The last sessions of a subscriber, with what a care agent may say about each.

import { causeTexts, textsOf } from "./causes.js";
import { element } from "./dom.js";
import * as format from "./format.js";
import { cellLink } from "./lists.js";
import { panel } from "./panel.js";
import { sortableTable } from "./table.js";

const RECORDS = 200; // asked for; a long session has several
const OUTCOMES = {
  ok: "OK", degraded: "Degraded", failed: "Failed", unknown: "Not known", going: "Going on",
};

/** Return the panel of the last sessions at `path`, which can be narrowed to the failed ones. */
export function sessionsPanel(path) {
  let asked = null;
  const onlyFailed = element("input", {
    type: "checkbox", id: "only-failed", change: () => asked && sessions.refresh(asked),
  });
  const table = sortableTable({
    caption: "Last sessions, the newest first", columns: COLUMNS, className: "sessions cards",
    empty: "No sessions in this range.",
  });
  const more = element("p", { class: "note" });
  const sessions = panel({
    heading: "Last sessions",
    className: "wide",
    load: async (question) => {
      asked = question;
      const outcome = onlyFailed.checked ? "failed" : null;
      const [answer, texts] = await Promise.all([
        question.ask(path, { limit: RECORDS, outcome }), causeTexts(),
      ]);
      return { rows: sessionsOf(answer.data, texts), older: answer.next_cursor !== null };
    },
    content: {
      element: element(
        "div", {},
        element("p", { class: "check" }, onlyFailed, " ",
          element("label", { for: "only-failed" }, "only those that failed")),
        table.element, more,
      ),
      update({ rows, older }) {
        table.update(rows);
        more.textContent = older ? "There are older ones: narrow the time range to see them." : "";
      },
    },
  });
  return sessions;
}

/** Return one row a session, the newest first, made of its records, which come newest first. */
function sessionsOf(records, texts) {
  const sessions = new Map();
  for (const record of records.filter((entry) => entry.record_kind !== "transaction")) {
    const key = `${record.probe_id} ${record.capture_point} ${record.session_id}`;
    const known = sessions.get(key);
    if (known) merge(known, record);
    else sessions.set(key, rowOf(record));
  }
  return [...sessions.values()]
    .map((row) => ({ ...row, texts: row.cause ? textsOf(texts, row.cause) : null }))
    .sort((a, b) => b.start - a.start);
}

function rowOf(record) {
  return {
    start: format.parseTime(record.flow_start_time),
    service: record.service,
    server: record.server_name ?? record.dns_query ?? address(record),
    nameSource: record.server_name === null ? null : record.server_name_source,
    protocol: record.app_protocol ?? record.transport,
    outcome: record.outcome ?? (record.record_kind === "interim" ? "going" : "unknown"),
    cause: record.failure_cause,
    side: record.failure_side,
    evidence: record.evidence ?? [],
    rtt: record.rtt_client_median_us ?? record.handshake_rtt_client_us,
    volume: record.bytes_up + record.bytes_down,
    cell: record.cell_id,
    cellName: record.cell_name,
    device: record.device_model ?? record.imei_tac,
  };
}

/** Add an earlier record of the same session. */
function merge(row, record) {
  const earlier = rowOf(record);
  row.volume += earlier.volume;
  row.rtt ??= earlier.rtt;
  row.server ??= earlier.server;
  row.nameSource ??= earlier.nameSource;
  row.service ??= earlier.service;
  if (record.outcome === "failed" || row.outcome === "unknown") {
    const { outcome, cause, side, evidence } = earlier;
    if (record.outcome) Object.assign(row, { outcome, cause, side, evidence });
  }
}

function address(record) {
  if (record.server_ip === null) return null;
  const host = record.server_ip.includes(":") ? `[${record.server_ip}]` : record.server_ip;
  return record.server_port === null ? host : `${host}:${record.server_port}`;
}

function outcomeBadge(row) {
  return element(
    "span", { class: `badge ${row.outcome}` }, OUTCOMES[row.outcome] ?? String(row.outcome));
}

function explanation(row) {
  if (!row.texts || row.outcome === "ok") return null;
  const known = [row.cause, row.side && `side ${row.side}`, ...row.evidence].filter(Boolean);
  return [
    row.texts.customer,
    element(
      "details", {}, element("summary", {}, "For the engineer"),
      `${row.texts.engineer} ${row.texts.next_step} `, element("code", {}, known.join(", ")),
    ),
  ];
}

const NAME_SOURCES = {
  sni: "as the client asked for it in its TLS handshake",
  host: "as the client asked for it over HTTP",
  certificate: "from the server's certificate",
  dns: "the name that DNS had given to the server's address",
};

const COLUMNS = [
  {
    label: "Start", value: (row) => row.start, descending: true,
    show: (row) => format.timeElement(row.start),
  },
  {
    label: "Service", value: (row) => row.server ?? "",
    show: (row) => [
      row.service ? element("strong", {}, `${row.service} `) : "",
      element(
        "span", { class: "server", title: NAME_SOURCES[row.nameSource] ?? "" },
        row.server ?? format.NOTHING,
      ),
      row.nameSource === "dns" ? element("small", { class: "source" }, " from DNS") : "",
    ],
  },
  { label: "Protocol", value: (row) => row.protocol },
  { label: "Outcome", value: (row) => row.outcome, show: outcomeBadge },
  { label: "What to tell the customer", show: explanation },
  {
    label: "RTT", help: "median round trip between tap and client", numeric: true, descending: true,
    value: (row) => row.rtt, show: (row) => format.duration(row.rtt),
  },
  {
    label: "Volume", numeric: true, descending: true,
    value: (row) => row.volume, show: (row) => format.bytes(row.volume),
  },
  {
    label: "Cell", value: (row) => row.cellName ?? row.cell ?? "",
    show: (row) => cellLink(row.cell, row.cellName),
  },
  { label: "Device", value: (row) => row.device ?? "" },
];
