// The page: reads the address, asks, and shows the view; asks again each minute while data is live.

import { addressOf, linkTo, readAddress } from "./address.js";
import { ApiError, getWithClock, post } from "./api.js";
import { byId, element } from "./dom.js";
import * as format from "./format.js";
import { notesOf } from "./notes.js";
import { plotly, purgePlots } from "./plots.js";
import { heldFrom, openingChoice, PRESETS, Question, rangeOf } from "./question.js";
import { signInBox } from "./signin.js";
import { forgetToken, storedToken } from "./token.js";
import { viewOf } from "./views.js";

const EVERY = 60_000;
const EVERY_WHILE_EMPTY = 10_000;

let view = null; // the view on the page
let question = null; // the last one asked
let stopping = new AbortController();
let timer = null;

// ---------------------------------------------------------------------------------- asking

/** Ask everything the page shows anew. A later call stops an earlier one. */
async function refresh() {
  stopping.abort();
  stopping = new AbortController();
  clearTimeout(timer);
  const { signal } = stopping;
  byId("view").setAttribute("aria-busy", "true");
  try {
    const { body, clock } = await getWithClock("/range", signal);
    const held = heldFrom(body);
    if (held) await showData(held, clock, signal);
    else showEmpty();
  } catch (error) {
    if (!signal.aborted) showTrouble(error);
  }
  if (signal.aborted) return;
  byId("view").setAttribute("aria-busy", "false");
  timer = setTimeout(askAgain, question ? EVERY : EVERY_WHILE_EMPTY);
}

function askAgain() {
  const wanted = question ? byId("every-minute").checked && question.range.live : !view?.signIn;
  if (wanted && document.visibilityState === "visible") refresh();
  else timer = setTimeout(askAgain, question ? EVERY : EVERY_WHILE_EMPTY);
}

async function showData(held, clock, signal) {
  plotly().catch(() => null); // each plot says so itself
  const address = readAddress();
  const choice = address.choice ?? openingChoice(held, clock);
  const range = rangeOf(choice, held, clock);
  const asked = new Question({ range, held, clock, point: null, signal });
  const quality = await asked.ask("/quality", { limit: 1000 });
  if (signal.aborted) return;
  const points = capturePoints(quality.data);
  asked.point = pointOf(address.point, points);
  question = asked;
  showControls(choice, points);
  showView(address);
  await Promise.all([
    showNotes(quality.data), ...view.panels.map((entry) => entry.refresh(asked)),
  ]);
}

/** Return the capture points with records, the busiest first. */
function capturePoints(quality) {
  const records = new Map();
  for (const row of quality) {
    const before = records.get(row.capture_point) ?? 0;
    records.set(row.capture_point, before + row.records);
  }
  return [...records].sort(([, a], [, b]) => b - a).map(([point]) => point).filter(Boolean);
}

/** A session that two capture points see is counted by each, so one of them is shown at a time. */
function pointOf(wanted, points) {
  return wanted ?? (points.length > 1 ? points[0] : null);
}

async function showNotes(quality) {
  const asked = question;
  try {
    const notes = await notesOf(asked, quality);
    if (!asked.signal.aborted) byId("notes").replaceChildren(...notes);
  } catch (error) {
    if (!(error instanceof ApiError) && !asked.signal.aborted) throw error;
  }
}

// --------------------------------------------------------------------------------- showing

function showView(address) {
  const key = `${address.view}/${address.id}`;
  if (view?.key === key) return;
  const moved = view !== null && !view.signIn;
  view = { key, ...viewOf(address, { onCell, onNarrow }) };
  document.title = `${view.title} – EdgeQoE`;
  replaceMain(
    element("div", { class: "heading" }, view.heading),
    element("div", { class: "panels" }, view.panels.map((entry) => entry.element)),
  );
  if (moved) {
    scrollTo(0, 0);
    byId("view").focus({ preventScroll: true });
  }
}

function showEmpty() {
  showMessage(
    "No data yet",
    element("p", {}, "The collector has no session records: is a probe sending?"),
    element(
      "ol", {},
      element("li", {}, "Make a token for the probe: ", element(
        "code", {}, "qoe-collector token create --role probe --name PROBE_ID")),
      element("li", {}, "Name this collector and the token in the probe's configuration."),
      element("li", {}, "Start it: ", element("code", {}, "qoe-probe run --config probe.yaml")),
    ),
    element("p", { class: "note" }, "This page looks again every ten seconds."),
  );
}

function showTrouble(error) {
  if (error.status === 401 || error.status === 403) {
    showSignIn(error);
    return;
  }
  if (!(error instanceof ApiError)) console.error(error);
  const words = error.words ?? "The page has a fault; the browser's console says which.";
  showMessage("No answer", element("p", { role: "alert" }, words));
}

