// What the page asks about: a range of time and a capture point, the same for every panel.

import { get } from "./api.js";
import { parseTime } from "./format.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const FRESH = 15 * MINUTE; // data this new is live
const STALE = 5 * MINUTE; // a live view whose newest data is older than this says so
const SHORT = 2 * DAY; // data of no more than this opens whole

export const PRESETS = [
  { id: "15m", label: "Last 15 minutes", span: 15 * MINUTE },
  { id: "1h", label: "Last hour", span: HOUR },
  { id: "24h", label: "Last 24 hours", span: DAY },
  { id: "all", label: "All data" },
  { id: "custom", label: "Custom" },
];

// [longest span, step of the HTTP interface, its length]: at most some 240 points each.
const STEPS = [
  [4 * HOUR, "1m", MINUTE],
  [20 * HOUR, "5m", 5 * MINUTE],
  [2.5 * DAY, "15m", 15 * MINUTE],
  [10 * DAY, "1h", HOUR],
  [60 * DAY, "6h", 6 * HOUR],
  [Infinity, "1d", DAY],
];

/** Return where data is, in ms, from the answer of /range; null in an empty store. */
export function heldFrom(answer) {
  return answer.from === null
    ? null
    : { from: parseTime(answer.from), to: parseTime(answer.to) };
}

/** Return the choice to open with: live while data comes in, else where the data is. */
export function openingChoice(held, clock) {
  if (held === null || isFresh(held, clock)) return { id: "1h" };
  if (held.to - held.from <= SHORT) return { id: "all" };
  return { id: "custom", from: held.to - DAY, to: held.to };
}

function isFresh(held, clock) {
  return Math.abs(clock - held.to) <= FRESH;
}

/** Return the range of a choice: whole minutes, or whole hours from a day on. */
export function rangeOf(choice, held, clock) {
  const preset = PRESETS.find((entry) => entry.id === choice.id);
  if (preset?.span) {
    const unit = preset.span >= DAY ? HOUR : MINUTE;
    return range(clock - preset.span, clock, unit, choice.id);
  }
  if (choice.id === "all" && held) return range(held.from, held.to, MINUTE, "all");
  if (choice.id === "custom") return range(choice.from, choice.to, MINUTE, "custom");
  return range(clock - HOUR, clock, MINUTE, choice.id);
}

function range(from, to, unit, id) {
  const start = Math.max(0, Math.floor(from / unit) * unit);
  const end = Math.max(Math.ceil(to / unit) * unit, start + unit);
  const [, step, stepMs] = STEPS.find(([longest]) => end - start <= longest);
  return { id, from: start, to: end, step, stepMs, live: ["15m", "1h", "24h"].includes(id) };
}

/** Say whether a live range has had no data for a while. */
export function isStale(asked, held, clock) {
  return asked.live && held !== null && clock - held.to > STALE;
}

/** One refresh of the page. Panels that ask the same share the answer. */
export class Question {
  constructor({ range: asked, held, clock, point, signal }) {
    this.range = asked;
    this.held = held;
    this.clock = clock;
    this.point = point;
    this.signal = signal;
    this.answers = new Map();
  }

  /** Return the answer about the range and the capture point. */
  ask(path, parameters = {}) {
    return this.askPlain(path, { ...this.span, capture_point: this.point, ...parameters });
  }

  /** Return the answer about the range step by step. */
  askTimeline(path) {
    return this.ask(`${path}/timeline`, { step: this.range.step });
  }

  /** Return the answer without range and capture point. */
  askPlain(path, parameters = {}) {
    const key = JSON.stringify([path, parameters]);
    if (!this.answers.has(key)) this.answers.set(key, get(path, parameters, this.signal));
    return this.answers.get(key);
  }

  get span() {
    return {
      from: new Date(this.range.from).toISOString(),
      to: new Date(this.range.to).toISOString(),
    };
  }
}
