// What happened step by step: sessions and failures, round trip times, volume, QoE.

import { element } from "./dom.js";
import * as format from "./format.js";
import { panel } from "./panel.js";
import { coarsePointer, plot, plotTime, timeLayout } from "./plots.js";

const GAPS = "A gap is a time without records.";

/** Return the panel of the timeline at `path`; `onNarrow(from, to)` is called for a dragged range. */
export function timelinePanel(path, onNarrow) {
  const plots = [qoePlot, sessionsPlot, latencyPlot, volumePlot].map((make) => make(onNarrow));
  return panel({
    heading: "Over time",
    note: `${coarsePointer() ? "" : "Drag across a plot to narrow the time range. "}${GAPS}`,
    className: "wide",
    load: async (question) => withGaps(await question.askTimeline(path), question.range.stepMs),
    content: {
      element: element("div", { class: "plots" }, plots.map((entry) => entry.element)),
      update: (steps, question) =>
        Promise.all(plots.map((entry) => entry.update(steps, question))),
    },
  });
}

/** Return the steps with an empty one wherever some are left out, so that lines break there. */
function withGaps(answer, stepMs) {
  const steps = [];
  for (const sums of answer.data) {
    const ms = format.parseTime(sums.time);
    const before = steps.at(-1);
    if (before && ms - before.ms > stepMs) steps.push({ ms: before.ms + stepMs, sums: null });
    steps.push({ ms, sums });
  }
  return steps;
}

const held = (steps) => steps.filter((step) => step.sums);
const times = (steps) => steps.map((step) => plotTime(step.ms));
const values = (steps, read) => steps.map((step) => (step.sums ? read(step.sums) : null));
const inMs = (us) => (us === null ? null : us / 1000);

function columnsOf(entries) {
  const time = {
    label: "Time", value: (row) => row.ms, show: (row) => format.timeElement(row.ms),
  };
  const others = entries.map(([label, read, show]) => ({
    label, numeric: true, value: (row) => read(row.sums), show: (row) => show(read(row.sums)),
  }));
  return [time, ...others];
}

function line(name, steps, read, { colour, dash = "solid" }) {
  return {
    name, x: times(steps), y: values(steps, read), type: "scatter", mode: "lines+markers",
    line: { color: colour, dash, width: 2 }, marker: { size: 4, color: colour },
  };
}

function timePlot({ heading, series, traces, y, describe }, onNarrow) {
  return plot({
    heading, traces, describe, onNarrow,
    layout: (steps, colours, question) => timeLayout(colours, question, y),
    table: { columns: columnsOf(series), rows: held },
  });
}

function extremes(steps, read, show) {
  const found = values(held(steps), read).filter((value) => value !== null);
  if (!found.length) return "not measured";
  return `from ${show(Math.min(...found))} to ${show(Math.max(...found))}`;
}

// ------------------------------------------------------------------------------- the plots

function qoePlot(onNarrow) {
  const value = (sums) => sums.qoe.value;
  return timePlot({
    heading: "QoE, 0 to 100, with its 95 % interval",
    series: [
      ["QoE", value, format.score],
      ["Low", (sums) => sums.qoe.low, format.score],
      ["High", (sums) => sums.qoe.high, format.score],
      ["Samples", (sums) => sums.qoe.samples, format.count],
    ],
    y: { range: [0, 102] },
    describe: (steps) => `QoE ${extremes(steps, value, format.score)}.`,
    traces: (steps, colours, question) => [
      band(steps, question.range.stepMs, colours.band),
      { ...line("QoE", steps, value, { colour: colours.client }), hovertemplate: "%{y:.0f}" },
    ],
  }, onNarrow);
}

/** Return the interval as a polygon for each run of steps that have one. */
function band(steps, stepMs, colour) {
  const [x, y] = [[], []];
  for (const run of runsWithQoe(steps)) {
    // A lone step has no width of its own.
    const wide = run.length > 1 ? run : [shifted(run[0], -stepMs / 4), shifted(run[0], stepMs / 4)];
    const back = [...wide].reverse();
    x.push(...times(wide), ...times(back), null);
    y.push(...wide.map((step) => step.sums.qoe.high), ...back.map((step) => step.sums.qoe.low), null);
  }
  return {
    name: "95 % interval", x, y, type: "scatter", mode: "none", fill: "toself",
    fillcolor: colour, hoverinfo: "skip",
  };
}

const shifted = (step, ms) => ({ ...step, ms: step.ms + ms });

function runsWithQoe(steps) {
  const runs = [];
  let run = null;
  for (const step of steps) {
    if (!step.sums || step.sums.qoe.value === null) run = null;
    else if (run) run.push(step);
    else runs.push((run = [step]));
  }
  return runs;
}

function sessionsPlot(onNarrow) {
  const [sessions, failures] = [(sums) => sums.sessions, (sums) => sums.failures];
  const bar = (name, steps, read, colour, question) => ({
    name, x: times(steps), y: values(steps, read), type: "bar", marker: { color: colour },
    offset: 0, width: 0.9 * question.range.stepMs,
  });
  return timePlot({
    heading: "Sessions and failures",
    series: [
      ["Sessions", sessions, format.count],
      ["Failures", failures, format.count],
      ["Failed", (sums) => sums.failure_ratio, format.percent],
    ],
    y: { hoverformat: ",d" },
    describe: (steps) =>
      `Sessions ${extremes(steps, sessions, format.count)} and failures ${extremes(
        steps, failures, format.count)} a step.`,
    // Both start at zero, the failures in front: they are part of the sessions.
    traces: (steps, colours, question) => [
      bar("Sessions", steps, sessions, colours.client, question),
      bar("Failures", steps, failures, colours.bad, question),
    ],
  }, onNarrow);
}

function latencyPlot(onNarrow) {
  const read = (side, quantile) => (sums) => inMs(sums[`rtt_${side}_us`][quantile]);
  const inWords = (ms) => format.duration(ms === null ? null : ms * 1000);
  const lines = [
    ["Client p50", read("client", "p50"), "client", "solid"],
    ["Client p95", read("client", "p95"), "client", "dot"],
    ["Server p50", read("server", "p50"), "server", "solid"],
    ["Server p95", read("server", "p95"), "server", "dot"],
  ];
  return timePlot({
    heading: "Round trip time between tap and client, tap and server",
    series: lines.map(([name, value]) => [name, value, inWords]),
    y: { ticksuffix: " ms", hoverformat: ".3~r" },
    describe: (steps) =>
      lines.map(([name, value]) => `${name} ${extremes(steps, value, inWords)}`).join(", ") + ".",
    traces: (steps, colours) =>
      lines.map(([name, value, side, dash]) =>
        line(name, steps, value, { colour: colours[side], dash })),
  }, onNarrow);
}

function volumePlot(onNarrow) {
  const [down, up] = [(sums) => sums.bytes_down, (sums) => sums.bytes_up];
  return timePlot({
    heading: "Volume",
    series: [["Down", down, format.bytes], ["Up", up, format.bytes]],
    y: { ticksuffix: "B", tickformat: "~s", hoverformat: ".3~s" },
    describe: (steps) =>
      `Down ${extremes(steps, down, format.bytes)}, up ${extremes(steps, up, format.bytes)} a step.`,
    traces: (steps, colours) => [
      line("Down", steps, down, { colour: colours.client }),
      line("Up", steps, up, { colour: colours.server, dash: "dash" }),
    ],
  }, onNarrow);
}
