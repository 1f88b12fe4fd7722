// The state of a network, a cell or a subscriber in a few numbers.

import { element, svg } from "./dom.js";
import * as format from "./format.js";
import * as measures from "./measures.js";
import { panel } from "./panel.js";

const TOO_FEW = "not enough samples";

/** Return the panel of tiles over the aggregate at `path`; `withSubscribers` adds their number. */
export function tilesPanel(path, { withSubscribers = true } = {}) {
  const room = element("dl", { class: "tiles" });
  return panel({
    className: "wide bare",
    load: async (question) => (await question.ask(path)).data,
    content: {
      element: room,
      update: (sums) => room.replaceChildren(...tilesOf(sums, withSubscribers)),
    },
  });
}

function tilesOf(sums, withSubscribers) {
  return [
    qoeTile(sums.qoe),
    tile("sessions", "Sessions", format.count(sums.sessions),
      `${format.counted(sums.attempts, "attempt", "attempts")} seen from the start`),
    tile("failures", "Failed", format.percent(sums.failure_ratio),
      sums.attempts ? format.counted(sums.failures, "failure", "failures") : "no attempts seen"),
    latencyTile("client", "Round trip to clients", sums.rtt_client_us),
    latencyTile("server", "Round trip to servers", sums.rtt_server_us),
    tile("throughput", "Throughput down", format.bitRate(measures.throughputDown(sums)),
      `up ${format.bitRate(measures.throughputUp(sums))}, while data flows`),
    tile("volume", "Volume", format.bytes(measures.volume(sums)),
      `${format.bytes(sums.bytes_down)} down, ${format.bytes(sums.bytes_up)} up`),
    withSubscribers
      ? tile("subscribers", "Subscribers", format.count(sums.subscribers), "distinct, as far as known")
      : null,
  ].filter(Boolean);
}

function tile(name, label, value, detail, picture = null) {
  return element(
    "div", { class: "tile", "data-tile": name }, element("dt", {}, label),
    element("dd", { class: "value" }, value, picture),
    element("dd", { class: "detail" }, detail),
  );
}

function qoeTile(qoe) {
  if (qoe.value === null) {
    const seen = format.counted(qoe.samples, "sample", "samples");
    return tile("qoe", "QoE", element("span", { class: "words" }, TOO_FEW), seen);
  }
  const detail = `${format.score(qoe.low)} to ${format.score(qoe.high)} (95 %), ${format.counted(
    qoe.samples, "sample", "samples")}`;
  return tile("qoe", "QoE", format.score(qoe.value), detail, intervalBar(qoe));
}

function latencyTile(side, label, quantiles) {
  const enough = quantiles.p50 !== null;
  const value = enough
    ? format.duration(quantiles.p50)
    : element("span", { class: "words" }, TOO_FEW);
  const seen = format.counted(quantiles.samples, "sample", "samples");
  const tail = quantiles.p95 === null ? null : `p95 ${format.duration(quantiles.p95)}`;
  const detail = [enough ? "median" : null, tail, seen].filter(Boolean).join(", ");
  return tile(`rtt-${side}`, label, value, detail);
}

/** Return a picture of a score with its interval on a line from 0 to 100. */
export function intervalBar({ value, low, high }) {
  return svg(
    "svg",
    {
      class: "interval", viewBox: "0 0 100 10", preserveAspectRatio: "xMinYMid",
      "aria-hidden": "true",
    },
    svg("rect", { class: "track", x: 0, y: 3.5, width: 100, height: 3, rx: 1.5 }),
    svg("rect", { class: "spread", x: low, y: 2, width: Math.max(high - low, 1), height: 6, rx: 2 }),
    svg("rect", { class: "mark", x: Math.min(Math.max(value - 1, 0), 98), y: 0, width: 2, height: 10 }),
  );
}

/** Return a score for a cell of a table: its number and its picture, or words without one. */
export function scoreCell(qoe) {
  if (qoe.value === null) return element("span", { class: "faint" }, TOO_FEW);
  return element("span", { class: "score" }, format.score(qoe.value), intervalBar(qoe));
}