function showMessage(heading, ...content) {
  forgetView({ key: heading });
  replaceMain(element("section", { class: "panel message" }, element("h1", {}, heading), content));
}

function showSignIn(error) {
  const refused = storedToken() !== null;
  forgetToken();
  forgetView({ key: "sign-in", signIn: true });
  const words = refused
    ? error.status === 403 ? error.words : "The collector does not know this token, or it was revoked."
    : "Reading needs a token here.";
  const box = signInBox(words, refresh);
  replaceMain(box);
  box.querySelector("input").focus();
}

function forgetView(next) {
  view = next;
  question = null;
  byId("question").hidden = true;
  byId("lookup").hidden = true;
  byId("sign-out").hidden = storedToken() === null;
  byId("notes").replaceChildren();
  document.title = "EdgeQoE";
}

function replaceMain(...children) {
  byId("view").replaceChildren(...children);
  purgePlots();
}

// -------------------------------------------------------------------------------- controls

function showControls(choice, points) {
  const { range, point, clock } = question;
  byId("question").hidden = false;
  byId("lookup").hidden = false;
  byId("sign-out").hidden = storedToken() === null;
  byId("range").value = choice.id;
  showCustom(choice.id === "custom");
  byId("every-minute-field").hidden = !range.live;
  byId("range-from").value = inputTime(range.from);
  byId("range-to").value = inputTime(range.to);
  showPoints(points, point);
  byId("span").replaceChildren(
    format.timeElement(range.from, format.localTime(range.from)), " to ",
    format.timeElement(range.to, format.localTime(range.to)), ", asked at ",
    format.timeElement(clock, new Date(clock).toLocaleTimeString()),
  );
}

function showPoints(points, point) {
  const all = point && !points.includes(point) ? [...points, point] : points;
  byId("point-field").hidden = all.length < 2;
  byId("point").replaceChildren(...all.map((name) => element("option", { value: name }, name)));
  if (point) byId("point").value = point;
}

function showCustom(visible) {
  for (const field of document.querySelectorAll(".custom")) field.hidden = !visible;
}

function inputTime(ms) {
  const shifted = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 16);
}

function goTo(change) {
  const address = addressOf({ ...readAddress(), ...change });
  if (address === location.hash) refresh();
  else location.hash = address;
}

function onCell(id) {
  location.hash = linkTo("cell", id);
}

function onNarrow(from, to) {
  goTo({ choice: { id: "custom", from, to } });
}

function onRange() {
  const id = byId("range").value;
  showCustom(id === "custom");
  if (id === "custom") byId("range-from").focus();
  else goTo({ choice: { id } });
}

function onCustom(event) {
  event.preventDefault();
  const [from, to] = ["range-from", "range-to"].map((id) => new Date(byId(id).value).getTime());
  byId("range-to").setCustomValidity(from < to ? "" : "The end must be later than the start.");
  if (event.target.reportValidity()) goTo({ choice: { id: "custom", from, to } });
}

async function onLookup(event) {
  event.preventDefault();
  const [kind, input] = [byId("lookup-kind").value, byId("lookup-value")];
  const text = input.value.trim();
  try {
    const id = await pseudonymOf(kind, text);
    input.value = ""; // an identity must not stand on a screen that others see
    location.hash = linkTo("subscriber", id);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    byId("notes").replaceChildren(element("p", { role: "alert" }, lookupWords(error)));
  }
}

async function pseudonymOf(kind, text) {
  if (/^[0-9a-f]{32}$/i.test(text)) return text.toLowerCase();
  if (kind === "pseudonym") throw new ApiError(400, "a pseudonym has 32 hex digits");
  return (await post("/subscribers/lookup", { [kind]: text })).subscriber_id;
}

function lookupWords(error) {
  if (error.status === 400) return `This cannot be looked up: ${error.message}.`;
  if (error.status === 501) return "Look-ups are not set up: the collector has no site key.";
  return error.words;
}

function start() {
  byId("range").replaceChildren(
    ...PRESETS.map(({ id, label }) => element("option", { value: id }, label)));
  byId("range").addEventListener("change", onRange);
  byId("question").addEventListener("submit", onCustom);
  byId("range-to").addEventListener("input", () => byId("range-to").setCustomValidity(""));
  byId("point").addEventListener("change", () => goTo({ point: byId("point").value }));
  byId("refresh").addEventListener("click", refresh);
  byId("lookup").addEventListener("submit", onLookup);
  byId("sign-out").addEventListener("click", () => {
    forgetToken();
    refresh();
  });
  addEventListener("hashchange", refresh);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && question?.range.live) refresh();
  });
  refresh();
}

start();
