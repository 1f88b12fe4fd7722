// Probes: when they were last heard, and which packets they could not measure.

import { element } from "./dom.js";
import * as format from "./format.js";
import { panel } from "./panel.js";
import { sortableTable } from "./table.js";

const SILENT = 5 * 60_000; // ms; a probe sends a batch at least each minute while it sees packets

/** Return the panel of all probes. */
export function probesPanel() {
  let clock = 0;
  const table = sortableTable({
    caption: "Probes", columns: columnsAt(() => clock), empty: "No probe has sent anything yet.",
  });
  return panel({
    heading: "Probes",
    className: "wide",
    load: async (question) => (await allProbes(question)).data,
    content: {
      element: table.element,
      update(rows, question) {
        clock = question.clock;
        table.update(rows);
      },
    },
  });
}

/** Ask for the probes, of all time: a probe that fell silent must not vanish from the list. */
export function allProbes(question) {
  return question.askPlain("/probes", { limit: 1000 });
}

/** Return a counter of a probe over its interfaces; one with reasons is summed over them. */
export function packets(probe, counter) {
  let sum = 0;
  for (const counters of Object.values(probe.ledger)) {
    for (const [name, value] of Object.entries(counters)) {
      if (name === counter || name.startsWith(`${counter}.`)) sum += value;
    }
  }
  return sum;
}

/** Return the packets that never reached the probe's decoder. */
export function dropped(probe) {
  return ["dropped_kernel", "dropped_nic", "shed"].reduce(
    (sum, counter) => sum + packets(probe, counter), 0);
}

function columnsAt(clock) {
  const number = (label, value, help) => ({
    label, help, value, numeric: true, descending: true, show: (row) => format.count(value(row)),
  });
  return [
    { label: "Probe", value: (row) => row.probe_id },
    {
      label: "Last heard", value: (row) => format.parseTime(row.last_received_at), descending: true,
      show: (row) => lastHeard(format.parseTime(row.last_received_at), clock()),
    },
    number("Records", (row) => row.records),
    number("Batches missing", (row) => row.batches_missing, "sequence numbers never received"),
    number("Packets", (row) => packets(row, "received")),
    number("Dropped", dropped, "by kernel, network card or overload: never measured"),
    number("Not decoded", (row) => packets(row, "undecodable"), "malformed or of no known kind"),
  ];
}

function lastHeard(ms, clock) {
  const text = `${format.age(clock - ms)} ago`;
  const time = format.timeElement(ms, text);
  return clock - ms > SILENT
    ? [element("span", { class: "badge unknown" }, "Silent"), " ", time]
    : time;
}
