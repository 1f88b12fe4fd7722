// Incidents of cells and capture points: the open ones first.

import { element } from "./dom.js";
import * as format from "./format.js";
import { cellLink } from "./lists.js";
import { panel } from "./panel.js";
import { sortableTable } from "./table.js";

const KINDS = {
  qoe: "Poor experience",
  subscriber_share: "Subscriber not known",
  cell_share: "Cell not known",
  ran_node_share: "Base station not known",
};

/** Return the panel of incidents that touch the range; `narrowed` are filters such as a cell. */
export function incidentsPanel(narrowed = {}) {
  const table = sortableTable({
    caption: "Incidents, the open ones first", columns: COLUMNS, className: "cards",
    empty: "No incidents in this range.",
  });
  return panel({
    heading: "Incidents",
    className: "wide",
    load: async (question) => {
      const asked = { ...question.span, limit: 100, ...narrowed };
      const { data } = await question.askPlain("/incidents", asked);
      return [...data].sort((a, b) => (a.status === "closed") - (b.status === "closed"));
    },
    content: table,
  });
}

const time = (text) => (text === null ? null : format.timeElement(format.parseTime(text)));

const COLUMNS = [
  {
    label: "Incident", value: (row) => row.title,
    show: (row) => [
      element("span", { class: `badge ${row.status}` }, row.status === "open" ? "Open" : "Closed"),
      ` ${row.title}`,
    ],
  },
  {
    label: "Where", value: (row) => row.cell_id ?? row.capture_point,
    show: (row) => (row.cell_id === null ? row.capture_point : cellLink(row.cell_id)),
  },
  {
    label: "Kind", value: (row) => KINDS[row.kind] ?? "Failures",
  },
  { label: "Opened", value: (row) => format.parseTime(row.opened_at), show: (row) => time(row.opened_at) },
  {
    label: "Last bad", value: (row) => format.parseTime(row.updated_at),
    show: (row) => time(row.updated_at),
  },
  {
    label: "Subscribers", numeric: true, descending: true, help: "affected, the most at one time",
    value: (row) => row.affected_subscribers, show: (row) => format.count(row.affected_subscribers),
  },
  {
    label: "Failed", numeric: true, descending: true,
    value: (row) => row.failure_ratio, show: (row) => format.percent(row.failure_ratio),
  },
];
