// Lists of aggregates: cells, subscribers, services.

import { linkTo } from "./address.js";
import { element } from "./dom.js";
import * as format from "./format.js";
import * as measures from "./measures.js";
import { panel } from "./panel.js";
import { barLayout, plot } from "./plots.js";
import { sortableTable } from "./table.js";
import { scoreCell } from "./tiles.js";

const CELLS = 500; // of the worst; a page of the interface holds up to 1,000
const BARS = 12;

const number = (label, read, show, help) => ({
  label, help, numeric: true, descending: true,
  value: read, show: (row) => show(read(row)),
});
const score = {
  label: "QoE", help: "0 to 100; a cell's from its client side only", numeric: true,
  value: (row) => row.qoe.value, show: (row) => scoreCell(row.qoe),
};
const interval = {
  label: "95 % interval", numeric: true,
  show: ({ qoe }) =>
    qoe.value === null ? null : `${format.score(qoe.low)} to ${format.score(qoe.high)}`,
};
const samples = number("Samples", (row) => row.qoe.samples, format.count, "of the QoE");
const sessions = number("Sessions", (row) => row.sessions, format.count);
const failed = number("Failed", (row) => row.failure_ratio, format.percent, "failures per attempt");
const clientP95 = number(
  "RTT p95", (row) => row.rtt_client_us.p95, format.duration, "round trip between tap and client");
const serverP50 = number(
  "Server RTT", (row) => row.rtt_server_us.p50, format.duration,
  "median round trip between tap and server");
const retransmitted = number(
  "Retransmitted", measures.retransmissionShare, format.percent, "share of packets that were retransmissions");
const subscribers = number("Subscribers", (row) => row.subscribers, format.count);
const volume = number("Volume", measures.volume, format.bytes);

/** Return the panel of cells, the worst first; `onCell(id)` is called for a bar that is clicked. */
export function cellsPanel(onCell) {
  const cell = {
    label: "Cell", value: (row) => row.cell_name ?? row.cell_id ?? "",
    show: (row) => cellLink(row.cell_id, row.cell_name),
  };
  const site = { label: "Site", value: (row) => row.site ?? "", help: "by the map of cells" };
  const columns = [
    cell, score, interval, sessions, failed, clientP95, retransmitted, subscribers, volume, site,
  ];
  const table = sortableTable({
    caption: "Cells, the worst first", columns, className: "cells", empty: "No sessions in this range.",
  });
  const bars = worstPlot(onCell);
  const more = element("p", { class: "note" });
  return panel({
    heading: "Worst cells",
    className: "wide",
    load: (question) => question.ask("/cells", { sort: "qoe", limit: CELLS }),
    content: {
      element: element("div", { class: "beside" }, bars.element, element("div", {}, table.element, more)),
      update(answer, question) {
        table.update(answer.data);
        more.textContent = answer.next_cursor
          ? `The ${CELLS} cells of lowest QoE; there are more.` : "";
        return bars.update(answer.data, question);
      },
    },
  });
}

/** Return a link to a cell's view with its name, if it has one, or words where it is not known. */
export function cellLink(id, name = null) {
  if (id === null) return element("span", { class: "faint" }, "cell not known");
  const link = element("a", { href: linkTo("cell", id), class: "id" }, id);
  return name ? [element("strong", {}, `${name} `), link] : link;
}

/** Return a link to a subscriber's view, its long pseudonym shortened for the eye. */
export function subscriberLink(id) {
  if (id === null) return element("span", { class: "faint" }, "subscriber not known");
  return element(
    "a", { href: linkTo("subscriber", id), class: "id", title: id }, `${id.slice(0, 12)}…`);
}

function worstPlot(onCell) {
  const worst = (rows) => rows.filter((row) => row.qoe.value !== null && row.cell_id).slice(0, BARS);
  return plot({
    heading: "QoE of the worst cells",
    onClick: (point, rows) => onCell(worst(rows)[point.pointIndex].cell_id),
    describe: (rows) =>
      worst(rows).length
        ? worst(rows).map((row) => `${row.cell_id} ${format.score(row.qoe.value)}`).join(", ")
        : "No cell has enough samples.",
    table: {
      columns: [
        { label: "Cell", value: (row) => row.cell_id, show: (row) => cellLink(row.cell_id) },
        score, interval, samples,
      ],
      rows: worst,
    },
    layout: (rows, colours) =>
      barLayout(colours, worst(rows).map((row) => row.cell_id), { range: [0, 102] }),
    traces: (rows, colours) => [scoreBars(worst(rows), colours)],
  });
}

function scoreBars(rows, colours) {
  return {
    type: "bar", orientation: "h",
    y: rows.map((_, index) => index),
    x: rows.map((row) => row.qoe.value),
    marker: { color: colours.client },
    error_x: {
      type: "data", symmetric: false, color: colours.text, thickness: 1.5, width: 3,
      array: rows.map(({ qoe }) => qoe.high - qoe.value),
      arrayminus: rows.map(({ qoe }) => qoe.value - qoe.low),
    },
    hovertemplate: "QoE %{x:.0f}<extra></extra>",
  };
}

/** Return the panel of a cell's subscribers, those with failures and low QoE first. */
export function cellSubscribersPanel(cellId) {
  const subscriber = { label: "Subscriber", show: (row) => subscriberLink(row.subscriber_id) };
  const failures = number("Failures", (row) => row.failures, format.count);
  return listPanel({
    heading: "Worst subscribers of this cell",
    caption: "Subscribers of this cell, the worst first",
    columns: [subscriber, score, sessions, failures, failed, clientP95, retransmitted, volume],
    load: (question) =>
      question.ask("/subscribers", { cell_id: cellId, sort: "qoe", limit: 20 }),
  });
}

/** Return the panel of device types, the worst first, of the whole network unless `narrowed`. */
export function devicesPanel(narrowed = {}) {
  const device = {
    label: "Device",
    value: (row) => row.device_model ?? row.imei_tac ?? "",
    show: (row) =>
      row.device_model ?? row.imei_tac ?? element("span", { class: "faint" }, "device not known"),
  };
  const code = { label: "TAC", value: (row) => row.imei_tac ?? "", help: "type allocation code" };
  const system = { label: "System", value: (row) => row.device_os ?? "" };
  return listPanel({
    heading: "Devices",
    caption: "Device types, the worst first",
    columns: [
      device, code, system, score, interval, sessions, failed, clientP95, subscribers, volume,
    ],
    load: (question) => question.ask("/devices", { sort: "qoe", limit: 100, ...narrowed }),
  });
}

/** Return the panel of services at `path`, of the whole network unless `narrowed`. */
export function servicesPanel(path, narrowed = {}) {
  const service = {
    label: "Service",
    value: (row) => row.service ?? "",
    show: (row) => row.service ?? element("span", { class: "faint" }, "not in the service list"),
  };
  const kind = { label: "Class", value: (row) => row.service_class ?? "" };
  return listPanel({
    heading: "Services",
    caption: "Services, the worst first",
    columns: [
      service, kind, score, interval, sessions, failed, clientP95, serverP50, subscribers, volume,
    ],
    load: (question) => question.ask(path, { sort: "qoe", limit: 100, ...narrowed }),
  });
}

function listPanel({ heading, caption, columns, load }) {
  const table = sortableTable({ caption, columns, empty: "No sessions in this range." });
  return panel({
    heading,
    className: "wide",
    load: async (question) => (await load(question)).data,
    content: table,
  });
}
