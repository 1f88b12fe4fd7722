// Failure causes: how often, and what each means for an engineer, a customer and its owner.

import { element } from "./dom.js";
import * as format from "./format.js";
import { panel } from "./panel.js";
import { barLayout, plot } from "./plots.js";
import { sortableTable } from "./table.js";

const BARS = 10;
const OWNERS = {
  radio: "Radio access", core: "Mobile core", transport: "IP transport", dns: "DNS",
  voice: "Voice core", service: "Operator of the service", device: "Device", care: "Customer care",
  nobody: "Not decided",
};

let loading = null;

/** Return the texts of every cause, by its name. They are part of the page and need no token. */
export function causeTexts() {
  loading ??= fetch(new URL("causes.json", import.meta.url)).then((response) => response.json());
  return loading;
}

/** Return the texts of `cause`; a cause that this page does not know says so. */
export function textsOf(texts, cause) {
  return Object.hasOwn(texts, cause) ? texts[cause] : { ...texts.unknown, title: String(cause) };
}

export const ownerName = (owner) => OWNERS[owner] ?? owner;

/** Return the panel of causes; `narrowed` are further filters of the interface. */
export function causesPanel(narrowed = {}, path = "/failures") {
  const bars = causesPlot();
  const table = sortableTable({
    caption: "Failure causes, the most frequent first", className: "causes cards",
    columns: COLUMNS, empty: "No failures in this range.",
  });
  return panel({
    heading: "Failure causes",
    className: "wide",
    load: async (question) => {
      const [answer, texts] = await Promise.all([
        question.ask(path, { limit: 100, ...narrowed }), causeTexts(),
      ]);
      return answer.data.map((row) => ({ ...row, texts: textsOf(texts, row.failure_cause) }));
    },
    content: {
      element: element("div", {}, bars.element, table.element),
      update(rows, question) {
        table.update(rows);
        bars.element.hidden = rows.length === 0;
        return rows.length ? bars.update(rows, question) : null;
      },
    },
  });
}

const failures = (row) => row.failures;

const COLUMNS = [
  {
    label: "Cause", value: (row) => row.texts.title,
    show: (row) => [
      element("strong", {}, row.texts.title), element("br"),
      element("code", {}, row.failure_cause ?? "unknown"),
    ],
  },
  { label: "Where", value: (row) => row.failure_side ?? "", show: place },
  number("Failures", failures, format.count),
  number("Share", (row) => row.share, format.percent),
  number("Subscribers", (row) => row.subscribers, format.count),
  { label: "For the engineer", show: (row) => `${row.texts.evidence} ${row.texts.engineer}` },
  { label: "For the customer", show: (row) => row.texts.customer },
  { label: "Owner", value: (row) => ownerName(row.texts.owner) },
  { label: "Next step", show: (row) => row.texts.next_step },
];

function number(label, value, show) {
  return { label, numeric: true, descending: true, value, show: (row) => show(value(row)) };
}

/** Return the part of an axis that keeps its ticks to whole numbers up to `most`. */
function wholeNumbers(most) {
  return most < 10 ? { tickformat: ",d", dtick: 1 } : { tickformat: ",d" };
}

function place(row) {
  const words = [row.failure_side, row.failure_stage && `at ${row.failure_stage}`];
  return words.filter(Boolean).join(", ") || null;
}

function causesPlot() {
  const label = (row) => `${row.texts.title}${row.failure_side ? ` (${row.failure_side})` : ""}`;
  const top = (rows) => rows.slice(0, BARS);
  return plot({
    heading: "Failures by cause",
    describe: (rows) =>
      top(rows).map((row) => `${row.texts.title} ${format.count(row.failures)}`).join(", "),
    table: {
      columns: [COLUMNS[0], COLUMNS[1], COLUMNS[2]],
      rows: (rows) => rows,
    },
    layout: (rows, colours) =>
      barLayout(colours, top(rows).map(label), wholeNumbers(Math.max(...rows.map(failures)))),
    traces: (rows, colours) => [{
      type: "bar", orientation: "h", marker: { color: colours.bad },
      y: top(rows).map((_, index) => index), x: top(rows).map(failures),
      hovertemplate: "%{x:,d}<extra></extra>",
    }],
  });
}
